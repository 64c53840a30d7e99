"""What is kept for the backward pass, and what is worked out again."""

import torch
import torch.nn.functional as F

from univs.config import PixelDecoderConfig
from univs.model.pixel_decoder import PixelDecoderLayer
from univs.model.recompute import recomputed

SHAPES = ((4, 5), (8, 10), (16, 20))
NUM_CELLS = 20 + 80 + 320


def test_a_recomputed_function_gives_the_same_result_and_gradients():
    x, weight = torch.randn(8, 3, 6, 6, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)

    def convolve(x, weight):
        return F.conv2d(x.sigmoid(), 2 * weight)

    plain = torch.autograd.grad(convolve(x, weight).square().sum(), (x, weight))
    again = torch.autograd.grad(recomputed(convolve, x, weight).square().sum(), (x, weight))
    for expected, found in zip(plain, again, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_layer_of_the_pixel_decoder_keeps_three_maps_and_what_it_sampled():
    channels = 32
    layer = PixelDecoderLayer(channels, PixelDecoderConfig(ffn_dim=64))
    parameters = {parameter.data_ptr() for parameter in layer.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x = torch.randn(2, NUM_CELLS, channels, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x, torch.randn(NUM_CELLS, channels), SHAPES)
    # The inputs of the layer, its feed-forward net and its last norm; and the caller's positions, half a map.
    assert sum(tensor.numel() for tensor in kept.values()) < 3.6 * x.numel()
