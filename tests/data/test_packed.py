import numpy as np
import torch

from univs.data.images import to_tensor
from univs.data.packed import PackedBatch, PackedTargets


def pack(masks: np.ndarray, rows: list[list[int]], ignore_bit: int) -> PackedTargets:
    """Pack bits [N, T, H, W] with rows that are unions of them."""
    num_planes = -(-len(masks) // 8)
    planes = np.zeros((num_planes, *masks.shape[1:]), dtype=np.uint8)
    for bit, mask in enumerate(masks):
        planes[bit // 8] |= mask.astype(np.uint8) << (bit % 8)
    members = torch.zeros(len(rows) + 1, num_planes, dtype=torch.uint8)
    for row, bits in enumerate([*rows, [ignore_bit]]):
        for bit in bits:
            members[row, bit // 8] |= 1 << (bit % 8)
    number = len(rows)
    return PackedTargets(
        planes=torch.from_numpy(planes),
        width=masks.shape[-1],
        members=members,
        labels=torch.arange(number),
        object_ids=torch.arange(number) + 1,
        is_thing=torch.ones(number, dtype=torch.bool),
        expression_objects=torch.zeros(0, dtype=torch.int64),
        expressions=(),
        judged_labels=None,
    )


def test_masks_come_back_with_unions_and_without_bits_that_no_row_names():
    masks = np.random.default_rng(0).random((12, 2, 6, 8)) < 0.3
    rows = [[0], [3], [9], [3, 9, 10]]
    targets = pack(masks, rows, 11).unpack(5, 7)
    expected = np.stack([masks[bits].any(0) for bits in rows])
    assert np.array_equal(targets.masks.numpy(), expected)
    ignore = masks[11] & ~expected.any(0)
    ignore[:, 5:] = True
    ignore[:, :, 7:] = True
    assert np.array_equal(targets.ignore.numpy(), ignore)
    assert targets.labels.tolist() == [0, 1, 2, 3]


def test_a_clip_without_objects_unpacks():
    targets = pack(np.zeros((1, 2, 4, 8), dtype=bool), [], 0).unpack(4, 8)
    assert targets.masks.shape == (0, 2, 4, 8)
    assert not targets.ignore.any()


def test_frames_are_normalized_and_padding_is_zero():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8))
    target = pack(np.zeros((1, 3, 8, 8), dtype=bool), [], 0)
    color = torch.tensor([[1.1, 0, 0, -5], [0.1, 0.9, 0, 0], [0, 0, 1, 3]])
    packed = PackedBatch(
        step=4,
        dataset="a",
        task="sot",
        label_space=None,
        frames=frames,
        colors=torch.stack([torch.eye(3, 4), color]),
        frame_indices=torch.zeros(2, 3, dtype=torch.int64),
        image_sizes=torch.tensor([[8, 8], [5, 6]]),
        targets=(target, target),
        keys=("x", "y"),
    )
    batch = packed.unpack()
    assert torch.equal(batch.frames[0], to_tensor(frames[0]))
    inner = frames[1, :, :5, :6].float()
    r, g, b = inner.unbind(-1)
    colored = torch.stack([1.1 * r - 5, 0.1 * r + 0.9 * g, b + 3], -1).clamp(0, 255)
    torch.testing.assert_close(batch.frames[1, :, :, :5, :6], to_tensor(colored))
    assert not batch.frames[1, :, :, 5:].any()
    assert not batch.frames[1, :, :, :, 6:].any()
    assert (batch.step, batch.keys) == (4, ("x", "y"))
    assert not batch.targets[0].ignore.any()
    assert batch.targets[1].ignore[:, 5:].all()
