"""VSPW: 2,806 train, 343 val and 387 test videos, 124 classes, each frame labelled, 15 a second.

- Label pixels hold the class 1..124 of ``label_num_dic_final.json``; 0 is "others", 255 void. Both are left
  out by the official metric but mean different things, so they are kept apart as regions. A class is one
  object.
- The videos are those of VIPSeg. ``VSPW_480p`` has the same tree at another size.
- Masks of the test videos are not published. ``988_f_Xvy_DCPt8`` has damaged images in early downloads; the
  repository has others.

Counts: VSPW paper and repository. ``item_id`` is the video's folder name.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.sources.files import OfficialFile, load_json, read_lines, require_safe_name
from preprocessing.sources.label_images import INDEX_MODES
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from preprocessing.sources.video_folders import LabelVideo, read_dense_video, scan_video_folders
from univs.labels import Category, LabelSpace
from univs.schema import VideoRecord

UNLABELLED, VOID = 0, 255
_CATEGORIES = OfficialFile(
    path="label_num_dic_final.json",
    expected="class names with their numbers",
    remedy="take it from the VSPW archive",
)


class Vspw:
    """Reader of ``data/<video>/origin/*.jpg`` with ``data/<video>/mask/*.png``."""

    spec = SourceSpec(
        name="vspw",
        task="detection",
        kind="video",
        needs="data/<video>/{origin/*.jpg,mask/*.png}, {train,val,test}.txt and label_num_dic_final.json",
        expects="2,806 train, 343 val and 387 test videos, 124 classes; test without masks",
        license="VSPW research",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=2_806, num_frames=198_244),
            "val": ExpectedCounts(num_items=343, num_frames=24_502),
            "test": ExpectedCounts(num_items=387, num_frames=28_887),
        },
        label_space_name="vspw",
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read ``label_num_dic_final.json`` without "others"; every class is stuff."""
        body = load_json(root, _CATEGORIES)
        try:
            rows = sorted((int(number), str(name)) for name, number in body.items())
            named = tuple((i, name) for i, name in rows if i != UNLABELLED)
            categories = tuple(Category(category_id=i, name=name, is_thing=False) for i, name in named)
            return LabelSpace(name="vspw", categories=categories)
        except (AttributeError, TypeError, ValueError) as error:
            raise SourceError(
                f"--source {root}: {_CATEGORIES.path} is malformed ({type(error).__name__}: {error}); "
                f"expected {_CATEGORIES.expected}; {_CATEGORIES.remedy}"
            ) from error

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the split's videos by name."""
        require_split(self.spec, split)
        official = OfficialFile(
            path=f"{split}.txt", expected="the list of video names", remedy="take it from the VSPW archive"
        )
        return scan_video_folders(read_lines(root, official), lambda name: root / "data" / name / "origin")

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the video's label PNGs."""
        with malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        name = require_safe_name(item.item_id, item.item_id)
        folder = root / "data" / name
        frame_paths = tuple(folder / "origin" / frame for frame in json.loads(item.payload)["frames"])
        masks = folder / "mask"
        has_truth = split != "test" or masks.is_dir()
        labels = read_dense_video(name, frame_paths, masks if has_truth else None, INDEX_MODES, root)
        space = self.label_space(root)
        files = [(masks / f"{path.stem}.png").relative_to(root).as_posix() for path in frame_paths]
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=labels.height,
            width=labels.width,
            label_space=space.name,
            frames=build_frames([path.name for path in frame_paths], [has_truth] * len(frame_paths)),
            objects=build_tracks(labels.frames, _categories_of(name, labels, space, files)),
            regions=(
                *build_region(labels.frames, UNLABELLED, "unlabelled"),
                *build_region(labels.frames, VOID, "void"),
            ),
            ground_truth="full" if has_truth else "none",
            is_partition=has_truth,
            license=self.spec.license,
            group=f"vipseg:{name}",
            frames_per_second=15.0,
        )
        return SourceVideo(record=record, frame_paths=frame_paths)


def _categories_of(
    name: str, labels: LabelVideo, space: LabelSpace, files: list[str]
) -> dict[int, int | None]:
    values = labels.values - {UNLABELLED, VOID}
    for value in sorted(values - space.label_of.keys()):
        raise ItemError(
            "E134",
            f"{name}: value {value}; expected 0, 255 or a class of {_CATEGORIES.path}",
            files[labels.first_frame(value)],
        )
    return {value: value for value in sorted(values)}
