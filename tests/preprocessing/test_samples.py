import hashlib
from dataclasses import replace

import numpy as np
import pytest

from preprocessing.errors import ItemError
from preprocessing.samples import MAX_META_BYTES, encode_item, sample_key
from preprocessing.validate import ValidVideo
from univs.schema import Frame, VideoRecord, record_from_json


def make_video(num_frames=3, **changes):
    frames = tuple(Frame(index=i, name=f"{i}.jpg", extension="jpg") for i in range(num_frames))
    record = VideoRecord(
        dataset="mose",
        split="test-dev",
        item_id="A.1",
        kind="video",
        height=4,
        width=6,
        label_space=None,
        frames=frames,
        objects=(),
    )
    return ValidVideo(
        record=replace(record, **changes), frame_bytes=tuple(bytes([i]) for i in range(num_frames))
    )


def test_encode_item_members_are_in_order_and_hold_the_record():
    samples = encode_item(make_video(), 2)
    digest = hashlib.blake2b(b"mose|test-dev|A.1").hexdigest()[:8]
    assert [sample.key for sample in samples] == [f"mose-test-dev-a_1-{digest}-00{i}" for i in (0, 1)]
    names = [name for name, _ in samples[0].members()]
    assert names == [
        f"{samples[0].key}.{suffix}" for suffix in ("meta.json", "ann.json", "000000.jpg", "000001.jpg")
    ]
    for sample in samples:
        assert record_from_json(sample.meta, sample.annotation) == sample.record
    assert [content for sample in samples for name, content in sample.members() if name.endswith("jpg")] == [
        b"\0",
        b"\1",
        b"\2",
    ]


def test_encode_item_meta_beyond_the_limit_is_e160():
    size = len(encode_item(make_video(extra="x"), 9)[0].meta) - 1
    encode_item(make_video(extra="x" * (MAX_META_BYTES - size)), 9)
    with pytest.raises(ItemError) as caught:
        encode_item(make_video(extra="x" * (MAX_META_BYTES - size + 1)), 9)
    assert str(caught.value) == (
        "E160 annotation is too large for one sample: A.1: meta.json of chunk 0 would have 131073 bytes; "
        "expected at most 131072"
    )


def test_sample_key_any_id_is_short_lower_case_and_without_dot():
    generator = np.random.default_rng(0)
    ids = ["-KqXc.mp4", "A1", "a1", "x" * 300, "\u00e9\u00e8/..\\", ""]
    ids += ["".join(map(chr, generator.integers(32, 1000, 30))) for _ in range(50)]
    keys = [sample_key("coco_panoptic", "train", item_id, 12) for item_id in ids]
    assert len({key.lower() for key in keys}) == len(ids)
    for key in keys:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert len(key) <= 80


def test_sample_key_known_item_has_the_agreed_form():
    digest = hashlib.blake2b(b"ytvis_2021|train|12").hexdigest()[:8]
    assert sample_key("ytvis_2021", "train", "12", 3) == f"ytvis_2021-train-12-{digest}-003"
