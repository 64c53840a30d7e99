import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from univs.data.release import Release
from univs.data.videos import iter_videos
from univs.schema import Expression, Region


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (7, 24, 32, 3), dtype=np.uint8)


@pytest.fixture
def record(maker):
    masks = [maker.rectangle(i, i, 5, 5) for i in range(7)]
    void = Region(kind="void", rles=(maker.encode_mask(maker.rectangle(20, 20, 2, 2)),) + (None,) * 6)
    expression = Expression(expression_id="0", text="late", object_ids=(2,))
    tracks = [maker.track(1, masks), maker.track(2, ["A"] * 5 + masks[:2])]
    return maker.record(7, tracks, regions=(void,), expressions=(expression,))


@pytest.fixture
def release(maker, record, pixels):
    short = maker.record(2, item_id="short")
    frames = {"item": [maker.encode_png(frame) for frame in pixels]}
    return maker.open([record, short], frames=frames, max_frames_per_chunk=3)


def test_chunks_of_an_item_are_one_video(release, record, pixels):
    videos = {video.item_id: video for video in iter_videos(release)}
    assert set(videos) == {"item", "short"}
    video = videos["item"]
    assert len(video.row_indices) == 3
    assert video.num_frames == 7
    assert video.record == record
    assert np.array_equal(video.read_frames([6, 0, 3]), pixels[[6, 0, 3]])
    assert np.array_equal(np.stack(list(video.iter_frames())), pixels)
    with pytest.raises(IndexError, match="frame 7"):
        video.read_frames([7])


def test_a_pickled_video_reads_the_same(release, pixels):
    video = next(video for video in iter_videos(release) if video.item_id == "item")
    assert np.array_equal(pickle.loads(pickle.dumps(video)).read_frames([5]), pixels[5:6])


def test_frames_are_read_only_when_asked_for(release):
    class ClosedStore:
        def read(self, name: str, offset: int, size: int) -> bytes:
            raise AssertionError("read too early")

    assert len(list(iter_videos(replace(release, store=ClosedStore())))) == 2


def test_an_item_that_lacks_a_chunk_is_refused(release):
    path, manifest = Path(release.location) / "index.parquet", Path(release.location) / "manifest.json"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("chunk_index") != 1), path)
    manifest.write_bytes(manifest.read_bytes().replace(b'"num_samples":4,', b'"num_samples":3,'))
    with pytest.raises(ValueError, match=r"item 'item' has chunks \[0, 2\], expected all of 3"):
        list(iter_videos(Release.open(Path(release.location))))
