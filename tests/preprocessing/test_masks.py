from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from preprocessing import masks as masks_module
from preprocessing.masks import (
    compress_counts,
    decode_mask,
    encode_label_map,
    encode_mask,
    mask_area,
    measure_masks,
    rasterize_polygons,
)

LABEL_MAPS = hnp.arrays(
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32]),
    shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 1, 2, 7, 200]),
)
MASKS = hnp.arrays(dtype=np.bool_, shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def reference_encode(mask):
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


@given(LABEL_MAPS)
def test_encode_label_map_any_map_equals_one_encode_per_value(labels):
    expected = {int(value): reference_encode(labels == value) for value in np.unique(labels)}
    encoded = encode_label_map(labels)
    assert encoded == expected
    assert list(encoded) == sorted(encoded)
    height, width = labels.shape
    assert all(mask_area(rle, height, width) == (labels == value).sum() for value, rle in encoded.items())


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64])
def test_encode_label_map_any_integer_type_and_layout_gives_the_same_strings(dtype):
    values = np.random.default_rng(0).integers(0, 2, (9, 14))
    expected = {int(value): reference_encode(values == value) for value in (0, 1)}
    labels = values.astype(dtype)
    for view in (labels, np.asfortranarray(labels), np.repeat(labels, 2, axis=1)[:, ::2]):
        assert encode_label_map(view) == expected
    labels.flags.writeable = False
    assert encode_label_map(labels) == expected


def test_encode_label_map_sixteen_bit_values_keeps_them_exact():
    labels = np.array([[0, 6100, 6101], [12499, 6100, 0]], dtype=np.uint16)
    encoded = encode_label_map(labels)
    assert list(encoded) == [0, 6100, 6101, 12499]
    np.testing.assert_array_equal(decode_mask(encoded[6100], 2, 3), labels == 6100)


@given(MASKS)
def test_encode_mask_any_mask_equals_pycocotools_and_decodes_back(mask):
    counts = encode_mask(mask)
    assert counts == reference_encode(mask)
    np.testing.assert_array_equal(decode_mask(counts, *mask.shape), mask)


@given(MASKS)
def test_mask_area_any_mask_equals_counting_pixels(mask):
    counts = encode_mask(mask)
    assert mask_area(counts, *mask.shape) == mask.sum()


@settings(max_examples=200)
@given(st.lists(MASKS, min_size=1, max_size=8), st.integers(0, 2**32))
def test_measure_masks_leaves_every_area_as_it_is_counted(masks, seed):
    # Sound masks of this size, of others, and damaged ones are measured together.
    strings = [encode_mask(mask) for mask in masks]
    generator = np.random.default_rng(seed)
    strings += [text[: len(text) // 2] for text in strings]
    strings += ["".join(generator.permutation(list(text))) for text in strings]
    height, width = masks[0].shape
    alone = [area_or_error(text, height, width) for text in strings]
    masks_module._areas.clear()
    measure_masks(strings, height, width)
    assert [area_or_error(text, height, width) for text in strings] == alone
    assert alone[0] == masks[0].sum()


def test_measure_masks_saves_parsing_each_again(monkeypatch):
    masks = np.random.default_rng(3).random((300, 30, 40)) > 0.6
    strings = [encode_mask(mask) for mask in masks]
    measure_masks(strings, 30, 40)
    monkeypatch.setattr(masks_module, "parse_runs", None)
    assert [mask_area(text, 30, 40) for text in strings] == masks.sum((1, 2)).tolist()


def area_or_error(text, height, width):
    area = None
    with suppress(ValueError):
        area = mask_area(text, height, width)
    return area


def test_mask_area_runs_of_many_characters_sums_them():
    # A 4000 x 5000 mask has runs far above one character's 5 bits, with both signs of differences.
    mask = np.zeros((4000, 5000), dtype=np.bool_)
    mask[10:3990, 100:103] = True
    mask[5, 4000] = True
    assert mask_area(encode_mask(mask), 4000, 5000) == 3980 * 3 + 1


def test_compress_counts_column_major_runs_fills_the_right_pixels():
    counts = compress_counts([1, 2, 3], 2, 3)
    np.testing.assert_array_equal(decode_mask(counts, 2, 3), [[False, True, False], [True, False, False]])


@pytest.mark.parametrize(
    ("runs", "message"),
    [([1, 2, 2], "runs sum to 5, expected 2 x 3 = 6"), ([7, -1], "run 1 is -1, expected >= 0")],
)
def test_compress_counts_wrong_runs_raises(runs, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        compress_counts(runs, 2, 3)


@pytest.mark.parametrize("counts", ["", "o", "not rle \x7f", "0", "PPYo1", "\u00e9", "oooooooooooo1"])
def test_decode_mask_corrupt_string_raises(counts):
    with pytest.raises(ValueError):  # noqa: PT011 - several messages, one type
        decode_mask(counts, 4, 4)


@settings(max_examples=300)
@given(st.text(alphabet=[chr(code) for code in range(48, 112)], min_size=1, max_size=12))
def test_decode_mask_random_string_raises_or_has_the_stated_area(counts):
    try:
        area = mask_area(counts, 6, 5)
    except ValueError:
        return
    assert decode_mask(counts, 6, 5).sum() == area


def test_decode_mask_transposed_size_of_same_area_still_has_its_area():
    mask = np.zeros((3, 5), dtype=np.bool_)
    mask[1, 1:4] = True
    assert decode_mask(encode_mask(mask), 5, 3).sum() == 3


def test_rasterize_polygons_overlapping_squares_gives_their_union():
    counts = rasterize_polygons([[1, 1, 4, 1, 4, 4, 1, 4], [2, 2, 6, 2, 6, 3, 2, 3]], 6, 8)
    expected = np.zeros((6, 8), dtype=np.bool_)
    expected[1:4, 1:4] = True
    expected[2:3, 2:6] = True
    np.testing.assert_array_equal(decode_mask(counts, 6, 8), expected)


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([1, 1, 2, 2], "polygon 1 has 4 values, expected an even number >= 6"),
        ([1, 1, 2, 2, 3, 1, 0], "polygon 1 has 7 values, expected an even number >= 6"),
        ([0, 0, 1, 1, 2, float("nan")], r"polygon 1 has a value that is not within -16\.\.16"),
        ([0, 0, 1, 1, 2, 1e12], r"polygon 1 has a value that is not within -16\.\.16"),
    ],
)
def test_rasterize_polygons_malformed_polygon_raises(polygon, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        rasterize_polygons([[0, 0, 1, 0, 1, 1], polygon], 4, 4)


def test_rasterize_polygons_none_raises():
    with pytest.raises(ValueError, match="^no polygon, expected at least one$"):
        rasterize_polygons([], 4, 4)
