import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from univs.data.masks import boxes_of, decode_rle, decode_rles, union_rle

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.booleans())


def encode_all(masks: np.ndarray) -> list[str]:
    return [coco_mask.encode(np.asfortranarray(m, dtype=np.uint8))["counts"].decode() for m in masks]


@given(MASKS)
def test_decode_returns_the_encoded_pixels(masks):
    decoded = decode_rles(encode_all(masks), *masks.shape[1:])
    assert decoded.dtype == bool
    assert np.array_equal(decoded, masks)


@given(MASKS)
def test_box_and_union_agree_with_pixels(masks):
    counts, (height, width) = encode_all(masks), masks.shape[1:]
    assert np.array_equal(decode_rle(union_rle(counts, height, width), height, width), masks.any(0))
    for mask, box in zip(masks, boxes_of(counts, height, width).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        if rows.size:
            left, top = columns.min(), rows.min()
            assert box == [left, top, columns.max() - left + 1, rows.max() - top + 1]
        else:
            assert box[2:] == [0, 0]


def test_no_masks_give_an_empty_stack():
    assert decode_rles([], 5, 7).shape == (0, 5, 7)
    assert boxes_of([], 5, 7).shape == (0, 4)


def test_decode_into_a_smaller_size_is_refused():
    with pytest.raises(ValueError, match="does not fit 3x3"):
        decode_rle(encode_all(np.ones((1, 4, 4), dtype=bool))[0], 3, 3)
