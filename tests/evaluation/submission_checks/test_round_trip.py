"""Whatever our writers write of whatever is predicted, the checks accept."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.miniature import MiniatureConfig, build
from univs.evaluation.submission_checks.catalog import FORMATS, check_zip
from univs.evaluation.submission_checks.inputs import Inputs
from univs.evaluation.submissions.files import zip_submission
from univs.evaluation.submissions.maps import write_coco_image, write_coco_index
from univs.evaluation.submissions.masks import write_object_masks, youtube_vos_palette
from univs.evaluation.submissions.tracks import write_ytvis_results
from univs.labels import Category, LabelSpace
from univs.predictions import InstanceTrack, InstanceVideo, ObjectVideo, PanopticVideo, Segment

SIDES = st.integers(1, 12)
SEEDS = st.integers(0, 2**32 - 1)
LABELS = LabelSpace(
    name="some",
    categories=tuple(Category(category_id=3 * n + 2, name=str(n), is_thing=n < 3) for n in range(5)),
)


def check(name: str, gt: Path, tree: Path) -> str:
    path = tree.with_suffix(".zip")
    zip_submission(path, tree)
    return check_zip(path, FORMATS[name], Inputs(root=gt))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(5, 12), SIDES),
    ids=st.lists(st.integers(1, 254), min_size=1, max_size=5, unique=True),
    num_frames=st.integers(1, 4),
    seed=SEEDS,
)
def test_object_masks(size, ids, num_frames, seed):
    rng = np.random.default_rng(seed)
    stems = tuple(f"{5 * t:05d}" for t in range(num_frames))
    starts = rng.integers(0, num_frames, len(ids)).tolist()
    masks = rng.random((len(ids), num_frames, *size)) < 0.5
    for n, start in enumerate(starts):
        masks[n, :start] = False
    video = ObjectVideo(video_id="v", object_ids=tuple(map(str, ids)), masks=masks, frame_names=stems)
    with tempfile.TemporaryDirectory() as folder:
        gt, tree = Path(folder) / "gt", Path(folder) / "tree"
        for part in ("JPEGImages/v", "Annotations/v"):
            (gt / part).mkdir(parents=True)
        for t, stem in enumerate(stems):
            Image.new("RGB", size[::-1]).save(gt / f"JPEGImages/v/{stem}.jpg")
            new = [number for number, start in zip(ids, starts, strict=True) if start == t]
            write_given(gt / f"Annotations/v/{stem}.png", new, size)
        write_object_masks(tree / "Annotations", video, youtube_vos_palette())
        assert f"1 videos, {num_frames} masks" in check("ytvos_2019", gt, tree)


def write_given(path: Path, ids: list[int], size: tuple[int, int]) -> None:
    """Give each id one pixel."""
    pixels = np.zeros(size, np.uint8)
    pixels[: len(ids), 0] = ids
    image = Image.fromarray(pixels)
    image.putpalette(youtube_vos_palette().tobytes())
    image.save(path)


@settings(max_examples=40, deadline=None)
@given(size=st.tuples(SIDES, SIDES), num_tracks=st.integers(0, 4), num_frames=st.integers(1, 4), seed=SEEDS)
def test_tracks(size, num_tracks, num_frames, seed):
    rng = np.random.default_rng(seed)
    tracks = []
    for _ in range(num_tracks):
        masks = [np.asfortranarray(rng.random(size) < rng.random(), np.uint8) for _ in range(num_frames)]
        rles = [coco_mask.encode(mask)["counts"].decode() if rng.random() < 0.7 else None for mask in masks]
        label, score = int(rng.integers(0, 5)), float(rng.random())
        tracks.append(InstanceTrack(label=label, score=score, rles=tuple(rles)))
    video = InstanceVideo(video_id="17", height=size[0], width=size[1], tracks=tuple(tracks))
    row = {"id": 17, "height": size[0], "width": size[1], "file_names": ["x.jpg"] * num_frames}
    categories = [{"id": category.category_id} for category in LABELS.categories]
    with tempfile.TemporaryDirectory() as folder:
        gt, tree = Path(folder) / "gt", Path(folder) / "tree"
        gt.mkdir()
        (gt / "test.json").write_text(json.dumps({"videos": [row], "categories": categories}))
        write_ytvis_results(tree / "results.json", [video], LABELS)
        assert f"{num_tracks} tracks" in check("ytvis_2019", gt, tree)


@settings(max_examples=25, deadline=None)
@given(size=st.tuples(SIDES, SIDES), seed=SEEDS)
def test_panoptic_maps(size, seed):
    rng = np.random.default_rng(seed)
    ids = [0, *np.unique(rng.integers(1, 1 << 24, 5)).tolist()]
    maps = rng.choice(np.asarray(ids, np.int32), (1, *size))
    segments = tuple(Segment(segment_id=value, label=int(rng.integers(0, 5))) for value in ids[1:])
    image = PanopticVideo(video_id="139", maps=maps, segments=segments)
    row = {"id": 139, "file_name": "000000000139.jpg", "height": size[0], "width": size[1]}
    categories = [{"id": category.category_id} for category in LABELS.categories]
    with tempfile.TemporaryDirectory() as folder:
        gt, tree = Path(folder) / "gt", Path(folder) / "tree"
        gt.mkdir()
        (gt / "panoptic_val2017.json").write_text(json.dumps({"images": [row], "categories": categories}))
        write_coco_index(tree, [write_coco_image(tree, image, LABELS)])
        assert "1 images" in check("coco_panoptic", gt, tree)


def test_palette_of_the_miniature_is_that_of_our_submissions():
    config = MiniatureConfig(train_images=1, val_images=1, train_videos=1, val_videos=1)
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder) / "raw", config, ["ytvos_2019"])["ytvos_2019"]
        with Image.open(next((root / "valid/Annotations").rglob("*.png"))) as image:
            assert image.getpalette() == youtube_vos_palette().ravel().tolist()
