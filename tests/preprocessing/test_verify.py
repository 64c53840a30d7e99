import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing.errors import BuildError
from preprocessing.index import begin_release, commit_release, read_manifest
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.sample_tars import check_tar
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import require_source
from preprocessing.tables import read_index
from preprocessing.verify import verify_release, verify_sample, verify_shard
from preprocessing.worlds import WorldConfig

NAME = "refytvos"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Give a release of two shards; the first frame of one item is gray, another item is rejected."""
    config = MiniatureConfig(
        train_images=1, val_images=1, train_videos=5, val_videos=1, world=WorldConfig(num_frames=4)
    )
    root = build(tmp_path_factory.mktemp("miniature"), config, [NAME])[NAME]
    source, release = require_source(NAME), tmp_path_factory.mktemp("release")
    items = list(source.scan(root, "train"))
    frames = source.read(root, "train", items[0]).frame_paths
    frames[1].write_bytes(b"")
    plan = make_plan(NAME, "train", items, PlanParameters(target_frames_per_shard=12, max_frames_per_chunk=3))
    for path in begin_release(release, plan):
        pack_shard(source, root, "train", read_work_order(path), release)
    commit_release(release, plan, source.spec, None)
    return release


@pytest.fixture
def release(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "release")


def complaint(release, num_samples=100):
    with pytest.raises(BuildError) as caught:
        verify_release(release, num_samples=num_samples)
    assert "\n" not in str(caught.value)
    return caught.value.code, caught.value.message


def test_verify_release_sound_gives_its_manifest(release):
    assert verify_release(release) == read_manifest(release)
    assert verify_release(release, num_samples=1, seed=7).rejects == {"E102": 1}


def test_verify_release_one_flipped_bit_names_the_shard(release):
    entry = read_manifest(release).shards[1]
    path = release / entry.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, message = complaint(release)
    assert code == "E162"
    assert message.startswith(f"{path} has sha256 ")
    assert message.endswith(f"; expected {entry.sha256}; delete the release, preprocess again")


def test_verify_shard_missing_is_e162(release):
    entry = read_manifest(release).shards[0]
    (release / entry.name).unlink()
    with pytest.raises(BuildError, match=rf"^E162 .*{entry.name} not found; expected {entry.size_bytes} byt"):
        verify_shard(release, entry)


def change_table(release, name, change):
    path = release / name
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("index.parquet", lambda rows: rows[:-1], "samples, manifest says"),
        ("rejects.parquet", lambda rows: [], "hold 4 items, rejected ones included, manifest says 5"),
        ("rejects.parquet", lambda rows: [{**rows[0], "code": "E101"}], "{'E101': 1} rejects, manifest says"),
        ("warnings.parquet", lambda rows: [*rows, rows[0]], " warnings, manifest says"),
        ("frames.parquet", lambda rows: rows[1:], " frame digests, manifest says"),
        (
            "index.parquet",
            lambda rows: [{**rows[0], "num_objects": 99}, *rows[1:]],
            " objects, manifest says ",
        ),
    ],
)
def test_verify_release_table_that_does_not_add_up_is_e162(release, name, change, found):
    if name == "warnings.parquet" and not pq.read_table(release / name).num_rows:
        pytest.skip("these worlds have no warnings")
    change_table(release, name, change)
    code, message = complaint(release)
    assert code == "E162"
    assert message.startswith(f"{release}: tables hold ")
    assert found in message


def test_verify_release_index_that_points_elsewhere_is_e161(release):
    row = read_index(release)[2]
    moved = row.meta_offset + 512

    def move(rows):
        return [*rows[:2], {**rows[2], "meta_offset": moved}, *rows[3:]]

    change_table(release, "index.parquet", move)
    code, message = complaint(release)
    assert code == "E161"
    assert f"expected {row.key}.meta.json at {moved} with {row.meta_size} bytes" in message


def test_verify_release_frame_other_than_its_digest_is_e162(release):
    def change(rows):
        return [{**row, "sha256": "0" * 64} if row["position"] == 1 else row for row in rows]

    change_table(release, "frames.parquet", change)
    code, message = complaint(release)
    assert code == "E162"
    assert message.endswith(": frame 1 is not the one in frames.parquet")


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("item_id", "nobody", "; the index says 'nobody'"),
        ("height", 7, "size (96, 128); the index says (7, 128)"),
        ("group", "coco:1", "; the index says 'coco:1'"),
    ],
)
def test_verify_release_row_that_differs_from_its_sample_is_e162(release, field, value, found):
    change_table(release, "index.parquet", lambda rows: [{**row, field: value} for row in rows])
    code, message = complaint(release)
    assert code == "E162"
    assert found in message


def test_verify_sample_annotation_that_does_not_fit_is_e162(release):
    row = max(read_index(release), key=lambda row: row.annotation_size)
    path = release / row.shard
    content = bytearray(path.read_bytes())
    annotation = json.loads(content[row.annotation_offset : row.annotation_offset + row.annotation_size])
    track = annotation["objects"][0]
    track["states"] = "A" * len(track["states"])
    changed = json.dumps(annotation, separators=(",", ":")).encode().ljust(row.annotation_size)
    content[row.annotation_offset : row.annotation_offset + row.annotation_size] = changed
    path.write_bytes(bytes(content))
    check_tar(path, [other for other in read_index(release) if other.shard == row.shard])
    with pytest.raises(BuildError) as caught:
        verify_sample(release, row, read_manifest(release), ["0"] * row.num_frames)
    assert caught.value.code == "E162"
    assert ": E110 parallel lists differ in length, or states and masks disagree: " in caught.value.message


def test_verify_release_not_whole_raises(release):
    (release / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest.json not found: the release is not whole"):
        verify_release(release)
