import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from preprocessing.miniature import DATASETS, MARKER_NAME, MiniatureConfig, build, draw_worlds
from preprocessing.sources.catalog import SOURCES
from preprocessing.worlds import WorldConfig

CONFIG = MiniatureConfig(
    train_images=3,
    val_images=2,
    train_videos=2,
    val_videos=1,
    world=WorldConfig(height=48, width=64, num_frames=4),
)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("miniature")
    assert build(root, CONFIG) == {name: root / name for name in DATASETS}
    return root


def test_build_makes_every_dataset_and_leaves_nothing_else(built):
    assert sorted(path.name for path in built.iterdir()) == sorted(DATASETS)
    assert all((built / name / MARKER_NAME).is_file() for name in DATASETS)


def test_build_same_configuration_gives_equal_bytes(built, tmp_path):
    build(tmp_path, CONFIG)
    assert digests(tmp_path) == digests(built)


def test_build_some_datasets_gives_the_bytes_of_building_all(built, tmp_path):
    assert list(build(tmp_path, CONFIG, datasets=["vspw"])) == ["vspw"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vspw"]
    assert digests(tmp_path / "vspw") == digests(built / "vspw")


def test_build_again_touches_no_file(built):
    def stamps():
        return {path: path.stat().st_mtime_ns for path in [built, *built.rglob("*")]}

    before = stamps()
    assert build(built, CONFIG) == {name: built / name for name in DATASETS}
    assert stamps() == before


def test_build_other_configuration_in_same_place_is_refused_untouched(built):
    before = digests(built)
    other = MiniatureConfig(
        train_images=3, val_images=2, train_videos=2, val_videos=1, world=CONFIG.world, seed=1
    )
    with pytest.raises(ValueError, match="another configuration, .*: remove it"):
        build(built, other)
    assert digests(built) == before


def test_build_over_a_folder_of_the_user_is_refused_untouched(tmp_path):
    (tmp_path / "vipseg").mkdir()
    (tmp_path / "vipseg" / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="vipseg: holds no miniature"):
        build(tmp_path, CONFIG, datasets=["vipseg"])
    assert digests(tmp_path) == {"vipseg/precious.txt": hashlib.sha256(b"mine").hexdigest()}


def test_build_by_two_at_once_gives_one_whole_dataset(built, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: build(tmp_path, CONFIG, datasets=["ytvis_2021"]), range(2)))
    assert results[0] == results[1]
    assert [path.name for path in tmp_path.iterdir()] == ["ytvis_2021"]
    assert digests(tmp_path / "ytvis_2021") == digests(built / "ytvis_2021")


def test_build_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no miniature of imagenet: choose out of coco_panoptic"):
        build(tmp_path, CONFIG, datasets=["imagenet"])


def test_build_that_fails_leaves_no_dataset(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("cv2.imwrite", fail)
    with pytest.raises(OSError, match="disk full"):
        build(tmp_path, CONFIG, datasets=["davis_2017"])
    assert list(tmp_path.iterdir()) == []


def test_datasets_and_splits_draw_different_worlds():
    ids = [
        world.video_id
        for name in DATASETS
        for split in ("train", "val")
        for world in draw_worlds(name, split, CONFIG)
    ]
    kinds = [SOURCES[name].spec.kind for name in DATASETS]
    assert len(ids) == 5 * kinds.count("image") + 3 * kinds.count("video")
    assert len(set(ids)) == len(ids)


def test_image_datasets_draw_single_frames():
    assert {len(world.frames) for world in draw_worlds("coco_panoptic", "train", CONFIG)} == {1}
    assert {len(world.frames) for world in draw_worlds("vipseg", "train", CONFIG)} == {4}


def test_referring_dataset_holds_only_videos_with_expressions():
    config = MiniatureConfig(
        train_videos=40, world=WorldConfig(height=48, width=64, num_frames=3, twin_rate=1.0, max_objects=2)
    )
    worlds = list(draw_worlds("refytvos", "train", config))
    assert len(worlds) == 40
    assert all(any(entry.expressions for entry in world.things) for world in worlds)


def test_config_empty_split_is_refused():
    with pytest.raises(ValueError, match="at least one item per split"):
        MiniatureConfig(val_videos=0)
