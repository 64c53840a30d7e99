import torch

from univs.inference.overlap import (
    box_ious,
    box_overlaps,
    clip_ious,
    frame_ious,
    mask_quality,
    pixel_owners,
    suppress,
)


def _rectangle(height, width, top, bottom, left, right):
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_mask_quality_counts_sure_among_possible_pixels():
    logits = torch.tensor([[[2.0, 0.0, -0.5, -3.0]], [[-5.0, -5.0, -5.0, -5.0]], [[3.0, 3.0, 1.0, -1.0]]])
    assert torch.allclose(mask_quality(logits), torch.tensor([1 / 3, 0.0, 2 / 3]))


def test_frame_and_clip_ious_match_set_arithmetic():
    generator = torch.Generator().manual_seed(1)
    first = torch.rand((3, 2, 5, 7), generator=generator) > 0.5
    second = torch.rand((4, 2, 5, 7), generator=generator) > 0.3
    first[2] = False
    second[3] = False
    per_frame, whole = frame_ious(first, second), clip_ious(first, second)
    for n in range(3):
        for m in range(4):
            for t in range(2):
                union = (first[n, t] | second[m, t]).sum().item()
                expected = (first[n, t] & second[m, t]).sum().item() / union if union else 0.0
                assert abs(per_frame[n, m, t].item() - expected) < 1e-6
            union = (first[n] | second[m]).sum().item()
            expected = (first[n] & second[m]).sum().item() / union if union else 0.0
            assert abs(whole[n, m].item() - expected) < 1e-6


def test_box_ious_of_shifted_boxes_match_hand_computed_values():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    ious = box_ious(boxes, boxes)
    assert torch.allclose(ious[0], torch.tensor([1.0, 8 / 24, 0.0]))
    assert ious[2, 2] == 0


def test_tiny_object_has_full_box_overlap_with_itself():
    tube = _rectangle(100, 100, 50, 51, 50, 51)[None, None]
    assert box_overlaps(tube).item() == 1.0


def test_box_overlaps_take_the_frame_that_overlaps_most():
    still = torch.stack([_rectangle(10, 10, 0, 4, 0, 4), _rectangle(10, 10, 0, 4, 0, 4)])
    moving = torch.stack([_rectangle(10, 10, 6, 10, 6, 10), _rectangle(10, 10, 0, 4, 0, 2)])
    assert box_overlaps(torch.stack([still, moving]))[0, 1].item() == 0.5


def test_suppress_drops_what_overlaps_a_better_one_even_a_dropped_one():
    scores = torch.tensor([0.5, 0.9, 0.7, 0.1])
    overlaps = torch.eye(4)
    overlaps[1, 2] = overlaps[2, 1] = 0.9  # 2 falls to 1
    overlaps[2, 0] = overlaps[0, 2] = 0.9  # 0 falls to 2, though 2 fell
    assert suppress(scores, overlaps, 0.8).tolist() == [False, True, False, True]


def test_suppress_of_equal_scores_keeps_exactly_the_first():
    assert suppress(torch.tensor([0.5, 0.5]), torch.ones(2, 2), 0.9).tolist() == [True, False]


def test_pixel_owners_let_the_weighted_probability_win():
    logits = torch.tensor([[[3.0, 3.0, -1.0, -1.0]], [[1.0, 1.0, 1.0, -1.0]]])
    owners, won = pixel_owners(torch.tensor([0.5, 1.0]), logits)
    # 0.5 * sigmoid(3) = 0.476 loses to sigmoid(1) = 0.731
    assert owners.tolist() == [[1, 1, 1, -1]]
    assert won.tolist() == [0.0, 1.0]
    owners, won = pixel_owners(torch.tensor([1.0, 1.0]), logits)
    assert owners.tolist() == [[0, 0, 1, -1]]
    assert torch.allclose(won, torch.tensor([1.0, 1 / 3]))


def test_pixel_owners_without_pixels_wins_nothing():
    _, won = pixel_owners(torch.tensor([1.0]), torch.full((1, 2, 2), -4.0))
    assert won.tolist() == [0.0]
