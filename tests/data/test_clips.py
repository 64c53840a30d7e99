from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from univs.data.augment import AugmentConfig, draw_framing
from univs.data.batch import ClipTargets
from univs.data.clips import ClipSample, ClipSource, ClipSpec, build_clip, draw_clip, padded_size
from univs.data.samples import HeldSample, IndexedSample
from univs.data.sampling import clip_generator
from univs.labels import Category, LabelSpace
from univs.schema import Completeness, Expression, Region

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
FULL = AugmentConfig(short_edges_px=(24,), max_long_edge_px=48, brightness=0, contrast=0, saturation=0)
SPACE = LabelSpace(
    name="zoo",
    categories=(
        Category(category_id=3, name="cat", is_thing=True),
        Category(category_id=17, name="sky", is_thing=False),
    ),
)


@dataclass(frozen=True)
class Clip:
    """A clip without its padding, as training sees it."""

    key: str
    frames: torch.Tensor
    frame_indices: torch.Tensor
    targets: ClipTargets


def unpack(sample: ClipSample) -> Clip:
    height, width = sample.height, sample.width
    targets = sample.targets.unpack(height, width)
    inside = (..., slice(height), slice(width))
    return Clip(
        key=sample.key,
        frames=sample.frames[:, :height, :width],
        frame_indices=sample.frame_indices,
        targets=replace(targets, masks=targets.masks[inside], ignore=targets.ignore[inside]),
    )


def build(release, seed=0, row_index=0, augment=STILL, **changes):
    spec, seeds = ClipSpec(augment=augment, **changes), (seed, 0, 0)
    framing = ClipSource.of(release, spec).frame(row_index, seeds)
    sample = IndexedSample(release=release, row_index=row_index)
    space = release.manifest.label_space
    return unpack(build_clip(sample, spec, framing, space, clip_generator(*seeds)))


def build_held(record, frame, seed=0, augment=STILL, space=None, **changes):
    """Build a clip of a record that was never packed, all its frames alike."""
    spec = ClipSpec(augment=augment, **changes)
    sample = HeldSample(key="held", record=record, frames=(frame,) * record.num_frames)
    generator = np.random.default_rng(seed)
    framing = draw_framing(
        augment, (record.height, record.width), generator, is_moving=spec.frames_per_clip > 1
    )
    return unpack(build_clip(sample, spec, framing, space, generator))


def draw(release, row_index, seeds, spec):
    source = ClipSource.of(release, spec)
    return draw_clip(source, row_index, seeds, padded_size([source.frame(row_index, seeds)]))


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


def test_objects_of_single_rows_are_kept_wherever_they_lie(maker):
    rows = [maker.rectangle(4, top, 9, 1) for top in range(SIZE[0])]
    record = maker.record(2, [maker.track(top + 1, [rows[top], "A"]) for top in range(SIZE[0])])
    sample = build(maker.open([record]), frames_per_clip=2)
    assert sample.targets.object_ids.tolist() == list(range(1, SIZE[0] + 1))
    assert torch.equal(sample.targets.masks[:, 0], as_mask(rows))


def test_an_object_outside_the_crop_is_left_out(maker):
    cropped = replace(STILL, crop_probability=1, crop_min_fraction=0.3, short_edges_px=(12,))
    tracks = [maker.track(i + 1, [maker.rectangle(8 * i, 0, 2, 24)]) for i in range(4)]
    release = maker.open([maker.record(1, tracks)], task="sot")
    samples = [build(release, seed, augment=cropped) for seed in range(8)]
    assert all(sample.targets.masks.flatten(1).any(1).all() for sample in samples)
    assert min(len(sample.targets.object_ids) for sample in samples) < len(tracks)


def test_labels_and_things_come_from_the_label_space(maker, boxes):
    tracks = [maker.track(1, [boxes[0]], category_id=17), maker.track(2, [boxes[1]], category_id=3)]
    release = maker.open([maker.record(1, tracks, label_space="zoo")], space=SPACE)
    targets = build(release).targets
    assert targets.labels.tolist() == [1, 0]
    assert targets.is_thing.tolist() == [False, True]


def test_a_category_outside_the_label_space_is_refused(maker, boxes):
    record = maker.record(1, [maker.track(1, [boxes[0]], category_id=4)], label_space="zoo")
    with pytest.raises(ValueError, match="sample held: .*category 4 is not in label space 'zoo'"):
        build_held(record, maker.encode_png(np.zeros((*SIZE, 3), np.uint8)), space=SPACE)


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


@pytest.mark.parametrize("is_classed", [True, False])
def test_objects_beyond_the_cap_are_ignored_only_where_queries_are_judged(maker, is_classed):
    cells = [maker.rectangle(4 * i, 4 * j, 3, 3) for i in range(8) for j in range(6)]
    tracks = [
        maker.track(i + 1, [cell], category_id=3 if is_classed else None) for i, cell in enumerate(cells)
    ]
    space = SPACE if is_classed else None
    record = maker.record(1, tracks, label_space="zoo" if is_classed else None)
    release = maker.open([record], space=space)
    kept_ids = set()
    for seed in range(4):
        targets = build(release, seed, max_objects=5).targets
        ids = targets.object_ids.tolist()
        assert ids == sorted(set(ids))
        assert len(ids) == 5
        kept = np.any([cells[i - 1] for i in ids], axis=0)
        assert torch.equal(targets.masks.any(0)[0], as_mask(kept))
        dropped = np.any(cells, axis=0) & ~kept
        assert torch.equal(targets.ignore[0], as_mask(dropped & is_classed))
        kept_ids |= set(ids)
    assert len(kept_ids) > 5


def test_masks_beyond_the_cap_are_never_read(maker, boxes):
    garbage = replace(maker.track(2, [boxes[1]]), rles=("!",))
    expression = Expression(expression_id="0", text="the first", object_ids=(1,))
    record = maker.record(1, [maker.track(1, [boxes[0]]), garbage], expressions=(expression,))
    frame = maker.encode_png(np.zeros((*SIZE, 3), np.uint8))
    assert build_held(record, frame, max_objects=1).targets.object_ids.tolist() == [1]
    with pytest.raises(ValueError, match="cut off or damaged"):
        build_held(record, frame, max_objects=2)


@pytest.mark.parametrize(("num_objects", "kept"), [(101, 40), (100, 100)])
def test_a_crowded_image_keeps_its_trusted_machine_made_masks(maker, num_objects, kept):
    scores = [(0.98, 0.95)] * 40 + [(0.97, 0.95)] * 30 + [(0.98, 0.9)] * (num_objects - 70)
    tracks = [
        maker.track(i + 1, [maker.rectangle(i % 30, i // 30, 2, 2)], stability_score=s, predicted_iou=p)
        for i, (s, p) in enumerate(scores)
    ]
    targets = build(maker.open([maker.record(1, tracks)], task="sot"), max_objects=200).targets
    assert targets.object_ids.tolist() == list(range(1, kept + 1))
    assert not targets.ignore.any()


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
    mirrored = build(release, augment=replace(STILL, flip_probability=1))
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
        sample = build(release, seed, augment=augment, frames_per_clip=3)
        seen = sample.frames.float().mean(-1) > 100
        assert (seen ^ sample.targets.masks[0]).float().mean() < 0.04
        assert seen.any()


def test_crops_keep_an_object(maker):
    tiny = maker.rectangle(29, 1, 2, 2)
    release = maker.open([maker.record(2, [maker.track(1, ["A", tiny])])])
    augment = AugmentConfig(short_edges_px=(48,), max_long_edge_px=100, crop_probability=1)
    for seed in range(40):
        targets = build(release, seed, augment=augment, frames_per_clip=2).targets
        assert targets.object_ids.tolist() == [1]


def test_an_empty_detection_clip_is_legal(maker):
    release = maker.open([maker.record(2)])
    sample = draw(release, 0, (0, 0, 0), ClipSpec(frames_per_clip=2, augment=STILL))
    targets = unpack(sample).targets
    assert targets.masks.shape == (0, 2, *SIZE)
    assert sample.num_redraws == 0
    assert not targets.ignore.any()


@pytest.mark.parametrize("task", ["sot", "grounding"])
def test_a_prompt_task_draws_again_and_counts_it(maker, boxes, task):
    expression = Expression(expression_id="0", text="box", object_ids=(1,))
    crowd = maker.track(1, [boxes[1]], is_crowd=True)
    records = [maker.record(1, [crowd], item_id=f"empty{i}", expressions=(expression,)) for i in range(3)]
    full = maker.record(1, [maker.track(1, [boxes[0]])], item_id="full", expressions=(expression,))
    release = maker.open([*records, full], task=task)
    empty = next(i for i, row in enumerate(release.rows) if row.item_id != "full")
    spec = ClipSpec(augment=STILL)
    sample = draw(release, empty, (0, 5, 1), spec)
    assert "full" in sample.key
    assert sample.num_redraws > 0
    again = draw(release, empty, (0, 5, 1), spec)
    assert (again.key, again.num_redraws) == (sample.key, sample.num_redraws)


@pytest.mark.parametrize("task", ["sot", "grounding"])
def test_samples_without_anything_to_prompt_with_are_not_in_the_order(maker, boxes, task):
    expression = Expression(expression_id="0", text="box", object_ids=(1,))
    full = maker.record(1, [maker.track(1, [boxes[0]])], item_id="full", expressions=(expression,))
    release = maker.open([maker.record(1, item_id="empty"), full], task=task)
    rows = ClipSource.of(release, ClipSpec()).rows
    assert [release.rows[row].item_id for row in rows.tolist()] == ["full"]
    assert len(ClipSource.of(maker.open([maker.record(1, dataset="other")]), ClipSpec()).rows) == 1


def test_a_prompt_task_without_any_object_gives_up(maker, boxes):
    with pytest.raises(ValueError, match="none of its 1 samples has anything to prompt with"):
        ClipSource.of(maker.open([maker.record(1)], task="sot"), ClipSpec())
    crowd = maker.track(1, [boxes[1]], is_crowd=True)
    release = maker.open([maker.record(1, [crowd], dataset="crowds")], task="sot")
    with pytest.raises(ValueError, match="50 clips in a row without anything to prompt with"):
        draw(release, 0, (0, 0, 0), ClipSpec(augment=STILL))


def test_a_sample_without_ground_truth_is_refused(maker):
    release = maker.open([maker.record(1, ground_truth="none")])
    with pytest.raises(ValueError, match=r"handmade-train-item.*no ground truth"):
        build(release)


@pytest.mark.parametrize(
    ("shape", "message"), [((9, 9, 3), "is 9x9, the record says 24x32"), (None, "cannot decode")]
)
@pytest.mark.parametrize("encode", ["encode_png", "encode_jpeg"])
def test_a_frame_that_contradicts_its_record_is_refused(maker, encode, shape, message):
    content = getattr(maker, encode)(np.zeros(shape, np.uint8)) if shape else b"garbage"
    with pytest.raises(ValueError, match=f"sample held: .*{message}"):
        build_held(maker.record(1), content)


def test_a_jpeg_decoded_at_an_eighth_is_still_checked_against_its_record(maker):
    record = maker.record(1, height=240, width=320)
    small = AugmentConfig(short_edges_px=(24,), max_long_edge_px=32, crop_probability=0, flip_probability=0)
    with pytest.raises(ValueError, match="is 248x320, the record says 240x320"):
        build_held(record, maker.encode_jpeg(np.zeros((248, 320, 3), np.uint8)), augment=small)


@pytest.mark.parametrize("encode", ["encode_png", "encode_jpeg"])
def test_masks_lie_on_painted_objects_however_small_frames_are_decoded(maker, encode):
    mask = np.zeros((203, 331), dtype=bool)
    mask[31:120, 57:200] = True
    painted = getattr(maker, encode)(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    record = maker.record(1, [maker.track(1, [mask])], height=203, width=331)
    for seed in range(20):
        edge = (20, 40, 80, 160)[seed % 4]
        augment = replace(
            FULL, short_edges_px=(edge,), max_long_edge_px=2 * edge, rotation_degrees=seed % 2 * 15.0
        )
        clip = build_held(record, painted, seed, augment=augment, frames_per_clip=3)
        seen = clip.frames.float().mean(-1) > 127
        wrong = (seen ^ clip.targets.masks[0]) & ~clip.targets.ignore
        inner = (slice(None), slice(1, -1), slice(1, -1))
        assert not (wrong & ~outline(clip.targets.masks[0]))[inner].any()


def outline(masks: torch.Tensor) -> torch.Tensor:
    """Give the pixels of [T, h, w] with another value beside them."""
    grown, shrunk = (torch.nn.functional.max_pool2d(sign * masks.float(), 3, 1, 1) for sign in (1, -1))
    return grown + shrunk > 0


def test_small_targets_are_decoded_from_low_frequencies(maker):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    still = replace(STILL, short_edges_px=(32,))
    record = maker.record(1, height=256, width=256)
    jpeg = build_held(record, maker.encode_jpeg(noise), augment=still).frames[0].numpy()
    means = noise.reshape(32, 8, 32, 8, 3).mean((1, 3))
    assert np.abs(jpeg - means).max() < 20


@pytest.mark.parametrize("range_frames", [3, 20])
def test_clips_reach_over_the_borders_of_chunks(maker, range_frames):
    masks = [maker.rectangle(i, 3, 4, 4) for i in range(13)]
    record = maker.record(13, [maker.track(1, masks)])
    pixels = [np.full((*SIZE, 3), 10 * i, np.uint8) for i in range(13)]
    frames = {"item": [maker.encode_png(frame) for frame in pixels]}
    release = maker.open([record], frames=frames, max_frames_per_chunk=4, frames_per_shard=4)
    assert len(release.rows) == 4
    seen, partners = set(), set()
    for seed in range(120):
        row = seed % 4
        clip = build(release, seed, row, frames_per_clip=4, frame_range_frames=range_frames)
        indices = clip.frame_indices.tolist()
        own = range(4 * release.rows[row].chunk_index, 4 * release.rows[row].chunk_index + 4)
        assert any(max(abs(i - j) for j in indices) <= range_frames for i in indices if i in own)
        assert len(set(indices)) == 4
        seen |= set(indices)
        partners |= {(i // 4, j // 4) for i in indices for j in indices}
        for time, index in enumerate(indices):
            assert (clip.frames[time] == 10 * index).all()
            assert torch.equal(clip.targets.masks[0, time], as_mask(masks[index]))
    assert seen == set(range(13))
    assert {(0, 1), (1, 2), (2, 3)} <= partners


FEDERATED = Completeness(is_federated=True, negative_category_ids=(17,), not_exhaustive_category_ids=(5,))


@pytest.mark.parametrize(
    ("completeness", "judged"),
    [
        (Completeness(), None),
        (FEDERATED, [True, False, True, False]),
        (Completeness(is_federated=True), [True, True, False, False]),
        (Completeness(is_partial=True), [False] * 4),
        (Completeness(not_exhaustive_category_ids=(20,)), [True, True, True, False]),
    ],
)
def test_only_categories_that_were_looked_for_are_judged(maker, boxes, completeness, judged):
    names = {3: "cat", 5: "dog", 17: "sky", 20: "sea"}
    space = LabelSpace(
        name="zoo", categories=tuple(Category(category_id=i, name=n, is_thing=True) for i, n in names.items())
    )
    tracks = [maker.track(1, [boxes[0]], category_id=3), maker.track(2, [boxes[1]], category_id=5)]
    record = maker.record(1, tracks, label_space="zoo", completeness=completeness)
    found = build(maker.open([record], space=space)).targets.judged_labels
    assert (found if found is None else found.tolist()) == judged


def test_the_category_of_an_unknown_object_is_not_judged(maker, boxes):
    tracks = [maker.track(1, [boxes[0]] * 2, category_id=3), maker.track(2, ["U", "A"], category_id=17)]
    record = maker.record(2, tracks, label_space="zoo")
    targets = build(maker.open([record], space=SPACE), frames_per_clip=2).targets
    assert targets.judged_labels.tolist() == [True, False]
    assert not targets.ignore.any()


def test_impossible_clips_are_refused():
    with pytest.raises(ValueError, match="frames_per_clip >= 1"):
        ClipSpec(frames_per_clip=0)
