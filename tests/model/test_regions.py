import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from univs.model.position import SinePosition
from univs.model.regions import (
    box_regions,
    cells_inside,
    choose_cells,
    mask_boxes,
    mask_regions,
    point_regions,
    region_tokens,
    scribble_regions,
    tight_boxes,
)
from univs.model.types import Features, RegionTokens, VisualRegions

HEIGHT, WIDTH = 64, 96
POSITIONS = SinePosition(8, "arbitrary_t")


def coordinate_features() -> Features:
    """Features that say where they are: channels 0 to 2 of the stride-8 level are frame, row, column."""
    level = torch.zeros(1, 2, 8, HEIGHT // 8, WIDTH // 8)
    level[:, :, 0] = torch.arange(2.0)[:, None, None]
    level[:, :, 1] = torch.arange(HEIGHT // 8.0)[:, None]
    level[:, :, 2] = torch.arange(WIDTH // 8.0)
    return Features(levels=(level, level, level), mask=level, frame_indices=torch.tensor([[3, 11]]))


def regions(
    masks: torch.Tensor | None = None,
    boxes: torch.Tensor | None = None,
    points: torch.Tensor | None = None,
    key_frame: int = 1,
) -> VisualRegions:
    """One kind of prompts on a clip of two frames."""
    given = next(x for x in (masks, boxes, points) if x is not None)
    num = given.shape[0]
    kind = 0 if masks is not None else 1 if boxes is not None else 2
    return VisualRegions(
        masks=(torch.zeros(num, HEIGHT, WIDTH, dtype=torch.bool) if masks is None else masks)[None],
        boxes=(torch.zeros(num, 4) if boxes is None else boxes)[None],
        points=(torch.full((num, 2), -1.0) if points is None else points)[None],
        kinds=torch.full((1, num), kind),
        key_frames=torch.full((1, num), key_frame),
        valid=torch.ones(1, num, dtype=torch.bool),
    )


def take(what: VisualRegions, num_tokens: int = 16, seed: int = 0) -> RegionTokens:
    return region_tokens(
        coordinate_features(), what, POSITIONS, num_tokens, torch.Generator().manual_seed(seed)
    )


def rectangle(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_mask_tokens_are_distinct_cells_inside_at_the_key_frame():
    tokens = take(regions(masks=torch.stack([rectangle(8, 16, 56, 64)])))
    frame, row, column = tokens.features[0, 0, 0, :, :3].unbind(-1)
    assert (frame == 1).all()
    assert ((row >= 1) & (row < 7) & (column >= 2) & (column < 8)).all()
    assert len({(int(r), int(c)) for r, c in zip(row, column, strict=True)}) == 16
    assert tokens.valid.all()


def test_token_positions_belong_to_their_cells_and_frame():
    features = coordinate_features()
    tokens = take(regions(masks=torch.stack([rectangle(8, 16, 56, 64)])))
    cells = POSITIONS.cells(features.frame_indices, HEIGHT // 8, WIDTH // 8)
    index = (tokens.features[..., 1] * (WIDTH // 8) + tokens.features[..., 2]).long().flatten()
    torch.testing.assert_close(tokens.positions.flatten(0, 3), cells[0, 1, index])


@pytest.mark.parametrize(("row", "column"), [(0, 0), (13, 22), (63, 95), (7, 8)])
def test_single_pixel_mask_still_has_its_cell(row, column):
    tokens = take(regions(masks=torch.stack([rectangle(row, column, row + 1, column + 1)])))
    assert tokens.valid.all()
    assert (tokens.features[..., 1] == row // 8).all()
    assert (tokens.features[..., 2] == column // 8).all()


def test_large_neighbor_does_not_hide_a_small_mask():
    both = torch.stack([rectangle(0, 0, 64, 48), rectangle(60, 90, 62, 92)])
    inside = cells_inside(regions(masks=both), HEIGHT // 8, WIDTH // 8)
    assert inside.sum(-1).tolist() == [[48, 1]]


def test_few_cells_are_repeated_in_turn():
    tokens = take(regions(masks=torch.stack([rectangle(0, 0, 8, 24)])), num_tokens=7)
    columns = tokens.features[0, 0, 0, :, 2].tolist()
    assert sorted(columns[:3]) == [0, 1, 2]
    assert columns[3:6] == columns[:3]
    assert columns[6] == columns[0]


def test_box_owns_every_cell_it_touches_and_no_other():
    box = torch.tensor([[12 / WIDTH, 8 / HEIGHT, 33 / WIDTH, 16 / HEIGHT]])
    inside = cells_inside(regions(boxes=box), HEIGHT // 8, WIDTH // 8)[0, 0].unflatten(0, (8, 12))
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[1, 1:5] = True
    assert torch.equal(inside, expected)


def test_point_reads_between_cells():
    # Halfway between the centers of columns 2 and 3, on the center of row 4.
    tokens = take(regions(points=torch.tensor([[24 / WIDTH, 36 / HEIGHT]])))
    expected = torch.tensor([1.0, 4.0, 2.5]).expand(16, 3)
    torch.testing.assert_close(tokens.features[0, 0, 0, :, :3], expected, atol=1e-4, rtol=0)
    time = POSITIONS.time(torch.tensor([[11]]))[0]
    place = POSITIONS.points(torch.tensor([[24 / WIDTH, 36 / HEIGHT]]), time)
    torch.testing.assert_close(tokens.positions[0, 0, 0], place.expand(16, -1))


@pytest.mark.parametrize(
    "absent",
    [
        regions(masks=torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)),
        regions(boxes=torch.tensor([[0.5, 0.5, 0.5, 0.7]])),
        regions(points=torch.tensor([[-1.0, -1.0]])),
    ],
)
def test_absent_region_has_no_valid_token(absent):
    tokens = take(absent)
    assert not tokens.valid.any()
    assert tokens.features.abs().max() == 0


def test_generator_decides_the_choice():
    large = regions(masks=torch.stack([rectangle(0, 0, 64, 96)]))
    assert torch.equal(take(large, seed=1).features, take(large, seed=1).features)
    assert not torch.equal(take(large, seed=1).features, take(large, seed=2).features)


def test_choice_is_uniform_over_the_cells_inside():
    inside = torch.zeros(4000, 10, dtype=torch.bool)
    inside[:, 3:7] = True
    cells = choose_cells(inside, 2, torch.Generator().manual_seed(0))
    counts = torch.bincount(cells.flatten(), minlength=10)
    assert counts[:3].sum() == counts[7:].sum() == 0
    # 8000 draws over four cells: mean 2000, standard deviation below 45.
    assert ((counts[3:7] - 2000).abs() < 200).all()


def test_more_tokens_than_cells_of_the_map_repeat():
    cells = choose_cells(torch.ones(1, 1, 6, dtype=torch.bool), 15, None)
    assert torch.bincount(cells.flatten(), minlength=6).tolist().count(3) == 3
    assert cells.shape == (1, 1, 15)


def test_tight_boxes_are_half_open():
    masks = torch.zeros(3, 8, 10, dtype=torch.bool)
    masks[0, 2:5, 3:4] = True
    masks[1] = True
    boxes = tight_boxes(masks)
    expected = torch.tensor([[0.3, 2 / 8, 0.4, 5 / 8], [0, 0, 1, 1], [0, 0, 0, 0]])
    torch.testing.assert_close(boxes, expected)


def test_mask_boxes_have_exclusive_ends_and_empty_masks_no_area():
    masks = torch.zeros(3, 8, 9, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[2] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 9, 5], [0, 0, 0, 0], [0, 0, 9, 8]]


def stroke() -> torch.Tensor:
    """A line one pixel wide that runs down through rows 0 to 7 of cells and right along row 7 of them."""
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[0:61, 3] = True
    mask[60, 3:40] = True
    return mask


def test_scribble_owns_every_cell_it_touches():
    what = scribble_regions(stroke()[None, None], torch.tensor([[1]]))
    inside = cells_inside(what, HEIGHT // 8, WIDTH // 8)[0, 0].unflatten(0, (8, 12))
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[:, 0] = True
    expected[7, :5] = True
    assert torch.equal(inside, expected)
    tokens = take(what, num_tokens=12)
    cells = {(int(row), int(column)) for row, column in tokens.features[0, 0, 0, :, 1:3]}
    assert cells == {(row, 0) for row in range(8)} | {(7, column) for column in range(5)}
    assert tokens.valid.all()


def every_kind() -> VisualRegions:
    """Two clips with a mask, a scribble, a box and a point each, at both frames."""
    frames = torch.tensor([[0], [1]])
    masks = torch.stack([rectangle(8, 16, 24, 32), rectangle(40, 48, 64, 64)])[:, None]
    box = torch.tensor([0.5, 0.25, 0.75, 0.5]).expand(2, 1, 4)
    point = torch.tensor([[0.25, 0.5], [0.5, 0.25]])[:, None]
    return (
        mask_regions(masks, frames)
        .cat(scribble_regions(stroke().expand(2, 1, -1, -1), 1 - frames))
        .cat(box_regions(box, frames, (HEIGHT, WIDTH)))
        .cat(point_regions(point, 1 - frames, (HEIGHT, WIDTH)))
    )


def clip(what: VisualRegions, index: int, prompt: int) -> VisualRegions:
    pick = (slice(index, index + 1), slice(prompt, prompt + 1))
    names = ("masks", "boxes", "points", "kinds", "key_frames", "valid")
    return VisualRegions(**{name: getattr(what, name)[pick] for name in names})


def two_clips() -> Features:
    one = coordinate_features()
    level = torch.cat([one.levels[0], one.levels[0] + 100])
    return Features(levels=(level, level, level), mask=level, frame_indices=torch.tensor([[3, 11], [4, 9]]))


def test_all_kinds_at_once_give_what_each_gives_alone():
    what, features, num_tokens = every_kind(), two_clips(), 48
    together = region_tokens(features, what, POSITIONS, num_tokens, torch.Generator().manual_seed(0))
    assert together.valid.all()
    for index in range(2):
        one = Features(
            levels=(features.levels[0][index : index + 1],) * 3,
            mask=features.mask[index : index + 1],
            frame_indices=features.frame_indices[index : index + 1],
        )
        for prompt in range(4):
            alone = region_tokens(one, clip(what, index, prompt), POSITIONS, num_tokens, None)
            # More tokens than cells: the same cells, in an order of chance.
            for ours, theirs in ((together.features, alone.features), (together.positions, alone.positions)):
                got, expected = ours[index, prompt, 0].unique(dim=0), theirs[0, 0, 0].unique(dim=0)
                torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_regions_from_user_input_know_what_is_empty():
    frames = torch.zeros(1, 2, dtype=torch.long)
    size = (HEIGHT, WIDTH)
    boxes = torch.tensor([[[0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.3, 0.9]]])
    points = torch.tensor([[[1.0, 0.0], [1.1, 0.5]]])
    scribbles = torch.stack([stroke(), torch.zeros_like(stroke())])[None]
    for what in (
        box_regions(boxes, frames, size),
        point_regions(points, frames, size),
        scribble_regions(scribbles, frames),
    ):
        assert what.valid.tolist() == [[True, False]]
        assert what.masks.shape == (1, 2, HEIGHT, WIDTH)
        assert take(what).valid.any(-1).flatten().tolist() == [True, False]


class NoHostSync(TorchDispatchMode):
    """Fail on whatever would make a GPU wait for its host: values read, sizes that depend on values."""

    READING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        assert not name.startswith(self.READING), f"{name} reads values on the host"
        if name in ("index", "index_put", "index_put_"):
            indices = [index for index in arguments[1] if index is not None]
            assert all(index.dtype != torch.bool for index in indices), "indexing by bool finds a size"
        return function(*arguments, **(keywords or {}))


def test_sampling_never_waits_for_the_host():
    features, generator = two_clips(), torch.Generator().manual_seed(0)
    with NoHostSync():
        tokens = region_tokens(features, every_kind(), POSITIONS, 16, generator)
    assert tokens.valid.all()
    with pytest.raises(AssertionError, match="reads values"), NoHostSync():
        bool(tokens.valid.all())
    with pytest.raises(AssertionError, match="finds a size"), NoHostSync():
        tokens.features[tokens.valid]
