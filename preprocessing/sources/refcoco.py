"""RefCOCO, RefCOCO+ and RefCOCOg: 142,209, 141,564 and 95,010 expressions for objects of COCO train2014.

Layout of the ``refer`` repository: ``instances.json`` has all COCO annotations of the images, a pickled list
per partition has the expressions: unc and google for RefCOCO, unc for RefCOCO+, umd and google for RefCOCOg.
The plain splits are those that papers report, unc and umd; google's, in which an image may be both in train
and in val, end in ``-google``. An image is one item of a split, with all its expressions and all its
objects. The text is ``sent``, which the original trains and evaluates on; what the annotator typed, ``raw``,
is in the object's ``extra`` where it differs. Images may lie under their 2014 or 2017 names.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from preprocessing.errors import ItemError, malformed_as_item_error
from preprocessing.sources.coco_json import (
    CocoFiles,
    coco_item_id,
    image_entry,
    malformed_as_source_error,
    parse_entry,
)
from preprocessing.sources.coco_record import LICENSE, file_name, read_record
from preprocessing.sources.files import OfficialFile
from preprocessing.sources.official_fields import located
from preprocessing.sources.ref_expressions import add_expressions
from preprocessing.sources.ref_pickles import PickledRef, load_refs
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from univs.labels import LabelSpace
from univs.schema import Completeness

_IMAGE_FOLDERS = ("train2014", "images/mscoco/images/train2014")
"""Where images have their 2014 names; the second is the ``refer`` repository's own."""
_ALL = "all"
"""The one file of annotations is that of every split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a split is in the files."""

    partition: str
    """Whose division into splits, as in the name of the pickle."""
    name: str
    """The split's name in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefCoco:
    """Reader of ``<folder>/instances.json`` and ``<folder>/refs(<partition>).p``."""

    spec: SourceSpec
    folder: str
    parts: Mapping[str, Part]
    """By split."""

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories of the instances."""
        return self._instances(root).label_space(root)

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images that expressions of the split are about, by id; ``read`` rejects unknown ones."""
        require_split(self.spec, split)
        refs = self._load_refs(root, split)
        instances = self._instances(root)
        entries = instances.load_entries(root, _ALL)
        for image_id in sorted(refs):
            entry = entries.get(image_id) or image_entry(instances.files[_ALL].path, None, {}, [])
            own = [{"index": r.index, "fields": r.fields, "is_clean": r.is_clean} for r in refs[image_id]]
            payload = entry.to_payload(refs=own)
            yield Item(item_id=coco_item_id(image_id), num_frames=1, payload=payload)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Fill the polygons of all objects and attach the expressions to those they name."""
        pickle_file = self._pickle(root, split).path
        with located(pickle_file), malformed_as_item_error(item.item_id):
            payload = json.loads(item.payload)
            refs = [PickledRef(**ref) for ref in payload["refs"]]
            if not payload["entry"]["image"]:
                message = f"{item.item_id}: expressions about an image that images[] does not list"
                raise ItemError("E122", message, pointer=f"/{refs[0].index}/image_id")
            entry = parse_entry(item.item_id, payload["entry"])
            name = file_name(item.item_id, entry)
            record, findings = read_record(self.spec, split, item.item_id, entry, name)
            record = replace(record, completeness=Completeness(is_partial=True))
            part = self.parts[split]
            record, more = add_expressions(record, refs, (part.partition, part.name), pickle_file)
            path = _find_image(root, item.item_id, name)
            return SourceVideo(record=record, frame_paths=(path,), findings=findings + more)

    def _load_refs(self, root: Path, split: str) -> dict[int, list[PickledRef]]:
        """Group the split's refs by image."""
        official, part = self._pickle(root, split), self.parts[split]
        known = {other.name for other in self.parts.values() if other.partition == part.partition}
        refs: dict[int, list[PickledRef]] = defaultdict(list)
        with malformed_as_source_error(root, official):
            for ref in load_refs(root, official):
                if ref.fields["split"] not in known:
                    raise ValueError(f"split {ref.fields['split']!r} of ref {ref.index}")
                if ref.fields["split"] == part.name:
                    refs[int(ref.fields["image_id"])].append(ref)
        return refs

    def _prefix(self, root: Path) -> str:
        """Accept the dataset's own folder for the one that holds all three."""
        return "" if (root / "instances.json").is_file() else f"{self.folder}/"

    def _instances(self, root: Path) -> CocoFiles:
        official = OfficialFile(
            path=f"{self._prefix(root)}instances.json",
            expected=f"the COCO annotations of {self.folder}",
            remedy=f"unzip {self.folder}.zip there",
        )
        return CocoFiles(label_space_name="coco", files={_ALL: official})

    def _pickle(self, root: Path, split: str) -> OfficialFile:
        return OfficialFile(
            path=f"{self._prefix(root)}refs({self.parts[split].partition}).p",
            expected=f"the expressions of {self.folder}",
            remedy=f"unzip {self.folder}.zip there",
        )


def _find_image(root: Path, item_id: str, name: str) -> Path:
    """Find an image under its name of 2014, or of 2017; the first place if it is in none."""
    places = [root / folder / name for folder in _IMAGE_FOLDERS]
    places.append(root / "train2017" / f"{item_id}.jpg")
    return next((place for place in places if place.is_file()), places[0])


def _reader(name: str, folder: str, parts: Mapping[str, tuple[str, int, int]]) -> RefCoco:
    """Describe one of the three by the partition, the images and the expressions of its splits."""
    files = ", ".join(
        f"{folder}/refs({partition}).p" for partition in dict.fromkeys(p for p, _, _ in parts.values())
    )
    plain = [part for split, part in parts.items() if not split.endswith("-google")]
    split_of = {split: split.removesuffix("-google") for split in parts}
    return RefCoco(
        spec=SourceSpec(
            name=name,
            task="grounding",
            kind="image",
            needs=f"{folder}/instances.json, {files} and COCO's train2014/*.jpg or train2017/*.jpg",
            expects=f"{sum(p[1] for p in plain):,} images with {sum(p[2] for p in plain):,} expressions",
            license=LICENSE,
            splits=tuple(parts),
            counts={
                split: ExpectedCounts(num_items=images, num_expressions=expressions or None)
                for split, (_, images, expressions) in parts.items()
            },
            label_space_name="coco",
            prompts=("expression",),
        ),
        folder=folder,
        parts={split: Part(partition=p, name=split_of[split]) for split, (p, _, _) in parts.items()},
    )


REFCOCO = _reader(
    "refcoco",
    "refcoco",
    {
        "train": ("unc", 16_994, 120_624),
        "val": ("unc", 1_500, 10_834),
        "testA": ("unc", 750, 5_657),
        "testB": ("unc", 750, 5_095),
        "train-google": ("google", 19_213, 0),
        "val-google": ("google", 4_559, 0),
        "test-google": ("google", 4_527, 0),
    },
)
REFCOCO_PLUS = _reader(
    "refcocoplus",
    "refcoco+",
    {
        "train": ("unc", 16_992, 120_191),
        "val": ("unc", 1_500, 10_758),
        "testA": ("unc", 750, 5_726),
        "testB": ("unc", 750, 4_889),
    },
)
REFCOCOG = _reader(
    "refcocog",
    "refcocog",
    {
        "train": ("umd", 21_899, 80_512),
        "val": ("umd", 1_300, 4_896),
        "test": ("umd", 2_600, 9_602),
        "train-google": ("google", 24_698, 85_474),
        "val-google": ("google", 4_650, 9_536),
    },
)
