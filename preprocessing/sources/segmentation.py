"""Turn a COCO-style ``segmentation`` field into a compressed run-length string."""

from typing import Any

from preprocessing.errors import ItemError
from preprocessing.masks import compress_counts, mask_area, rasterize_polygons


def segmentation_to_rle(segmentation: Any, height: int, width: int, where: str) -> str:
    """Encode compressed or uncompressed run lengths, or polygons, for an image of this size.

    Raises:
        ItemError: E111 another size, E112 corrupt run lengths, E117 a malformed polygon.
    """
    if isinstance(segmentation, list):
        try:
            return rasterize_polygons(segmentation, height, width)
        except (ValueError, TypeError) as error:
            raise ItemError("E117", f"{where}: {error}") from error
    _require_size(list(segmentation["size"]), height, width, where)
    try:
        return _compress(segmentation["counts"], height, width)
    except (ValueError, TypeError, OverflowError) as error:
        raise ItemError("E112", f"{where}: {error}") from error


def _compress(counts: str | list[int], height: int, width: int) -> str:
    if not isinstance(counts, str):
        return compress_counts(counts, height, width)
    mask_area(counts, height, width)
    return counts


def _require_size(size: list[int], height: int, width: int, where: str) -> None:
    if size != [height, width]:
        hint = "; looks transposed" if size == [width, height] else ""
        raise ItemError("E111", f"{where}: rle.size {size}, expected [{height}, {width}]{hint}")
