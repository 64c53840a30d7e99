import json
from dataclasses import replace

import pytest

from preprocessing.index import begin_release, commit_release, read_manifest
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import require_source
from preprocessing.tables import read_index, read_rejects

NAME = "coco_panoptic"
SOURCE = require_source(NAME)
PARAMETERS = PlanParameters(target_frames_per_shard=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    config = MiniatureConfig(train_images=8, val_images=1, train_videos=1, val_videos=1)
    root = build(tmp_path_factory.mktemp("miniature"), config, [NAME])[NAME]
    (root / "train2017").joinpath(sorted(p.name for p in (root / "train2017").iterdir())[4]).write_bytes(
        b"no"
    )
    return root


def make(root, parameters=PARAMETERS):
    return make_plan(NAME, "train", SOURCE.scan(root, "train"), parameters, SOURCE.label_space(root))


def pack_all(root, release, paths):
    for path in paths:
        pack_shard(SOURCE, root, "train", read_work_order(path), release)


def make_release(root, release, parameters=PARAMETERS, *, backwards=False):
    plan = make(root, parameters)
    paths = begin_release(release, plan)
    pack_all(root, release, reversed(paths) if backwards else paths)
    return commit_release(release, plan, SOURCE.spec, SOURCE.label_space(root))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_commit_release_counts_add_up_and_only_the_release_is_left(root, tmp_path):
    manifest = make_release(root, tmp_path)
    rows, rejects = read_index(tmp_path), read_rejects(tmp_path)
    assert manifest.num_items == 8
    assert manifest.num_samples == manifest.num_frames == len(rows) == 7
    assert manifest.rejects == {"E102": 1}
    assert [reject.code for reject in rejects] == ["E102"]
    assert manifest.num_objects == sum(row.num_objects for row in rows)
    assert [entry.num_samples for entry in manifest.shards] == [
        sum(row.shard == entry.name for row in rows) for entry in manifest.shards
    ]
    shards = [entry.name for entry in manifest.shards]
    tables = ["index.parquet", "frames.parquet", "rejects.parquet", "warnings.parquet"]
    expected = [*shards, "manifest.json", *tables]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)


def test_commit_release_shards_packed_in_another_order_gives_identical_files(root, tmp_path):
    make_release(root, tmp_path / "a")
    make_release(root, tmp_path / "b", backwards=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_commit_release_rows_are_sorted_by_shard_then_position(root, tmp_path):
    make_release(root, tmp_path)
    places = [(row.shard, row.meta_offset) for row in read_index(tmp_path)]
    assert places == sorted(places)


def test_commit_release_missing_shard_raises_and_the_release_is_not_whole(root, tmp_path):
    plan = make(root)
    pack_all(root, tmp_path, begin_release(tmp_path, plan)[:-1])
    with pytest.raises(ValueError, match=r"000002.tar is not packed for this plan; run preprocess.py again$"):
        commit_release(tmp_path, plan, SOURCE.spec, SOURCE.label_space(root))
    with pytest.raises(
        ValueError, match=r"manifest.json not found: the release is not whole; run preprocess.py"
    ):
        read_manifest(tmp_path)


def test_begin_release_of_a_whole_release_asks_for_no_work(root, tmp_path):
    make_release(root, tmp_path)
    before = contents(tmp_path)
    assert begin_release(tmp_path, make(root)) == ()
    assert contents(tmp_path) == before


def test_begin_release_of_another_plan_withdraws_the_old_manifest(root, tmp_path):
    make_release(root, tmp_path)
    other = replace(PARAMETERS, target_frames_per_shard=4)
    assert len(begin_release(tmp_path, make(root, other))) == 2
    with pytest.raises(ValueError, match="is not whole"):
        read_manifest(tmp_path)
    make_release(root, tmp_path, other)
    make_release(root, tmp_path / "fresh", other)
    rebuilt = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert rebuilt == contents(tmp_path / "fresh")


def test_read_manifest_after_commit_gives_the_same_manifest(root, tmp_path):
    manifest = make_release(root, tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.label_space == SOURCE.label_space(root)


def test_read_manifest_truncated_raises(root, tmp_path):
    make_release(root, tmp_path)
    path = tmp_path / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(
        ValueError, match=r"manifest.json is damaged \(JSONDecodeError: .*\); preprocess again$"
    ):
        read_manifest(tmp_path)


def test_read_manifest_field_missing_raises(root, tmp_path):
    make_release(root, tmp_path)
    body = json.loads((tmp_path / "manifest.json").read_bytes())
    del body["task"]
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(
        ValueError, match=r"manifest.json is damaged \(TypeError: .*'task'\); preprocess again$"
    ):
        read_manifest(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_read_manifest_shard_gone_or_cut_raises(root, tmp_path, damage):
    entry = make_release(root, tmp_path).shards[0]
    path = tmp_path / entry.name
    content = path.read_bytes()
    path.unlink()
    if damage == "short":
        path.write_bytes(content[:-512])
    found = "is missing" if damage == "missing" else f"has {entry.size_bytes - 512} bytes"
    with pytest.raises(
        ValueError, match=f"{found}; expected {entry.size_bytes} bytes; run preprocess.py again$"
    ):
        read_manifest(tmp_path)


def test_commit_release_category_outside_the_label_space_raises(root, tmp_path):
    plan = make(root)
    pack_all(root, tmp_path, begin_release(tmp_path, plan))
    space = SOURCE.label_space(root)
    fewer = replace(space, categories=space.categories[1:])
    with pytest.raises(ValueError, match=r"has category 1, which its label space lacks; this is a mistake"):
        commit_release(tmp_path, plan, SOURCE.spec, fewer)
    assert not (tmp_path / "manifest.json").exists()


def test_commit_release_judge_that_objects_leaves_no_manifest(root, tmp_path):
    def object_to(manifest):
        raise ValueError(f"{manifest.num_samples} samples")

    plan = make(root)
    pack_all(root, tmp_path, begin_release(tmp_path, plan))
    with pytest.raises(ValueError, match=r"^7 samples$"):
        commit_release(tmp_path, plan, SOURCE.spec, SOURCE.label_space(root), object_to)
    assert not (tmp_path / "manifest.json").exists()
    commit_release(tmp_path, plan, SOURCE.spec, SOURCE.label_space(root))
    assert read_manifest(tmp_path).num_samples == 7
