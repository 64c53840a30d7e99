import numpy as np
import torch

from univs.data.augment import AugmentConfig
from univs.data.clips import ClipSpec, build_clip
from univs.data.collate import collate
from univs.data.images import to_tensor
from univs.data.sampling import clip_generator


def test_clips_of_two_sizes_are_padded_to_the_larger(maker):
    whole = np.ones((24, 32), dtype=bool)
    record = maker.record(3, [maker.track(1, [whole] * 3)])
    release = maker.open([record], task="sot")
    samples = [
        build_clip(
            release,
            0,
            ClipSpec(
                frames_per_clip=2,
                augment=AugmentConfig(short_edges_px=(edge,), max_long_edge_px=200, crop_probability=0),
            ),
            clip_generator(7, 0, slot),
        )
        for slot, edge in enumerate((24, 48))
    ]
    batch = collate(samples, 11, release.manifest)
    assert (batch.step, batch.dataset, batch.task) == (11, "handmade", "sot")
    assert batch.frames.shape == (2, 2, 3, 64, 64)
    assert batch.image_sizes.tolist() == [[24, 32], [48, 64]]
    assert torch.equal(batch.frames[0, :, :, :24, :32], to_tensor(samples[0].frames))
    assert not batch.frames[0, :, :, 24:].any()
    assert not batch.frames[0, :, :, :, 32:].any()
    for (height, width), targets in zip(batch.image_sizes.tolist(), batch.targets, strict=True):
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[:height, :width] = True
        assert torch.equal(targets.ignore, ~inside.expand(2, 64, 64))
        assert torch.equal(targets.masks, inside.expand(1, 2, 64, 64))
    assert batch.frame_indices.shape == (2, 2)
    assert batch.keys == (release.rows[0].key,) * 2
