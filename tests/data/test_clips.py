from dataclasses import replace

import numpy as np
import pytest
import torch

from univs.data.augment import AugmentConfig
from univs.data.clips import ClipSpec, build_clip, draw_clip
from univs.data.sampling import clip_generator
from univs.labels import Category, LabelSpace
from univs.schema import Expression, Region

SIZE = (24, 32)
STILL = AugmentConfig(
    short_edges_px=(24,),
    max_long_edge_px=32,
    flip_probability=0,
    crop_probability=0,
    brightness=0,
    contrast=0,
    saturation=0,
    pseudo_motion=False,
)
SPACE = LabelSpace(
    name="zoo",
    categories=(
        Category(category_id=3, name="cat", is_thing=True),
        Category(category_id=17, name="sky", is_thing=False),
    ),
)


def build(release, seed=0, row_index=0, **changes):
    spec = ClipSpec(augment=STILL, **changes)
    return build_clip(release, row_index, spec, clip_generator(seed, 0, 0))


def as_mask(values) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values))


@pytest.fixture
def boxes(maker):
    """Give three disjoint rectangles."""
    return [maker.rectangle(2, 2, 6, 5), maker.rectangle(12, 4, 8, 8), maker.rectangle(24, 10, 6, 12)]


def test_unaugmented_clip_is_the_source(maker, boxes):
    record = maker.record(4, [maker.track(1, [boxes[0]] * 4), maker.track(2, ["A", boxes[1], "A", boxes[2]])])
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    release = maker.open([record], frames={"item": [maker.encode_png(frame) for frame in pixels]})
    sample = build(release, frames_per_clip=4)
    assert sample.key == release.rows[0].key
    assert sample.frame_indices.tolist() == [0, 1, 2, 3]
    assert torch.equal(sample.frames, torch.from_numpy(pixels))
    expected = np.zeros((2, 4, *SIZE), dtype=bool)
    expected[0], expected[1, 1], expected[1, 3] = boxes[0], boxes[1], boxes[2]
    assert torch.equal(sample.targets.masks, as_mask(expected))
    assert sample.targets.object_ids.tolist() == [1, 2]
    assert sample.targets.labels.tolist() == [-1, -1]
    assert sample.targets.is_thing.tolist() == [True, True]
    assert not sample.targets.ignore.any()


def test_labels_and_things_come_from_the_label_space(maker, boxes):
    tracks = [maker.track(1, [boxes[0]], category_id=17), maker.track(2, [boxes[1]], category_id=3)]
    release = maker.open([maker.record(1, tracks, label_space="zoo")], space=SPACE)
    targets = build(release).targets
    assert targets.labels.tolist() == [1, 0]
    assert targets.is_thing.tolist() == [False, True]


def test_a_category_outside_the_label_space_is_refused(maker, boxes):
    record = maker.record(1, [maker.track(1, [boxes[0]], category_id=4)], label_space="zoo")
    with pytest.raises(ValueError, match=r"handmade-train-item.*category 4 is not in label space 'zoo'"):
        build(maker.open([record], space=SPACE))


def test_crowd_void_and_unlabelled_pixels_are_not_judged(maker, boxes):
    crowd = maker.track(2, [boxes[1]], is_crowd=True)
    void = Region(kind="void", rles=(maker.encode_mask(boxes[2]),))
    release = maker.open([maker.record(1, [maker.track(1, [boxes[0]]), crowd], regions=(void,))])
    targets = build(release).targets
    assert targets.object_ids.tolist() == [1]
    assert torch.equal(targets.ignore[0], as_mask(boxes[1] | boxes[2]))


def test_a_kept_object_is_judged_under_a_crowd(maker, boxes):
    crowd = maker.track(2, [np.ones(SIZE, dtype=bool)], is_crowd=True)
    release = maker.open([maker.record(1, [maker.track(1, [boxes[0]]), crowd])])
    assert torch.equal(build(release).targets.ignore[0], as_mask(~boxes[0]))


@pytest.mark.parametrize("state", ["U", "I"])
def test_where_an_object_is_unknown_only_known_objects_are_judged(maker, boxes, state):
    tracks = [maker.track(1, [boxes[0]] * 2), maker.track(2, [boxes[1], state])]
    targets = build(maker.open([maker.record(2, tracks)]), frames_per_clip=2).targets
    assert not targets.ignore[0].any()
    assert torch.equal(targets.ignore[1], as_mask(~boxes[0]))


def test_unlabelled_frames_are_not_chosen(maker, boxes):
    record = maker.record(6, [maker.track(1, ["U", boxes[0], "U", "U", boxes[1], "U"])])
    frames = tuple(replace(f, labelled=f.index in (1, 4)) for f in record.frames)
    release = maker.open([replace(record, frames=frames)])
    for seed in range(5):
        assert set(build(release, seed, frames_per_clip=3).frame_indices.tolist()) == {1, 4}


def test_objects_beyond_the_cap_are_not_judged(maker):
    cells = [maker.rectangle(4 * i, 4 * j, 3, 3) for i in range(8) for j in range(6)]
    release = maker.open([maker.record(1, [maker.track(i + 1, [cell]) for i, cell in enumerate(cells)])])
    kept_ids = set()
    for seed in range(4):
        targets = build(release, seed, max_objects=5).targets
        ids = targets.object_ids.tolist()
        assert ids == sorted(set(ids))
        assert len(ids) == 5
        kept = np.any([cells[i - 1] for i in ids], axis=0)
        assert torch.equal(targets.masks.any(0)[0], as_mask(kept))
        assert torch.equal(targets.ignore[0], as_mask(np.any(cells, axis=0) & ~kept))
        kept_ids |= set(ids)
    assert len(kept_ids) > 5


def test_an_image_becomes_a_pseudo_clip(maker, boxes):
    release = maker.open([maker.record(1, [maker.track(1, [boxes[0]])])])
    sample = build(release, frames_per_clip=3)
    assert sample.frame_indices.tolist() == [0, 1, 2]
    assert torch.equal(sample.frames[0], sample.frames[2])
    assert sample.targets.visible.tolist() == [[True] * 3]


def test_a_video_taken_as_images_gives_one_frame_with_its_index(maker, boxes):
    release = maker.open([maker.record(9, [maker.track(1, [boxes[0]] * 9)])])
    starts = [build(release, seed, frames_per_clip=2, as_images=True).frame_indices for seed in range(12)]
    assert all(indices[1] == indices[0] + 1 for indices in starts)
    assert len({int(indices[0]) for indices in starts}) > 3


def test_expressions_point_at_their_rows(maker, boxes):
    tracks = [maker.track(i + 1, [box]) for i, box in enumerate(boxes)]
    expressions = (
        Expression(expression_id="0", text="the last", object_ids=(3,)),
        Expression(expression_id="1", text="the outer two", object_ids=(1, 3)),
        Expression(expression_id="2", text=" ", object_ids=(1,)),
        Expression(expression_id="3", text="both ends", object_ids=(3, 1)),
        Expression(expression_id="4", text="the first", object_ids=(1,)),
    )
    release = maker.open([maker.record(1, tracks, expressions=expressions)], task="grounding")
    targets = build(release).targets
    assert targets.expressions == ("the last", "the outer two", "both ends", "the first")
    named = targets.masks[targets.expression_objects, 0]
    assert torch.equal(named, as_mask([boxes[2], boxes[0] | boxes[2], boxes[0] | boxes[2], boxes[0]]))
    assert len(targets.object_ids) == len(set(targets.object_ids.tolist())) == 4


def test_expressions_of_unseen_or_dropped_objects_are_left_out(maker, boxes):
    tracks = [maker.track(1, [boxes[0]]), maker.track(2, ["A"]), maker.track(3, [boxes[2]], is_crowd=True)]
    expressions = tuple(
        Expression(expression_id=str(i), text=f"text {i}", object_ids=ids)
        for i, ids in enumerate([(1,), (2,), (3,), (1, 2), (1, 3)])
    )
    release = maker.open([maker.record(1, tracks, expressions=expressions)], task="grounding")
    targets = build(release).targets
    assert targets.expressions == ("text 0", "text 3")
    assert targets.expression_objects.tolist() == [0, 0]


def test_named_objects_survive_the_cap(maker):
    cells = [maker.rectangle(4 * i, 4, 3, 3) for i in range(8)]
    tracks = [maker.track(i + 1, [cell]) for i, cell in enumerate(cells)]
    expression = Expression(expression_id="0", text="the fifth", object_ids=(5,))
    release = maker.open([maker.record(1, tracks, expressions=(expression,))], task="grounding")
    for seed in range(6):
        targets = build(release, seed, max_objects=2).targets
        assert targets.object_ids[targets.expression_objects].tolist() == [5]


def test_a_mirrored_clip_mirrors_pixels_masks_and_words(maker, boxes):
    expression = Expression(expression_id="0", text="the bright box on the left", object_ids=(1,))
    record = maker.record(1, [maker.track(1, [boxes[0]])], expressions=(expression,))
    release = maker.open([record], task="grounding")
    plain = build(release)
    spec = ClipSpec(augment=replace(STILL, flip_probability=1))
    mirrored = build_clip(release, 0, spec, clip_generator(0, 0, 0))
    assert torch.equal(mirrored.frames, plain.frames.flip(2))
    assert torch.equal(mirrored.targets.masks, plain.targets.masks.flip(-1))
    assert mirrored.targets.expressions == ("the bright box on the right",)


def test_masks_stay_on_painted_objects_under_full_augmentation(maker, boxes):
    masks = [maker.rectangle(2 + 2 * i, 3, 9, 12) for i in range(5)]
    painted = [np.repeat(mask[..., None] * np.uint8(255), 3, axis=2) for mask in masks]
    frames = {"item": [maker.encode_png(frame) for frame in painted]}
    release = maker.open([maker.record(5, [maker.track(1, masks)])], frames=frames)
    augment = AugmentConfig(short_edges_px=(48, 72), max_long_edge_px=200)
    for seed in range(10):
        spec = ClipSpec(frames_per_clip=3, augment=augment)
        sample = build_clip(release, 0, spec, clip_generator(seed, 0, 0))
        seen = sample.frames.float().mean(-1) > 100
        assert (seen ^ sample.targets.masks[0]).float().mean() < 0.04
        assert seen.any()


def test_crops_keep_an_object(maker):
    tiny = maker.rectangle(29, 1, 2, 2)
    release = maker.open([maker.record(2, [maker.track(1, ["A", tiny])])])
    augment = AugmentConfig(short_edges_px=(48,), max_long_edge_px=100, crop_probability=1)
    for seed in range(40):
        spec = ClipSpec(frames_per_clip=2, augment=augment)
        assert build_clip(release, 0, spec, clip_generator(seed, 0, 0)).targets.object_ids.tolist() == [1]


def test_an_empty_detection_clip_is_legal(maker):
    release = maker.open([maker.record(2)])
    sample = draw_clip(release, 0, ClipSpec(frames_per_clip=2, augment=STILL), (0, 0, 0))
    assert sample.targets.masks.shape == (0, 2, *SIZE)
    assert sample.num_redraws == 0
    assert not sample.targets.ignore.any()


@pytest.mark.parametrize("task", ["sot", "grounding"])
def test_a_prompt_task_draws_again_and_counts_it(maker, boxes, task):
    expression = Expression(expression_id="0", text="box", object_ids=(1,))
    records = [maker.record(1, item_id=f"empty{i}") for i in range(3)]
    full = maker.record(1, [maker.track(1, [boxes[0]])], item_id="full", expressions=(expression,))
    release = maker.open([*records, full], task=task)
    empty = next(i for i, row in enumerate(release.rows) if row.item_id != "full")
    spec = ClipSpec(augment=STILL)
    sample = draw_clip(release, empty, spec, (0, 5, 1))
    assert "full" in sample.key
    assert sample.num_redraws > 0
    again = draw_clip(release, empty, spec, (0, 5, 1))
    assert (again.key, again.num_redraws) == (sample.key, sample.num_redraws)


def test_a_prompt_task_without_any_object_gives_up(maker):
    release = maker.open([maker.record(1)], task="sot")
    with pytest.raises(ValueError, match="anything to prompt with"):
        draw_clip(release, 0, ClipSpec(augment=STILL), (0, 0, 0))


def test_a_sample_without_ground_truth_is_refused(maker):
    release = maker.open([maker.record(1, ground_truth="none")])
    with pytest.raises(ValueError, match=r"handmade-train-item.*no ground truth"):
        build(release)


class SwappedFrames:
    """A store that answers every read of a frame with another image."""

    def __init__(self, inner, frame_offset: int, content: bytes) -> None:
        self.inner, self.frame_offset, self.content = inner, frame_offset, content

    def read(self, name: str, offset: int, size: int) -> bytes:
        return self.content if offset == self.frame_offset else self.inner.read(name, offset, size)


@pytest.mark.parametrize(
    ("shape", "message"), [((9, 9, 3), "is 9x9, the record says 24x32"), (None, "decode")]
)
def test_a_frame_that_contradicts_its_record_is_refused(maker, shape, message):
    release = maker.open([maker.record(1)])
    content = maker.encode_png(np.zeros(shape, np.uint8)) if shape else b"garbage"
    store = SwappedFrames(release.store, release.rows[0].frame_offsets[0], content)
    with pytest.raises(ValueError, match=f"handmade-train-item.*{message}"):
        build(replace(release, store=store))


def test_impossible_clips_are_refused():
    with pytest.raises(ValueError, match="frames_per_clip >= 1"):
        ClipSpec(frames_per_clip=0)
