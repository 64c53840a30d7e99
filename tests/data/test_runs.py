import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from univs.data.runs import Grid, Toggles, num_planes, paint, row_bytes


@st.composite
def mask_stacks(draw) -> np.ndarray:
    height, width, number = draw(st.integers(1, 30)), draw(st.integers(1, 30)), draw(st.integers(1, 20))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    share = generator.choice([0.0, 0.05, 0.5, 1.0], size=number)
    return (generator.random((number, height, width)) < share[:, None, None]).astype(np.uint8)


def encode(masks: np.ndarray) -> list[str]:
    return [coco_mask.encode(np.asfortranarray(mask))["counts"].decode() for mask in masks]


@given(mask_stacks(), st.data())
def test_painting_gives_the_sampled_pixels_of_the_decoded_masks(masks, data):
    number, height, width = masks.shape
    sampled = [
        np.sort(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=40)))
        for size in (height, width)
    ]
    grid = Grid(rows=sampled[0], columns=sampled[1], is_flipped=data.draw(st.booleans()))
    # What was there before must not show.
    planes = np.full((num_planes(number), 1, len(grid.rows) + 3, 48), 165, dtype=np.uint8)
    paint(Toggles.parse(encode(masks), height, width), grid, planes)
    planes = planes[:, 0]
    expected = masks[:, grid.rows][:, :, grid.columns]
    expected = expected[:, :, ::-1] if grid.is_flipped else expected
    for index in range(number):
        bits = planes[index // 8] >> (index % 8) & 1
        assert np.array_equal(bits[: len(grid.rows), : len(grid.columns)], expected[index])
    assert not planes[:, len(grid.rows) :].any()
    assert not planes[:, :, len(grid.columns) :].any()


@given(mask_stacks(), st.integers(1, 4))
def test_frames_painted_together_are_those_painted_alone(masks, num_frames):
    number, height, width = masks.shape
    counts = encode(np.concatenate([np.roll(masks, time, axis=1) for time in range(num_frames)]))
    toggles, grid = Toggles.parse(counts, height, width), Grid.whole(height, width)
    together = np.zeros((num_planes(number), num_frames, height, 32), dtype=np.uint8)
    paint(toggles, grid, together)
    for time in range(num_frames):
        alone = np.zeros((num_planes(number), 1, height, 32), dtype=np.uint8)
        paint(toggles.part(time * number, (time + 1) * number), grid, alone)
        assert np.array_equal(together[:, time], alone[:, 0])


@given(mask_stacks())
def test_a_mask_that_is_missing_has_no_pixels_and_keeps_its_place(masks):
    counts = encode(masks)
    holey = [text for pair in zip(counts, [None] * len(counts), strict=True) for text in pair]
    found = Toggles.parse(holey, *masks.shape[1:])
    whole = Toggles.parse(counts, *masks.shape[1:])
    assert found.num_masks == 2 * len(counts)
    assert np.array_equal(np.diff(found.offsets)[0::2], np.diff(whole.offsets))
    assert not np.diff(found.offsets)[1::2].any()
    assert np.array_equal(found.positions, whole.positions)


@given(mask_stacks())
def test_toggles_are_the_ends_of_the_runs_of_the_decoded_masks(masks):
    toggles = Toggles.parse(encode(masks), *masks.shape[1:])
    for index, mask in enumerate(masks):
        covered = np.pad(mask.T.ravel(), 1)
        part = toggles.part(index, index + 1)
        pairs = part.positions.reshape(-1, 2)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        assert np.array_equal(pairs.ravel(), np.flatnonzero(covered[1:] != covered[:-1]))


@given(mask_stacks(), st.floats(0, 1))
def test_a_share_of_the_pixels_finds_the_pixel(masks, share):
    toggles = Toggles.parse(encode(masks), *masks.shape[1:])
    for index, mask in enumerate(masks):
        pixels = np.argwhere(mask.T)
        found = toggles.pixel(index, share)
        if not len(pixels):
            assert found is None
        else:
            assert found == tuple(pixels[min(int(share * len(pixels)), len(pixels) - 1)])


def test_large_masks_are_read_right():
    mask = np.zeros((3000, 2000), dtype=np.uint8)
    mask[1500:2999, 3:1999] = 1
    planes = np.zeros((1, 1, 3000, 2000), dtype=np.uint8)
    paint(Toggles.parse(encode(mask[None]), 3000, 2000), Grid.whole(3000, 2000), planes)
    assert np.array_equal(planes[0, 0], mask)


def test_no_masks_paint_nothing():
    planes = np.ones((1, 1, 4, 8), dtype=np.uint8)
    paint(Toggles.parse([None, None], 4, 4), Grid.whole(4, 4), planes)
    assert not planes.any()
    assert Toggles.parse([], 4, 4).num_masks == 0


@pytest.mark.parametrize("counts", ["", "P", "\x7f2", "0 ", "ééé", "oooooooooooooo0"])
def test_damaged_counts_are_refused(counts):
    with pytest.raises(ValueError, match="run-length mask is (cut off or )?damaged"):
        Toggles.parse([encode(np.ones((1, 4, 4), np.uint8))[0], counts], 4, 4)


@pytest.mark.parametrize(("width", "num_pixels"), [(5, 20), (3, 12)])
def test_a_mask_of_another_size_is_refused(width, num_pixels):
    fitting = encode(np.eye(4, dtype=np.uint8)[None])
    with pytest.raises(ValueError, match=f"does not fit 4x4: it runs to pixel {num_pixels} of 16"):
        Toggles.parse([*fitting, *encode(np.ones((1, 4, width), np.uint8)), *fitting], 4, 4)


@given(st.integers(1, 5000))
def test_rows_hold_their_pixels_in_an_odd_number_of_cache_lines(width):
    assert 0 <= row_bytes(width) - width < 128
    assert row_bytes(width) % 128 == 64
