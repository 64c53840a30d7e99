import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest
import webdataset as wds
from PIL import Image

from preprocessing.errors import Problem
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.plan import PlanParameters, make_plan
from preprocessing.shards import pack_shard, read_done
from preprocessing.sources.catalog import require_source
from preprocessing.worlds import WorldConfig
from univs.schema import record_from_json

NAME = "refytvos"
SOURCE = require_source(NAME)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    config = MiniatureConfig(
        train_images=1, val_images=1, train_videos=4, val_videos=1, world=WorldConfig(num_frames=7)
    )
    return build(tmp_path_factory.mktemp("miniature"), config, [NAME])[NAME]


@pytest.fixture(scope="module")
def order(root):
    items = SOURCE.scan(root, "train")
    parameters = PlanParameters(target_frames_per_shard=10_000, max_frames_per_chunk=3)
    return make_plan(NAME, "train", items, parameters).orders[0]


def pack(root, order, release):
    return pack_shard(SOURCE, root, "train", order, release)


def test_pack_shard_twice_in_other_folders_gives_identical_bytes(root, order, tmp_path):
    results = [pack(root, order, tmp_path / name) for name in ("a", "b")]
    contents = [(tmp_path / name / order.shard).read_bytes() for name in ("a", "b")]
    assert contents[0] == contents[1]
    assert results[0] == results[1]
    assert results[0].entry.sha256 == hashlib.sha256(contents[0]).hexdigest()
    assert results[0].entry.size_bytes == len(contents[0])


def test_pack_shard_other_time_umask_and_user_name_gives_identical_bytes(root, order, tmp_path, monkeypatch):
    pack(root, order, tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 4e9)
    old = os.umask(0o077)
    try:
        pack(root, order, tmp_path / "b")
    finally:
        os.umask(old)
    assert (tmp_path / "a" / order.shard).read_bytes() == (tmp_path / "b" / order.shard).read_bytes()


def test_pack_shard_tar_members_have_neutral_headers_and_the_agreed_order(root, order, tmp_path):
    result = pack(root, order, tmp_path)
    with tarfile.open(tmp_path / order.shard) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    expected = []
    for row in result.rows:
        expected += [f"{row.key}.meta.json", f"{row.key}.ann.json"]
        expected += [f"{row.key}.{position:06d}.jpg" for position in range(row.num_frames)]
    assert [member.name for member in members] == expected
    with (tmp_path / order.shard).open("rb") as stream:
        assert stream.read(512)[257:265] == b"ustar\x0000"


def test_pack_shard_offsets_plain_seek_and_read_gives_the_original_bytes(root, order, tmp_path):
    result = pack(root, order, tmp_path)
    originals = {}
    for item in order.items:
        video = SOURCE.read(root, "train", item)
        originals[item.item_id] = (video.record, [path.read_bytes() for path in video.frame_paths])
    with (tmp_path / order.shard).open("rb") as stream:

        def read(offset, size):
            stream.seek(offset)
            return stream.read(size)

        for row in result.rows:
            record, contents = originals[row.item_id]
            start = row.chunk_index * order.max_frames_per_chunk
            stored = [read(o, s) for o, s in zip(row.frame_offsets, row.frame_sizes, strict=True)]
            assert stored == contents[start : start + order.max_frames_per_chunk]
            meta = read(row.meta_offset, row.meta_size)
            decoded = record_from_json(meta, read(row.annotation_offset, row.annotation_size))
            assert decoded.frames == record.frames[start : start + order.max_frames_per_chunk]
            assert decoded.expressions == record.expressions
            assert (row.num_objects, row.num_expressions) == (len(record.objects), len(record.expressions))


def test_pack_shard_read_by_webdataset_itself_gives_whole_samples(root, order, tmp_path):
    result = pack(root, order, tmp_path)
    dataset = wds.WebDataset(str(tmp_path / order.shard), shardshuffle=False)
    samples = {sample["__key__"]: sample for sample in dataset}
    assert list(samples) == [row.key for row in result.rows]
    for row in result.rows:
        sample = samples[row.key]
        assert json.loads(sample["meta.json"])["item_id"] == row.item_id
        frames = [sample[f"{position:06d}.jpg"] for position in range(row.num_frames)]
        assert [len(frame) for frame in frames] == list(row.frame_sizes)
        with Image.open(io.BytesIO(frames[0])) as image:
            assert image.size == (row.width, row.height)


def test_pack_shard_items_in_equal_items_out_plus_rejects(root, order, tmp_path):
    damaged = tmp_path / "source"
    shutil.copytree(root, damaged)
    victim = order.items[1].item_id
    frame = damaged / "train" / "JPEGImages" / victim / "00005.jpg"
    frame.write_bytes(frame.read_bytes()[:200])
    result = pack(damaged, order, tmp_path / "release")
    packed = {row.item_id for row in result.rows}
    assert packed == {item.item_id for item in order.items} - {victim}
    assert [(reject.item_id, reject.code) for reject in result.rejects] == [(victim, "E102")]
    assert result.rejects[0].message.startswith(f"{victim}/00005.jpg: 00005.jpg has 200 bytes: ")
    assert result.rejects[0].file == f"train/JPEGImages/{victim}/00005.jpg"
    assert result.rejects[0].pointer == ""


def test_pack_shard_odd_item_is_kept_flagged_and_listed(root, order, tmp_path):
    odd = tmp_path / "source"
    shutil.copytree(root, odd)
    victim = order.items[1].item_id
    for name in ("00010.jpg", "00025.jpg"):
        frame = odd / "train" / "JPEGImages" / victim / name
        with Image.open(frame) as image:
            image.convert("L").save(frame)
    result = pack(odd, order, tmp_path / "release")
    assert result.rejects == ()
    (warning,) = [problem for problem in result.warnings if problem.code == "W106"]
    assert warning == Problem(
        item_id=victim,
        code="W106",
        message=f"{victim}/00010.jpg: mode L (and 1 more like it)",
        file=f"train/JPEGImages/{victim}/00010.jpg",
    )
    assert [row.item_id for row in result.rows if "W106" in row.flags] == [victim] * 3


def test_pack_shard_frame_digests_are_those_of_the_files(root, order, tmp_path):
    result = pack(root, order, tmp_path)
    digests = {}
    for row, found in zip(result.rows, result.frame_sha256, strict=True):
        digests.setdefault(row.item_id, []).extend(found)
    for item in order.items:
        paths = SOURCE.read(root, "train", item).frame_paths
        assert digests[item.item_id] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_pack_shard_every_item_damaged_writes_no_tar(root, order, tmp_path):
    shutil.copytree(root, tmp_path / "source")
    shutil.rmtree(tmp_path / "source" / "train" / "JPEGImages")
    result = pack(tmp_path / "source", order, tmp_path / "release")
    assert (result.rows, result.entry) == ((), None)
    assert len(result.rejects) == len(order.items)
    assert [path.name for path in (tmp_path / "release").iterdir()] == [f"{order.shard}.done.json"]


def test_pack_shard_already_done_does_not_touch_the_tar(root, order, tmp_path):
    first = pack(root, order, tmp_path)
    before = (tmp_path / order.shard).stat()
    assert pack(root / "gone", order, tmp_path) == first
    assert (tmp_path / order.shard).stat() == before


def test_read_done_other_plan_or_other_tar_size_is_not_trusted(root, order, tmp_path):
    result = pack(root, order, tmp_path)
    assert read_done(tmp_path, order.shard, order.plan_digest) == result
    assert read_done(tmp_path, order.shard, "another") is None
    with (tmp_path / order.shard).open("ab") as stream:
        stream.write(b"x")
    assert read_done(tmp_path, order.shard, order.plan_digest) is None


def test_read_done_truncated_record_is_not_trusted(root, order, tmp_path):
    pack(root, order, tmp_path)
    done = tmp_path / f"{order.shard}.done.json"
    done.write_bytes(done.read_bytes()[:100])
    assert read_done(tmp_path, order.shard, order.plan_digest) is None


def test_pack_shard_leftover_of_a_dead_run_is_deleted(root, order, tmp_path):
    (tmp_path / f"{order.shard}.tmp-999999").write_bytes(b"half a shard")
    pack(root, order, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [order.shard, f"{order.shard}.done.json"]


DRIVER = """
import os, resource, signal, sys
from pathlib import Path
from preprocessing.plan import PlanParameters, make_plan
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import require_source
root, release, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
source = require_source("refytvos")
items = source.scan(root, "train")
parameters = PlanParameters(target_frames_per_shard=10_000, max_frames_per_chunk=3)
order = make_plan("refytvos", "train", items, parameters).orders[0]
class Killed:
    spec = source.spec
    def read(self, root, split, item):
        if item == order.items[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return source.read(root, split, item)
if mode == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    pack_shard(Killed() if mode == "kill" else source, root, "train", order, release)
except OSError as error:
    sys.exit(f"OSError {error.strerror}")
"""


def run_driver(root, release, mode):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(root), str(release), mode],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pack_shard_disk_full_leaves_nothing_and_says_one_line(root, order, tmp_path):
    process = run_driver(root, tmp_path, "full")
    expected = f"OSError {tmp_path / order.shard} not written: File too large; free space and run again\n"
    assert process.returncode == 1
    assert process.stderr == expected
    assert list(tmp_path.iterdir()) == []


def test_pack_shard_killed_half_way_then_run_again_gives_the_same_release(root, order, tmp_path):
    process = run_driver(root, tmp_path / "killed", "kill")
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / order.shard).exists()
    pack(root, order, tmp_path / "killed")
    pack(root, order, tmp_path / "whole")
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("killed", "whole")
    ]
    assert contents[0] == contents[1]
