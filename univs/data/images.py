"""Pixels: decoding, normalization and padding, the same for training and inference.

Legend: T frames, H W image size in pixels.
"""

import io

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""RGB mean of ImageNet on the 0..255 scale."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""RGB standard deviation of ImageNet on the 0..255 scale."""
SIZE_MULTIPLE_PX = 32
"""The coarsest stride of the backbone; padded sizes are multiples of it."""

_CV2_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode JPEG or PNG bytes to RGB [H, W, 3].

    The EXIF orientation is not applied: annotations lie on the stored raster. Gray becomes three equal
    channels. CMYK goes through Pillow, which knows Adobe's inverted variant.

    Raises:
        ValueError: the bytes are no image or stop early.
    """
    if data and not _is_four_channel_jpeg(data):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _CV2_FLAGS)
        if decoded is not None:
            return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        raise ValueError(
            f"cannot decode an image of {len(data)} bytes starting {data[:4].hex()}: {error}"
        ) from error


def to_tensor(frames: NDArray[np.uint8] | Tensor) -> Tensor:
    """Normalize uint8 RGB frames [T, H, W, 3] to float32 [T, 3, H, W]."""
    pixels = torch.as_tensor(frames).permute(0, 3, 1, 2)
    mean = torch.tensor(PIXEL_MEAN, device=pixels.device).view(3, 1, 1)
    scale = torch.tensor(PIXEL_STD, device=pixels.device).view(3, 1, 1)
    return pixels.to(torch.float32).sub(mean).div_(scale).contiguous()


def pad_to_multiple(x: Tensor, multiple: int = SIZE_MULTIPLE_PX) -> Tensor:
    """Append zeros at the bottom and right of [..., H, W] up to multiples of ``multiple``.

    Pad after normalization, so that padding is the mean color.
    """
    height, width = x.shape[-2:]
    return pad(x, (0, round_up(width, multiple) - width, 0, round_up(height, multiple) - height))


def round_up(length: int, multiple: int = SIZE_MULTIPLE_PX) -> int:
    """Give the smallest multiple that holds ``length``."""
    return -(-length // multiple) * multiple


def _is_four_channel_jpeg(data: bytes) -> bool:
    """Look for a start-of-frame segment with four components, without decoding."""
    position = 2
    while data[:2] == b"\xff\xd8" and position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 9] == 4
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
