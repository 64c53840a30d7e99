import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from univs.run_lengths import count_pixels, measure_runs


def _encode(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


@given(masks=hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=12)))
def test_measured_areas_are_the_numbers_of_pixels(masks):
    areas = measure_runs([_encode(mask) for mask in masks], masks[0].size)
    assert areas.tolist() == masks.sum((1, 2)).tolist()


def test_more_strings_than_fit_one_group_are_measured_alike():
    masks = np.random.default_rng(0).random((400, 40, 30)) < 0.4
    assert measure_runs([_encode(mask) for mask in masks], 1200).tolist() == masks.sum((1, 2)).tolist()


@given(place=st.integers(0, 3), broken=st.sampled_from(["", "P137", "é", "\x7f", "s", "0", "00000000000"]))
def test_broken_strings_are_told_from_sound_ones(place, broken):
    mask = np.zeros((10, 10), bool)
    mask[2:5, 3:7] = True
    strings = [_encode(mask)] * 3
    strings.insert(place, broken)
    assert measure_runs(strings, 100).tolist() == [12 if text != broken else -1 for text in strings]


@pytest.mark.parametrize("num_pixels", [99, 101])
def test_mask_of_another_size_is_broken(num_pixels):
    assert measure_runs([_encode(np.ones((10, 10), bool))], num_pixels).tolist() == [-1]


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_run_lengths_cover_the_mask_they_are_of(size, share, seed):
    mask = np.asfortranarray(np.random.default_rng(seed).random(size) < share, np.uint8)
    counts = coco_mask.encode(mask)["counts"].decode()
    assert count_pixels(counts) == mask.size


@given(st.text(max_size=30))
def test_any_text_is_judged_without_an_error(text):
    found = count_pixels(text)
    assert found is None or found >= 0
