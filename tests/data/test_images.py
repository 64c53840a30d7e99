import io

import numpy as np
import pytest
import torch
from PIL import Image

from univs.data.images import decode_image, pad_to_multiple, to_tensor


def encode(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    rows, columns = np.mgrid[:40, :56]
    return np.stack([rows * 6, columns * 4, 255 - rows * 3 - columns], axis=-1).astype(np.uint8)


def test_decode_png_gives_the_encoded_rgb(pixels):
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels), "PNG")), pixels)


def test_decode_palette_and_alpha_png_gives_rgb(pixels):
    image = Image.fromarray(pixels)
    palette = image.quantize(16)
    assert np.array_equal(decode_image(encode(palette, "PNG")), np.asarray(palette.convert("RGB")))
    alpha = Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 90, np.uint8)]))
    assert np.array_equal(decode_image(encode(alpha, "PNG")), pixels)


def test_decode_jpeg_agrees_with_pillow(pixels):
    data = encode(Image.fromarray(pixels), "JPEG", quality=80)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decode_image(data) - expected).max() <= 2


def test_decode_gray_jpeg_gives_three_equal_channels(pixels):
    decoded = decode_image(encode(Image.fromarray(pixels[..., 0]), "JPEG"))
    assert decoded.shape == pixels.shape
    assert np.array_equal(decoded[..., 0], decoded[..., 2])
    assert np.abs(decoded[..., 1].astype(int) - pixels[..., 0]).max() <= 8


def test_decode_cmyk_jpeg_gives_the_colors(pixels):
    decoded = decode_image(encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=98))
    assert np.abs(decoded.astype(int) - pixels).mean() < 4


def test_decode_does_not_apply_the_exif_orientation(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(pixels), "JPEG", exif=exif)
    assert decode_image(data).shape == pixels.shape


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff\xe0"])
def test_decode_of_other_bytes_is_refused(data):
    with pytest.raises(ValueError, match="cannot decode"):
        decode_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decode_of_a_cut_off_image_is_refused(pixels, kind):
    data = encode(Image.fromarray(pixels), kind)
    with pytest.raises(ValueError, match="cannot decode"):
        decode_image(data[: len(data) * 2 // 3])


def test_to_tensor_normalizes_by_channel():
    frames = np.zeros((2, 3, 4, 3), dtype=np.uint8)
    frames[1] = [124, 116, 104]
    tensor = to_tensor(frames)
    assert tensor.shape == (2, 3, 3, 4)
    assert torch.allclose(tensor[0, :, 0, 0], torch.tensor([-2.1179, -2.0357, -1.8044]), atol=1e-4)
    assert tensor[1].abs().max() < 0.01


def test_pad_to_multiple_keeps_the_top_left_and_adds_zeros():
    x = torch.rand(2, 3, 33, 64) + 1
    padded = pad_to_multiple(x)
    assert padded.shape == (2, 3, 64, 64)
    assert torch.equal(padded[..., :33, :], x)
    assert not padded[..., 33:, :].any()
