import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from univs.data.release import Release
from univs.data.stores import LocalFiles
from univs.labels import Category, LabelSpace


class RecordingStore:
    """A store that keeps a list of the byte ranges asked of it."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.ranges: list[tuple[str, int, int]] = []

    def read(self, name: str, offset: int, size: int) -> bytes:
        self.ranges.append((name, offset, size))
        return self.inner.read(name, offset, size)

    def read_ranges(self, name: str, ranges) -> list[bytes]:
        return [self.read(name, offset, size) for offset, size in ranges]


@pytest.fixture
def frames(maker):
    generator = np.random.default_rng(0)
    return {
        item_id: [maker.encode_png(f) for f in generator.integers(0, 256, (n, 24, 32, 3), dtype=np.uint8)]
        for item_id, n in (("first", 5), ("second", 3), ("third", 7))
    }


@pytest.fixture
def records(maker, frames):
    return {
        item_id: maker.record(
            len(contents),
            [maker.track(1, [maker.rectangle(i, 2, 5, 6) for i in range(len(contents))])],
            item_id=item_id,
        )
        for item_id, contents in frames.items()
    }


@pytest.fixture
def release(maker, records, frames):
    return maker.open(list(records.values()), frames=frames)


def test_frames_and_records_come_back_as_written(release, records, frames):
    assert len({row.shard for row in release.rows}) > 1
    for index, row in enumerate(release.rows):
        assert release.read_record(index) == records[row.item_id]
        positions = [row.num_frames - 1, 0, 1]
        assert release.read_frames(index, positions) == [frames[row.item_id][p] for p in positions]


def test_only_the_bytes_asked_for_are_read(release, frames):
    store = RecordingStore(release.store)
    watched = replace(release, store=store)
    row = release.rows[0]
    watched.read_frames(0, [2])
    assert store.ranges == [(row.shard, row.frame_offsets[2], len(frames[row.item_id][2]))]
    store.ranges.clear()
    watched.read_record(0)
    (read,) = store.ranges
    end_of_header = row.annotation_offset - 512
    assert read == (row.shard, row.meta_offset, row.annotation_offset + row.annotation_size - row.meta_offset)
    assert 0 <= end_of_header - (row.meta_offset + row.meta_size) < 512


def test_a_pickled_release_reads_the_same(release):
    release.read_frames(0, [0])
    copy = pickle.loads(pickle.dumps(release))
    assert copy.read_frames(1, [0, 1]) == release.read_frames(1, [0, 1])
    assert copy.rows[1] == release.rows[1]


def test_forked_processes_read_the_same_at_once(release):
    expected = [release.read_frames(i, range(3)) for i in range(3)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = pool.starmap(release.read_frames, [(i % 3, range(3)) for i in range(60)])
    assert found == expected * 20


def test_more_shards_than_kept_open_are_read_right(tmp_path):
    for number in range(150):
        (tmp_path / f"{number}.tar").write_bytes(b"%08d" % number)
    store = LocalFiles(tmp_path)
    for number in [*range(150), *range(150)]:
        assert store.read(f"{number}.tar", 4, 4) == b"%04d" % number


def test_rows_are_a_sequence(release):
    assert release.rows[-1] == release.rows[2]
    assert release.rows[:2] == [release.rows[0], release.rows[1]]
    assert len(list(release.rows)) == len(release.rows) == 3
    with pytest.raises(IndexError):
        release.rows[3]


def test_the_manifest_keeps_the_label_space(maker):
    space = LabelSpace(name="two", categories=(Category(category_id=4, name="cat", is_thing=True),))
    release = maker.open([maker.record(1)], space=space)
    assert release.manifest.label_space == space
    assert release.name == "handmade/train"


def test_a_release_without_manifest_is_refused(release):
    (Path(release.location) / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        Release.open(Path(release.location))


def test_a_release_with_a_cut_off_manifest_is_refused(release):
    path = Path(release.location) / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="not a manifest"):
        Release.open(Path(release.location))


def test_a_release_without_index_is_refused(release):
    (Path(release.location) / "index.parquet").unlink()
    with pytest.raises(ValueError, match=r"no index\.parquet"):
        Release.open(Path(release.location))


def test_a_release_with_a_cut_off_index_is_refused(release):
    path = Path(release.location) / "index.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"index\.parquet"):
        Release.open(Path(release.location))


def test_a_release_with_another_number_of_rows_is_refused(release):
    path = Path(release.location) / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"num_samples":3', b'"num_samples":4', 1))
    with pytest.raises(ValueError, match="3 rows, the manifest says 4"):
        Release.open(Path(release.location))


def test_a_cut_off_shard_is_refused_on_open_and_on_read(release):
    path = Path(release.location) / release.rows[0].shard
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="size 600 bytes"):
        Release.open(Path(release.location))
    with pytest.raises(ValueError, match="cut off"):
        release.read_frames(0, [0])
