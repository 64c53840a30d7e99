"""Pictures: masks over frames, truth beside prediction, contact sheets, short videos and curves.

Legend: T frames, N masks, H, W size; colors and frames are uint8 RGB.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""[H, W, 3] RGB."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_HEIGHT_PX = 12
_WHITE = (255, 255, 255)


@cache
def palette() -> NDArray[np.uint8]:
    """Give the [256, 3] color table of PASCAL VOC, which DAVIS masks carry; entry 0 is black."""
    values = np.arange(256)
    table = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            # Bits of the index go to red, green and blue in turn, the lowest to the highest bit of a color.
            table[:, channel] |= ((values >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    table.flags.writeable = False
    return table


def color_of(number: int) -> tuple[int, int, int]:
    """Give the color of an object or class: the same one everywhere, bright, and far from its neighbors'."""
    hue = number * 0.618033988749895 % 1.0
    value = 255 - 60 * (number // 5 % 2)
    pixel = np.asarray([[[round(hue * 179), 200, value]]], np.uint8)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def overlay(
    frame: Frame,
    masks: NDArray[np.bool_],
    names: Sequence[str] = (),
    numbers: Sequence[int] | None = None,
    opacity: float = 0.5,
) -> Frame:
    """Tint the masks [N, H, W] of a frame, draw their contours and write a name on each that is shown.

    ``numbers`` choose the colors (default: position), so an object keeps its color from frame to frame.
    """
    numbers = range(len(masks)) if numbers is None else numbers
    picture = frame.copy()
    for mask, number in zip(masks, numbers, strict=True):
        tint = np.asarray(color_of(number), np.float32)
        picture[mask] = (picture[mask] * (1 - opacity) + tint * opacity).round().astype(np.uint8)
    for mask, number in zip(masks, numbers, strict=True):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, color_of(number), 1)
    for mask, name in zip(masks, names, strict=False):
        if name and mask.any():
            write_text(picture, name, _inner_point(mask))
    return picture


def overlay_labels(
    frame: Frame, labels: NDArray[np.integer], names: Mapping[int, str], ignore: int = 0
) -> Frame:
    """Tint a label or segment map [H, W] of a frame; pixels with ``ignore`` stay as they are."""
    shown = [value for value in np.unique(labels).tolist() if value != ignore]
    masks = np.stack([labels == value for value in shown]) if shown else np.zeros((0, *labels.shape), bool)
    return overlay(frame, masks, [names.get(value, "") for value in shown], shown)


def write_text(picture: Frame, text: str, center: tuple[int, int]) -> None:
    """Write text on a dark plate on a picture, in place, around (x, y) but inside the picture."""
    scale = cv2.getFontScaleFromHeight(_FONT, _TEXT_HEIGHT_PX - 2)
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    x = max(1, min(center[0] - width // 2, picture.shape[1] - width - 1))
    y = max(height + 1, min(center[1] + height // 2, picture.shape[0] - baseline))
    plate = picture[y - height - 1 : y + baseline, x - 1 : x + width + 1]
    plate //= 3
    cv2.putText(picture, text, (x, y), _FONT, scale, _WHITE, 1, cv2.LINE_AA)


def enlarge(frame: Frame, factor: int) -> Frame:
    """Repeat every pixel ``factor`` times in both directions."""
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def side_by_side(pictures: Sequence[Frame], titles: Sequence[str] = (), gap_px: int = 4) -> Frame:
    """Put pictures of one height next to each other, titles above them: truth | prediction."""
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) != 1:
        raise ValueError(f"expected pictures of one height, got heights {sorted(heights)}")
    cells = list(pictures)
    if titles:
        cells = [_titled(picture, title) for picture, title in zip(pictures, titles, strict=True)]
    gap = np.full((cells[0].shape[0], gap_px, 3), 255, np.uint8)
    return np.concatenate([part for cell in cells for part in (cell, gap)][:-1], axis=1)


def to_png(picture: Frame) -> bytes:
    """Encode a picture."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def to_jpeg(picture: Frame, quality: int = 88) -> bytes:
    """Encode a picture small."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)
    return encoded.tobytes()


def write_video(path: Path, frames: Sequence[Frame], frames_per_s: int = 6, min_side_px: int = 360) -> None:
    """Write frames of one size as an H.264 mp4 that browsers play.

    Small frames are enlarged by a whole factor until the shorter side has ``min_side_px``; an odd last row or
    column is repeated once, because the pixel format needs even sizes.

    Raises:
        ValueError: there is no frame, or sizes differ.
    """
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise ValueError(f"{path}: expected frames of one size, got {sorted(sizes)}")
    factor = max(1, math.ceil(min_side_px / min(frames[0].shape[:2])))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    _encode(part, [_even(enlarge(frame, factor)) for frame in frames], frames_per_s)
    part.replace(path)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str = "",
    axes: tuple[str, str] = ("step", "loss"),
    form: Literal["svg", "png"] = "svg",
) -> bytes:
    """Plot named series of (x, y) points and give the encoded picture; equal input gives equal bytes."""
    with _plot(title, axes, form) as (plot, encoded):
        for name, points in series.items():
            xs, ys = zip(*points, strict=True) if points else ((), ())
            plot.plot(xs, ys, label=name, linewidth=1.2)
        if series:
            plot.legend(frameon=False)
    return encoded.getvalue()


def histogram(
    values: Sequence[float],
    title: str = "",
    axes: tuple[str, str] = ("value", "count"),
    num_bins: int = 30,
    is_logarithmic: bool = True,
) -> bytes:
    """Plot how often values occur, by default on a logarithmic scale of counts, as SVG."""
    with _plot(title, axes, "svg") as (plot, encoded):
        whole = all(float(value).is_integer() for value in values)
        low, high = (min(values), max(values)) if len(values) else (0, 1)
        step = max(1, math.ceil((high - low + 1) / num_bins))
        bins = np.arange(low - 0.5, high + step, step) if whole else num_bins
        plot.hist(values, bins=bins, color="#1f6feb")
        plot.xaxis.get_major_locator().set_params(integer=whole, min_n_ticks=1)
        if is_logarithmic:
            plot.set_yscale("symlog", linthresh=1)
        else:
            plot.yaxis.get_major_locator().set_params(integer=True)
    return encoded.getvalue()


def bars(
    counts: Mapping[str, float], title: str = "", axis: str = "count", is_logarithmic: bool = True
) -> bytes:
    """Plot one number per name, the first on top, by default on a logarithmic scale, as SVG."""
    height = 1.2 + 0.22 * max(4, len(counts))
    with _plot(title, (axis, ""), "svg", height) as (plot, encoded):
        plot.barh(list(counts), list(counts.values()), color="#1f6feb")
        plot.invert_yaxis()
        if is_logarithmic:
            plot.set_xscale("symlog", linthresh=1)
        plot.tick_params(axis="y", labelsize=8)
    return encoded.getvalue()


@contextmanager
def _plot(
    title: str, axes: tuple[str, str], form: Literal["svg", "png"], height: float = 4.0
) -> Iterator[tuple[Any, io.BytesIO]]:
    """Give empty axes; they are encoded into the buffer when the block ends."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    encoded = io.BytesIO()
    with rc_context({"svg.hashsalt": "univs", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, height), layout="constrained")
        plot = figure.subplots()
        plot.set(title=title, xlabel=axes[0], ylabel=axes[1])
        plot.grid(visible=True, alpha=0.3)
        yield plot, encoded
        figure.savefig(encoded, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})


def _inner_point(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Give the pixel (x, y) of a mask that is farthest from its border."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    return int(x) - 1, int(y) - 1


def _titled(picture: Frame, title: str) -> Frame:
    strip = np.full((_TEXT_HEIGHT_PX + 8, picture.shape[1], 3), 40, np.uint8)
    write_text(strip, title, (picture.shape[1] // 2, strip.shape[0] // 2))
    return np.concatenate((strip, picture))


def _even(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encode(path: Path, frames: Sequence[Frame], frames_per_s: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_s), options={"crf": "18"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
