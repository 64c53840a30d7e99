import torch

from univs.inference.given import GivenMasks, exclusive_masks, known_masks
from univs.inference.window import UNSEEN_LOGIT, MaskWindow


def test_exclusive_masks_follow_probability_and_not_order():
    logits = torch.tensor([[1.0, 2.0, -1.0, 3.0], [2.0, 1.0, -2.0, -3.0]])
    assert exclusive_masks(logits).int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]


def test_known_masks_put_given_pixels_before_predicted_ones():
    window = MaskWindow.empty(2, (2, 2), torch.device("cpu")).moved(4, 6)
    window = window.accumulated(torch.full((2, 2, 2, 2), 3.0), torch.tensor([[True, True], [False, False]]))
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[1, :4] = True
    given = GivenMasks(frames=torch.tensor([0, 5]), masks=masks)
    known = known_masks(window, given, torch.tensor([4, 5]))
    assert known[0, 0].all()
    assert not known[1, 0].any()
    assert (known[1, 1] == masks[1]).all()
    assert (known[0, 1] == ~masks[1]).all()


def test_window_averages_predictions_and_slides():
    window = MaskWindow.empty(2, (1, 1), torch.device("cpu")).moved(0, 3)
    every = torch.ones(2, 3, dtype=torch.bool)
    window = window.accumulated(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 1, 1), every)
    window = window.moved(2, 4)
    accepted = torch.tensor([[True, True], [False, False]])
    window = window.accumulated(torch.full((2, 2, 1, 1), 5.0), accepted)
    assert window.mean_logits()[..., 0, 0].tolist() == [[4.0, 5.0], [3.0, UNSEEN_LOGIT]]
    grown = window.grown(1).mean_logits()[..., 0, 0]
    assert grown[2].tolist() == [UNSEEN_LOGIT] * 2
    assert window.selected(torch.tensor([1])).mean_logits()[..., 0, 0].tolist() == [[3.0, UNSEEN_LOGIT]]
