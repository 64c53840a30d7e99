import io

import cv2
import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import DAMAGED_FILE_ERRORS, ItemError
from preprocessing.frame_checks import FrameImage, Place, decode_frame

PLACE = Place(where="bear", name="00000.jpg", file="00000.jpg", pointer="")
KINDS = {
    "baseline": {},
    "full chroma": {"subsampling": "4:4:4", "quality": 97},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 5},
    "gray": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
}


def encode_jpeg(mode="RGB", **options):
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (6, 9, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (83, 61), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    pixels = (smooth + generator.integers(-9, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def reason_of_full_decode(content):
    """Decode every pixel at full size: what the faster check must agree with."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except DAMAGED_FILE_ERRORS as error:
        return "not an image" if "BytesIO" in str(error) else str(error)
    return ""


def reason_of_check(content):
    try:
        decode_frame(content, PLACE)
    except ItemError as error:
        return error.message.partition(" bytes: ")[2] or error.message
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_decode_frame_refuses_every_truncated_jpeg_as_a_full_decode_does(kind):
    content = encode_jpeg(**KINDS[kind])
    for size in range(1, len(content), 3):
        reason = reason_of_check(content[:size])
        assert reason
        assert reason == reason_of_full_decode(content[:size])


@pytest.mark.parametrize("kind", KINDS)
def test_decode_frame_judges_damaged_jpegs_as_a_full_decode_does(kind):
    content = encode_jpeg(**KINDS[kind])
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), generator.integers(1, 5)):
            damaged[position] = generator.integers(0, 256)
        reason = reason_of_check(bytes(damaged))
        assert reason == reason_of_full_decode(bytes(damaged))
        refused += bool(reason)
    assert 0 < refused < 200


@pytest.mark.parametrize(("kind", "mode"), [("baseline", "RGB"), ("gray", "L"), ("cmyk", "CMYK")])
def test_decode_frame_tells_size_and_mode_as_stored(kind, mode):
    assert decode_frame(encode_jpeg(**KINDS[kind]), PLACE) == FrameImage(
        extension="jpg", height=61, width=83, mode=mode, orientation=1
    )
