"""Turn a COCO-style ``segmentation`` field into a compressed run-length string."""

from collections.abc import Iterable
from typing import Any

from preprocessing.errors import ItemError
from preprocessing.masks import compress_counts, mask_area, measure_masks, rasterize_polygons


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


def measure_segmentations(segmentations: Iterable[Any], height: int, width: int) -> None:
    """Check the compressed run lengths among ``segmentation`` fields together, before each is read.

    It changes the time ``segmentation_to_rle`` and ``mask_area`` take, nothing else; malformed fields are
    left for them to refuse.
    """
    counts = [field.get("counts") for field in segmentations if isinstance(field, dict)]
    measure_masks([text for text in counts if isinstance(text, str)], height, width)


def _compress(counts: str | list[int], height: int, width: int) -> str:
    if not isinstance(counts, str):
        return compress_counts(counts, height, width)
    mask_area(counts, height, width)
    return counts


def _require_size(size: list[int], height: int, width: int, where: str) -> None:
    if size != [height, width]:
        hint = "; looks transposed" if size == [width, height] else ""
        raise ItemError("E111", f"{where}: rle.size {size}, expected [{height}, {width}]{hint}")
