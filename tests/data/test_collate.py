import numpy as np
import torch

from univs.data.augment import AugmentConfig
from univs.data.clips import ClipSource, ClipSpec, draw_clip, padded_size
from univs.data.collate import collate
from univs.data.images import normalize_colored


def build(release, edge):
    augment = AugmentConfig(short_edges_px=(edge,), max_long_edge_px=200, crop_probability=0)
    source = ClipSource.of(release, ClipSpec(frames_per_clip=2, augment=augment))
    return draw_clip(source, 0, (7, 0, edge), padded_size([source.frame(0, (7, 0, edge))]))


def test_clips_of_two_sizes_are_padded_to_the_larger(maker):
    whole = np.ones((24, 32), dtype=bool)
    record = maker.record(3, [maker.track(1, [whole] * 3)])
    release = maker.open([record], task="sot")
    samples = [build(release, edge) for edge in (24, 48)]
    batch = collate(samples, 11, release.manifest).unpack()
    assert (batch.step, batch.dataset, batch.task) == (11, "handmade", "sot")
    assert batch.frames.shape == (2, 2, 3, 64, 64)
    assert batch.image_sizes.tolist() == [[24, 32], [48, 64]]
    assert torch.equal(
        batch.frames[0, :, :, :24, :32], normalize_colored(samples[0].frames[:, :24, :32], samples[0].color)
    )
    assert not batch.frames[0, :, :, 24:].any()
    assert not batch.frames[0, :, :, :, 32:].any()
    for (height, width), targets in zip(batch.image_sizes.tolist(), batch.targets, strict=True):
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[:height, :width] = True
        assert torch.equal(targets.ignore, ~inside.expand(2, 64, 64))
        assert torch.equal(targets.masks, inside.expand(1, 2, 64, 64))
    assert batch.frame_indices.shape == (2, 2)
    assert batch.keys == (release.rows[0].key,) * 2
