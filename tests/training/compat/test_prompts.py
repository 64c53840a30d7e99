import pytest
import torch

from univs.draws import Draws
from univs.model.position import SinePosition
from univs.model.regions_compat import KeyFrame
from univs.training.compat.prompts import draw_box_tokens, draw_mask_tokens, draw_tokens, extreme_cells

HEIGHT, WIDTH, CHANNELS, TOKENS = 8, 12, 8, 6


class ChosenKinds(Draws):
    """Draw the kinds of prompts from a list: below 1/4 a point, below 1/2 a box, else a mask."""

    def __init__(self, kinds):
        super().__init__(torch.Generator().manual_seed(0))
        self.kinds = torch.tensor(kinds)

    def rand(self, *shape, device=None):
        return self.kinds if shape == self.kinds.shape else super().rand(*shape, device=device)


@pytest.fixture
def frame():
    """Give a frame whose features tell the block of four columns and whose positions tell the cell."""
    blocks = (torch.arange(WIDTH) // 4 + 1.0).expand(CHANNELS, HEIGHT, WIDTH)
    cells = torch.arange(HEIGHT * WIDTH)[:, None] + 1.0
    return KeyFrame(
        source=blocks.contiguous(),
        cell_positions=cells.expand(-1, CHANNELS),
        time=torch.zeros(CHANNELS),
        positions=SinePosition(CHANNELS, "arbitrary_t"),
    )


def _masks(*blocks):
    """Fill the middle of blocks of four columns, eight pixels a cell."""
    masks = torch.zeros(len(blocks), HEIGHT * 8, WIDTH * 8, dtype=torch.bool)
    for mask, block in zip(masks, blocks, strict=True):
        if block is not None:
            mask[8:56, block * 32 + 8 : block * 32 + 24] = True
    return masks


def test_tokens_of_mixed_kinds_have_the_content_of_other_objects(frame):
    # Objects 0, 1, 2 get a box, a mask and a point, so content comes in the order 1, 2, 0.
    features, positions = draw_tokens(frame, _masks(0, 1, 2), TOKENS, ChosenKinds([0.3, 0.9, 0.1]))
    assert features[:, 0, 0].tolist() == [2, 3, 1]
    columns = (positions[:2, :, 0] - 1) % WIDTH
    assert ((columns[0] >= 0) & (columns[0] <= 4)).all()
    assert ((columns[1] >= 5) & (columns[1] < 7)).all()


def test_tokens_of_kinds_in_order_have_their_own_content(frame):
    features, _ = draw_tokens(frame, _masks(0, 1, 2), TOKENS, ChosenKinds([0.9, 0.1, 0.3]))
    assert features[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", [0.1, 0.3, 0.9])
def test_tokens_of_an_object_out_of_sight_are_blank(frame, kind):
    features, positions = draw_tokens(frame, _masks(None, 1), TOKENS, ChosenKinds([kind, kind]))
    assert not features[0].any()
    assert not positions[0].any()
    assert features[1].all()


def test_mask_tokens_of_an_object_between_cell_corners_have_a_place_but_no_content(frame):
    masks = _masks(1, 1)
    masks[0] = False
    masks[0, 18:22, 50:54] = True
    features, positions = draw_mask_tokens(frame, masks, TOKENS, ChosenKinds([0.9]))
    assert not features[0].any()
    assert positions[0].any()


def test_mask_tokens_of_a_large_object_start_with_its_outermost_cells(frame):
    masks = _masks(1)
    masks[0, 3 * 8 : 4 * 8, 32 : 32 + 8] = True
    draws = ChosenKinds([0.9])
    _, positions = draw_mask_tokens(frame, masks, TOKENS, draws)
    assert (positions[0, :4, 0] - 1).tolist() == [3 * 12 + 4, 1 * 12 + 5, 1 * 12 + 6, 6 * 12 + 5]
    _, unordered = draw_mask_tokens(frame, masks, TOKENS, ChosenKinds([0.9]), extremes=False)
    assert torch.equal(unordered[:, 4:], positions[:, 4:])
    assert not torch.equal(unordered[:, :4], positions[:, :4])


def test_extreme_cells_are_the_first_to_be_read():
    inside = torch.zeros(4, 5, dtype=torch.bool)
    inside[1, 2:4] = inside[2, 1:4] = inside[3, 1] = True
    assert extreme_cells(inside.flatten(), 5).tolist() == [2 * 5 + 1, 1 * 5 + 2, 1 * 5 + 3, 3 * 5 + 1]


def test_box_tokens_come_from_a_window_one_cell_too_far(frame):
    masks = torch.zeros(1, HEIGHT * 8, WIDTH * 8, dtype=torch.bool)
    masks[0, 16:24, 24:40] = True  # Row 2, columns 3 and 4.
    _, positions = draw_box_tokens(frame, masks, TOKENS, ChosenKinds([0.3]))
    assert {int(cell) - 1 for cell in positions[0, :, 0]} == {3 * 12 + 4, 3 * 12 + 5}
