"""Pixels: decoding, normalization and padding, the same for training and inference.

Legend: T frames, H W image size in pixels.
"""

import io
from dataclasses import dataclass

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

_FULL = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED_BGR = {
    scale: flag | cv2.IMREAD_IGNORE_ORIENTATION
    for scale, flag in (
        (2, cv2.IMREAD_REDUCED_COLOR_2),
        (4, cv2.IMREAD_REDUCED_COLOR_4),
        (8, cv2.IMREAD_REDUCED_COLOR_8),
    )
}


def decode_image(data: bytes, scale: int = 1) -> NDArray[np.uint8]:
    """Decode JPEG or PNG bytes to RGB [ceil(H / scale), ceil(W / scale), 3].

    The EXIF orientation is not applied: annotations lie on the stored raster. Gray becomes three equal
    channels. CMYK goes through Pillow, which knows Adobe's inverted variant.

    Args:
        data: the encoded image.
        scale: 1, 2, 4 or 8. A JPEG is decoded at that fraction of its size from its low frequencies, for
            less than the whole costs; other formats give no such bargain and are refused.

    Raises:
        ValueError: the bytes are no image or stop early, or no JPEG of three channels where ``scale`` > 1.
    """
    header = jpeg_header(data)
    if scale > 1:
        return _decode_reduced(data, header, scale)
    if data and (header is None or header.num_channels != 4):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _FULL)
        if decoded is not None:
            return np.asarray(decoded, dtype=np.uint8)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        raise ValueError(
            f"cannot decode an image of {len(data)} bytes starting {data[:4].hex()}: {error}"
        ) from error


def is_reducible(data: bytes) -> bool:
    """Say whether an image may be decoded at a fraction of its size."""
    header = jpeg_header(data)
    return header is not None and header.num_channels in (1, 3)


def to_tensor(frames: NDArray[np.uint8] | Tensor) -> Tensor:
    """Normalize RGB frames [T, H, W, 3] on the scale of uint8 to float32 [T, 3, H, W]."""
    planes = torch.as_tensor(frames).permute(0, 3, 1, 2).contiguous()
    return _normalize(planes.to(torch.float32))


def normalize_colored(frames: Tensor, color: Tensor) -> Tensor:
    """Change the colors of uint8 RGB frames [T, H, W, 3] by a map [3, 4], then normalize as ``to_tensor``."""
    if torch.equal(color, torch.eye(3, 4)):
        return to_tensor(frames)
    change = color.to(frames.device).expand(len(frames), -1, -1)
    # Planes first: a product with pixels of three neighbors would crawl.
    planes = frames.permute(0, 3, 1, 2).contiguous().to(torch.float32).flatten(2)
    colored = torch.baddbmm(change[..., 3:], change[..., :3], planes).clamp_(0, 255)
    return _normalize(colored.view(len(frames), 3, *frames.shape[1:3]))


def _normalize(planes: Tensor) -> Tensor:
    """Normalize float32 [T, 3, H, W]."""
    mean = torch.tensor(PIXEL_MEAN, device=planes.device).view(3, 1, 1)
    scale = torch.tensor(PIXEL_STD, device=planes.device).view(3, 1, 1)
    return planes.sub(mean).div_(scale)


def pad_to_multiple(x: Tensor, multiple: int = SIZE_MULTIPLE_PX) -> Tensor:
    """Append zeros at the bottom and right of [..., H, W] up to multiples of ``multiple``.

    Pad after normalization, so that padding is the mean color.
    """
    height, width = x.shape[-2:]
    return pad(x, (0, round_up(width, multiple) - width, 0, round_up(height, multiple) - height))


def round_up(length: int, multiple: int = SIZE_MULTIPLE_PX) -> int:
    """Give the smallest multiple that holds ``length``."""
    return -(-length // multiple) * multiple


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegHeader:
    """What a JPEG's start of frame says."""

    height: int
    width: int
    num_channels: int


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Read size and channels without decoding; ``None`` if the bytes are no JPEG."""
    position = 2
    while data[:2] == b"\xff\xd8" and position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            return JpegHeader(
                height=int.from_bytes(height, "big"),
                width=int.from_bytes(width, "big"),
                num_channels=data[position + 9],
            )
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _decode_reduced(data: bytes, header: JpegHeader | None, scale: int) -> NDArray[np.uint8]:
    decoded = None
    if header is not None and header.num_channels in (1, 3):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED_BGR[scale])
    if decoded is None:
        raise ValueError(
            f"cannot decode an image of {len(data)} bytes starting {data[:4].hex()} at 1/{scale} of its size"
        )
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded), dtype=np.uint8)
