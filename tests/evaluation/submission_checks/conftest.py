"""Small splits as their organizers publish them, and submissions to them written by our writers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from univs.draw import palette
from univs.evaluation.submission_checks.catalog import FORMATS, check_zip
from univs.evaluation.submission_checks.inputs import Inputs
from univs.evaluation.submissions.files import zip_submission
from univs.evaluation.submissions.maps import (
    write_ade20k_map,
    write_coco_image,
    write_coco_index,
    write_semantic_maps,
    write_vipseg_index,
    write_vipseg_video,
)
from univs.evaluation.submissions.masks import (
    write_expression_masks,
    write_object_masks,
    youtube_vos_palette,
)
from univs.evaluation.submissions.tracks import (
    burst_of_tracks,
    write_burst_results,
    write_coco_results,
    write_ytvis_results,
)
from univs.labels import Category, LabelSpace
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)

STEMS = ("00000", "00005", "00010")
SIZES = {"cat": (6, 8), "dog": (9, 5)}
"""Height and width of each video."""
LABELS = LabelSpace(
    name="small",
    categories=(
        Category(category_id=4, name="cat", is_thing=True),
        Category(category_id=9, name="grass", is_thing=False),
    ),
)
CATEGORIES = [{"id": c.category_id, "name": c.name} for c in LABELS.categories]


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """Public inputs, and the files of a submission before they are packed."""

    name: str
    gt: Path
    tree: Path

    @property
    def zip(self) -> Path:
        return self.tree.with_suffix(".zip")

    def check(self, split: str = "") -> str:
        """Pack the files, and check the zip."""
        zip_submission(self.zip, self.tree)
        return self.check_packed(split)

    def check_packed(self, split: str = "") -> str:
        return check_zip(self.zip, FORMATS[self.name], Inputs(root=self.gt, split=split))

    def refusal(self) -> str:
        """Give what is refused of the files once they are packed, without the name of the zip."""
        zip_submission(self.zip, self.tree)
        return self.refusal_packed()

    def refusal_packed(self) -> str:
        with pytest.raises(ValueError, match=".") as error:
            self.check_packed()
        path, _, message = str(error.value).partition(": ")
        assert path == str(self.zip)
        return message

    def rewrite(self, file: str, change: Callable[[object], object]) -> None:
        """Change a JSON file of the submission."""
        path = self.tree / file
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    def repaint(self, file: str, change: Callable[[Image.Image], Image.Image]) -> None:
        """Change a picture of the submission."""
        with Image.open(self.tree / file) as image:
            changed = change(image)
        changed.save(self.tree / file)


def photograph(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(path)


def dump(path: Path, body: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))


def objects_of(name: str, starts: dict[int, int]) -> ObjectVideo:
    """Objects by id; each is drawn from its first frame on."""
    masks = np.random.default_rng(len(name)).random((len(starts), len(STEMS), *SIZES[name])) < 0.4
    for n, start in enumerate(starts.values()):
        masks[n, :start] = False
        masks[n, start, n, n] = True
    return ObjectVideo(video_id=name, object_ids=tuple(map(str, starts)), masks=masks, frame_names=STEMS)


def write_objects(
    gt: Path, tree: Path, name: str, colors: np.ndarray, size: str = "", is_late: bool = True
) -> None:
    """A video with objects 3 and, coming later where the benchmark has that, 7."""
    video = objects_of(name, {3: 0, 7: 1 if is_late else 0})
    for stem in STEMS:
        photograph(gt / "JPEGImages" / size / name / f"{stem}.jpg", SIZES[name])
    for t in (0, 1) if is_late else (0,):
        given = np.where(video.masks[0, t], 3, np.where(video.masks[1, t], 7, 0)).astype(np.uint8)
        image = Image.fromarray(given)
        image.putpalette(colors.tobytes())
        path = gt / "Annotations" / size / name / f"{STEMS[t]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    write_object_masks(tree, video, colors)


def make_youtube_vos(gt: Path, tree: Path) -> None:
    for name in SIZES:
        write_objects(gt, tree / "Annotations", name, youtube_vos_palette())


def make_viposeg(gt: Path, tree: Path) -> None:
    for name in SIZES:
        write_objects(gt, tree / "Annotations", name, palette())


def make_mose(gt: Path, tree: Path) -> None:
    for name in SIZES:
        write_objects(gt, tree, name, palette(), is_late=False)


def make_davis(gt: Path, tree: Path) -> None:
    for name in SIZES:
        write_objects(gt, tree, name, palette(), "480p", is_late=False)
    (gt / "ImageSets/2017").mkdir(parents=True)
    (gt / "ImageSets/2017/test-dev.txt").write_text("cat\ndog\n")


def make_refytvos(gt: Path, tree: Path) -> None:
    videos = {}
    for name in SIZES:
        for stem in STEMS:
            photograph(gt / "valid/JPEGImages" / name / f"{stem}.jpg", SIZES[name])
        expressions = {"0": {"exp": "a cat"}, "1": {"exp": "it"}}
        videos[name] = {"expressions": expressions, "frames": list(STEMS)}
        video = objects_of(name, {0: 0, 1: 0})
        write_expression_masks(tree, video)
    dump(gt / "meta_expressions/valid/meta_expressions.json", {"videos": {**videos, "later": {}}})
    dump(gt / "meta_expressions/test/meta_expressions.json", {"videos": {"later": {}}})


def tracks_of(name: str, num_frames: int = len(STEMS)) -> InstanceVideo:
    masks = np.random.default_rng(len(name)).random((2, num_frames, *SIZES[name])) < 0.4
    tracks = []
    for n, track in enumerate(masks):
        rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode() for mask in track]
        shown = tuple(None if t == 1 and n == 0 else rle for t, rle in enumerate(rles))
        tracks.append(InstanceTrack(label=n, score=0.75 - n / 2, rles=shown))
    height, width = SIZES[name]
    return InstanceVideo(
        video_id=str(1 + list(SIZES).index(name)), height=height, width=width, tracks=tuple(tracks)
    )


def make_youtube_vis(gt: Path, tree: Path) -> None:
    videos = [
        {"id": n, "height": height, "width": width, "file_names": [f"{name}/{stem}.jpg" for stem in STEMS]}
        for n, (name, (height, width)) in enumerate([*SIZES.items(), ("empty", (4, 4))], start=1)
    ]
    dump(gt / "valid.json", {"videos": videos, "categories": CATEGORIES, "annotations": None})
    write_ytvis_results(tree / "results.json", map(tracks_of, SIZES), LABELS)


def image_rows() -> list[dict[str, object]]:
    return [
        {"id": n, "file_name": f"{n:012d}.jpg", "height": height, "width": width}
        for n, (height, width) in enumerate(SIZES.values(), start=1)
    ]


def make_coco_instances(gt: Path, tree: Path) -> None:
    dump(gt / "image_info_test-dev2017.json", {"images": image_rows(), "categories": CATEGORIES})
    write_coco_results(tree / "results.json", (tracks_of(name, 1) for name in SIZES), LABELS)


def make_burst(gt: Path, tree: Path) -> None:
    sequences, found = [], []
    for name, (height, width) in SIZES.items():
        row = {"dataset": "AVA", "seq_name": name, "height": height, "width": width}
        sequences.append({**row, "annotated_image_paths": [f"{stem}.jpg" for stem in STEMS]})
        video = tracks_of(name)
        named = InstanceVideo(video_id=f"AVA/{name}", height=height, width=width, tracks=video.tracks)
        found.append(burst_of_tracks(named, STEMS, LABELS))
    dump(gt / "all_classes.json", {"sequences": sequences, "categories": CATEGORIES})
    write_burst_results(tree / "results.json", found, "test")


def semantic_of(name: str, num_frames: int = len(STEMS)) -> SemanticVideo:
    labels = np.random.default_rng(len(name)).integers(0, 2, (num_frames, *SIZES[name]))
    return SemanticVideo(video_id=name, labels=labels.astype(np.int16))


def make_vspw(gt: Path, tree: Path) -> None:
    for name in SIZES:
        for stem in STEMS:
            photograph(gt / "data" / name / "origin" / f"{stem}.jpg", SIZES[name])
        write_semantic_maps(tree, semantic_of(name), STEMS)
    (gt / "test.txt").write_text("cat\ndog\n")
    dump(gt / "label_num_dic_final.json", {"others": "0", "cat": "1", "grass": "2", "void": "255"})


def make_ade20k(gt: Path, tree: Path) -> None:
    for n, name in enumerate(SIZES):
        photograph(gt / "testing" / f"ADE_test_{n:08d}.jpg", SIZES[name])
        write_ade20k_map(tree, semantic_of(name, 1), f"ADE_test_{n:08d}")


def panoptic_of(name: str, video_id: str, num_frames: int = len(STEMS)) -> PanopticVideo:
    maps = np.zeros((num_frames, *SIZES[name]), np.int32)
    maps[:, 1:4, 2:5] = 70001
    maps[0, 4:] = 2
    segments = (Segment(segment_id=70001, label=0), Segment(segment_id=2, label=1))
    return PanopticVideo(video_id=video_id, maps=maps, segments=segments)


def make_vipseg(gt: Path, tree: Path) -> None:
    entries = []
    for name in SIZES:
        for stem in STEMS:
            photograph(gt / "imgs" / name / f"{stem}.jpg", SIZES[name])
        entries.append(write_vipseg_video(tree, panoptic_of(name, name), STEMS, LABELS))
    write_vipseg_index(tree, entries)
    (gt / "val.txt").write_text("cat\ndog\n")
    dump(gt / "panoVIPSeg_categories.json", CATEGORIES)


def make_coco_panoptic(gt: Path, tree: Path) -> None:
    dump(gt / "annotations/image_info_test-dev2017.json", {"images": image_rows(), "categories": []})
    dump(gt / "panoptic_coco_categories.json", CATEGORIES)
    images = [panoptic_of(name, str(n), 1) for n, name in enumerate(SIZES, start=1)]
    write_coco_index(tree, [write_coco_image(tree, image, LABELS) for image in images])


MAKERS = {
    "ytvis_2019": make_youtube_vis,
    "ytvis_2021": make_youtube_vis,
    "ytvis_2022": make_youtube_vis,
    "ovis": make_youtube_vis,
    "ytvos_2018": make_youtube_vos,
    "ytvos_2019": make_youtube_vos,
    "mose": make_mose,
    "davis_2017": make_davis,
    "refytvos": make_refytvos,
    "viposeg": make_viposeg,
    "vipseg": make_vipseg,
    "vspw": make_vspw,
    "burst": make_burst,
    "coco_panoptic": make_coco_panoptic,
    "coco_instances": make_coco_instances,
    "ade20k": make_ade20k,
}


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., Submission]:
    """Write a submission that is as it should be, by the benchmark's name."""

    def make(name: str, folder: str = "one") -> Submission:
        gt, tree = tmp_path / folder / "gt", tmp_path / folder / "tree"
        gt.mkdir(parents=True)
        MAKERS[name](gt, tree)
        return Submission(name=name, gt=gt, tree=tree)

    return make
