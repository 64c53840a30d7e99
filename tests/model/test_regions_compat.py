import pytest
import torch

from univs.draws import Draws
from univs.model.position import SinePosition
from univs.model.regions import box_regions, mask_regions, point_regions, scribble_regions
from univs.model.regions_compat import (
    central_pixel,
    corner_cells,
    first_clip_slots,
    mean_of_nonzero,
    original_region_tokens,
    shifted_box_cells,
)
from univs.model.types import Features, RegionTokens, VisualRegions

HEIGHT, WIDTH = 32, 48
POSITIONS = SinePosition(8, "arbitrary_t")
ROWS, COLUMNS = HEIGHT // 8, WIDTH // 8


class FirstDraws(Draws):
    """Draw zeros and the order in which things already are."""

    def __init__(self) -> None:
        pass

    def rand(self, *shape, device=None):
        return torch.zeros(shape, device=device)

    def randperm(self, num_items, *, device=None):
        return torch.arange(num_items, device=device)


def coordinate_features() -> Features:
    """Features that say where they are: channels 0 to 2 are frame, row, column, all counted from 1."""
    level = torch.zeros(1, 2, 8, ROWS, COLUMNS)
    level[:, :, 0] = torch.arange(1.0, 3)[:, None, None]
    level[:, :, 1] = torch.arange(1.0, ROWS + 1)[:, None]
    level[:, :, 2] = torch.arange(1.0, COLUMNS + 1)
    return Features(levels=(level, level, level), mask=level, frame_indices=torch.tensor([[3, 11]]))


def rectangle(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def as_masks(*masks: torch.Tensor, valid: bool = True) -> VisualRegions:
    regions = mask_regions(torch.stack(masks)[None], torch.ones(1, len(masks), dtype=torch.long))
    regions.valid[:] = valid
    return regions


def take(regions: VisualRegions, num_tokens: int = 6, draws: Draws | None = None) -> RegionTokens:
    return original_region_tokens(
        coordinate_features(), regions, POSITIONS, num_tokens, draws or FirstDraws()
    )


def places(tokens: RegionTokens, prompt: int) -> list[tuple[int, int]]:
    return [(int(row) - 1, int(column) - 1) for row, column in tokens.features[0, prompt, 0, :, 1:3]]


def test_mask_owns_cells_by_their_first_pixel_and_few_are_taken_in_turn():
    # Rows 8 to 16 hold the first pixels of rows 1 and 2, columns 9 to 33 those of 2, 3 and 4.
    tokens = take(as_masks(rectangle(8, 9, 17, 33)), num_tokens=8)
    cells = [(row, column) for row in (1, 2) for column in (2, 3, 4)]
    assert places(tokens, 0) == cells + cells[:2]
    assert (tokens.features[0, 0, 0, :, 0] == 2).all()
    expected = POSITIONS.cells(torch.tensor([[3, 11]]), ROWS, COLUMNS)[0, 1].unflatten(0, (ROWS, COLUMNS))
    picked = torch.stack([expected[cell] for cell in cells + cells[:2]])
    torch.testing.assert_close(tokens.positions[0, 0, 0], picked)


def test_larger_masks_are_subsampled_in_the_drawn_order():
    class Reversed(FirstDraws):
        def randperm(self, num_items, *, device=None):
            return torch.arange(num_items - 1, -1, -1, device=device)

    tokens = take(as_masks(rectangle(0, 0, 32, 16)), num_tokens=3, draws=Reversed())
    assert places(tokens, 0) == [(3, 1), (3, 0), (2, 1)]


def test_mask_between_first_pixels_gives_blank_tokens_at_a_central_pixel():
    hidden = rectangle(9, 17, 16, 24)
    tokens = take(as_masks(rectangle(0, 0, 8, 8), hidden))
    assert tokens.features[0, 1].abs().max() == 0
    # The box spans columns 17 to 24 and rows 9 to 16; the first pixel of its middle half is (11, 19).
    place = torch.tensor([[19.5 / WIDTH, 11.5 / HEIGHT]])
    expected = POSITIONS.points(place, POSITIONS.time(torch.tensor([[3, 11]]))[0, 1])
    torch.testing.assert_close(tokens.positions[0, 1, 0], expected.expand(6, -1))
    assert tokens.valid.all()


def test_every_cell_counts_where_all_masks_lie_between_first_pixels():
    assert corner_cells(torch.stack([rectangle(1, 1, 8, 8), rectangle(9, 9, 12, 12)])).all()
    mixed = corner_cells(torch.stack([rectangle(1, 1, 8, 8), rectangle(8, 8, 12, 12)]))
    assert mixed.sum(-1).tolist() == [0, 1]


def test_absent_mask_is_all_zero_and_padding_changes_nothing():
    both = take(as_masks(rectangle(0, 0, 16, 16), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)))
    assert both.features[0, 1].abs().max() == both.positions[0, 1].abs().max() == 0
    assert both.valid[0, :, 0, 0].tolist() == [True, False]
    padded = take(as_masks(rectangle(0, 0, 16, 16), valid=False))
    assert padded.features.abs().max() == padded.positions.abs().max() == 0


def test_box_window_is_shifted_by_a_cell():
    # In cells: columns 1 to 2.5, rows 1 to 3.
    box = torch.tensor([[1 / COLUMNS, 1 / ROWS, 2.5 / COLUMNS, 3 / ROWS]])
    inside = shifted_box_cells(box, ROWS, COLUMNS)[0].unflatten(0, (ROWS, COLUMNS))
    assert inside.nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_box_without_cells_reads_a_point_near_its_center():
    # The one cell it should have is the last column, which the shift passes by.
    box = torch.tensor([[[(COLUMNS - 0.5) / COLUMNS, 0.25, 1.0, 0.75]]])
    tokens = take(box_regions(box, torch.zeros(1, 1, dtype=torch.long), (HEIGHT, WIDTH)))
    point = torch.tensor([[1 - 0.375 * 0.5 / COLUMNS - 0.1875 / COLUMNS, 0.5 - 0.25 * 0.5]])
    time = POSITIONS.time(torch.tensor([[3, 11]]))[0, 0]
    torch.testing.assert_close(tokens.positions[0, 0, 0], POSITIONS.points(point, time).expand(6, -1))
    assert (tokens.features[0, 0, 0, :, 0] > 0).all()


def test_point_is_read_between_cells_and_outside_gives_nothing():
    points = torch.tensor([[[24 / WIDTH, 12 / HEIGHT], [-1.0, -1.0]]])
    regions = point_regions(points, torch.zeros(1, 2, dtype=torch.long), (HEIGHT, WIDTH))
    regions.valid[:] = True
    tokens = take(regions)
    expected = torch.tensor([1.0, 2.0, 3.5]).expand(6, 3)
    torch.testing.assert_close(tokens.features[0, 0, 0, :, :3], expected)
    assert tokens.positions[0, 1].abs().max() == 0


def test_scribble_owns_every_cell_it_touches():
    line = rectangle(9, 1, 10, 30)
    tokens = take(scribble_regions(line[None, None], torch.zeros(1, 1, dtype=torch.long)), num_tokens=4)
    assert places(tokens, 0) == [(1, 0), (1, 1), (1, 2), (1, 3)]


def test_empty_batches_give_empty_tokens():
    none = torch.zeros(1, 0, HEIGHT, WIDTH, dtype=torch.bool)
    assert take(mask_regions(none, torch.zeros(1, 0, dtype=torch.long))).features.shape == (1, 0, 1, 6, 8)


def test_same_generator_state_gives_the_same_tokens():
    def sample(seed: int) -> torch.Tensor:
        draws = Draws(torch.Generator().manual_seed(seed))
        return take(as_masks(rectangle(0, 0, 32, 48)), draws=draws).features

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


@pytest.mark.parametrize(
    ("mask", "row", "column"), [(rectangle(2, 4, 10, 12), 4, 6), (rectangle(3, 7, 4, 8), 3, 7)]
)
def test_central_pixel_lies_in_the_middle_of_its_box(mask, row, column):
    box = as_masks(mask).boxes[0, 0]
    expected = torch.tensor([(column + 0.5) / WIDTH, (row + 0.5) / HEIGHT])
    torch.testing.assert_close(central_pixel(mask, box, FirstDraws()), expected)


def test_mean_leaves_out_blank_tokens():
    tokens = torch.zeros(1, 1, 1, 3, 2)
    tokens[..., 0, :], tokens[..., 2, 0] = torch.tensor([1.0, 2.0]), 5.0
    assert mean_of_nonzero(tokens).flatten().tolist() == [3.0, 1.0]


def test_first_clip_has_the_first_slot_and_one_per_frame():
    values = torch.arange(2.0).reshape(1, 1, 2, 1, 1)
    slots = RegionTokens(features=values, positions=-values, valid=values[..., 0] >= 0)
    assert first_clip_slots(slots, 2).features.flatten().tolist() == [0, 0, 1]
    one = RegionTokens(
        features=values[:, :, 1:], positions=values[:, :, 1:], valid=values[:, :, 1:, :, 0] > 0
    )
    assert first_clip_slots(one, 3).features.flatten().tolist() == [1, 1, 1, 1]
