import dataclasses

import numpy as np
import pytest

from preprocessing.worlds import (
    CLASS_NAMES,
    COLORS,
    THING_NAMES,
    World,
    WorldConfig,
    plan_world,
    render_world,
)
from preprocessing.worlds.paths import Arena, MotionPath, Occupant, draw_path

CONFIG = WorldConfig()
NUM_WORLDS = 60


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [render_world(CONFIG, "train", index, 11) for index in range(NUM_WORLDS)]


def visible_areas(world: World, object_id: int) -> np.ndarray:
    return (world.ids == object_id).sum(axis=(1, 2))


def test_world_same_arguments_gives_equal_pixels_in_any_order():
    forward = [render_world(CONFIG, "train", index, 5) for index in (0, 1, 2)]
    backward = [render_world(CONFIG, "train", index, 5) for index in (2, 1, 0)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.frames.tobytes() == other.frames.tobytes()
        assert one.ids.tobytes() == other.ids.tobytes()
        assert (one.video_id, one.objects) == (other.video_id, other.objects)


@pytest.mark.parametrize("change", [{"seed": 6}, {"index": 1}, {"split": "val"}])
def test_world_other_argument_gives_other_world(change):
    base = {"config": CONFIG, "split": "train", "index": 0, "seed": 5}
    one, other = render_world(**base), render_world(**{**base, **change})
    assert one.video_id != other.video_id
    assert (one.frames != other.frames).mean() > 0.5
    assert one.objects != other.objects


def test_worlds_of_both_splits_share_no_object_description():
    plans = {
        split: [thing for index in range(200) for thing in plan_world(CONFIG, split, index, 1).things]
        for split in ("train", "val")
    }
    continuous = (
        "rgb",
        "aspect",
        "corner",
        "texture_phase",
        "texture_frequency",
        "start_size_px",
        "path",
        "spin",
    )
    for name in continuous:
        train, val = ({getattr(thing, name) for thing in plans[split]} for split in ("train", "val"))
        assert len(train) > 400
        assert not train & val, name


def test_world_arrays_have_declared_form(worlds):
    for world in worlds:
        assert world.frames.dtype == np.uint8
        assert world.frames.shape == (12, 96, 128, 3)
        assert world.ids.dtype == np.int32
        assert world.ids.shape == (12, 96, 128)


def test_ids_cover_every_pixel_and_every_object_is_seen(worlds):
    for world in worlds:
        ids = [entry.object_id for entry in world.objects]
        assert ids == list(range(1, len(ids) + 1))
        assert set(np.unique(world.ids)) == set(ids)
        assert 2 <= len(world.things) <= 4
        assert [entry.is_thing for entry in world.objects] == [True] * len(world.things) + [False] * 2


def test_objects_are_classed_and_colored(worlds):
    for world in worlds:
        for entry in world.objects:
            assert entry.class_name == CLASS_NAMES[entry.class_index]
            assert (entry.class_name in THING_NAMES) == entry.is_thing
            assert (entry.color in COLORS) == entry.is_thing
        first, second = (entry.class_index for entry in world.objects if not entry.is_thing)
        assert first != second
    things = [entry for world in worlds for entry in world.things]
    assert {entry.class_name for entry in things} == set(THING_NAMES)
    assert {entry.color for entry in things} == set(COLORS)


def test_color_and_class_are_independent():
    counts = np.zeros((len(THING_NAMES), len(COLORS)))
    for index in range(600):
        thing = plan_world(CONFIG, "train", index, 2).things[0]
        counts[thing.class_index, list(COLORS).index(thing.color)] += 1
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 37.7  # the 0.1 % point of 15 degrees of freedom


def test_painted_color_is_the_named_one(worlds):
    """The mean color of a thing's pixels lies nearest to its word in hue."""
    words = list(COLORS)
    directions = np.array([COLORS[word] for word in words], dtype=float)
    directions -= directions.mean(axis=1, keepdims=True)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hits = total = 0
    for world in worlds:
        for entry in world.things:
            mean = world.frames[world.ids == entry.object_id].mean(axis=0)
            hits += words[int(np.argmax(directions @ (mean - mean.mean())))] == entry.color
            total += 1
    assert hits == total


def test_lone_disc_mask_has_the_area_and_center_of_its_plan():
    config = WorldConfig(min_objects=1, max_objects=1)
    checked = 0
    for index in range(24):
        world = render_world(config, "train", index, 3)
        disc = world.things[0].description
        if THING_NAMES[disc.class_index] != "disc":
            continue
        for frame in range(config.num_frames):
            center, size = disc.path.positions(12)[frame], disc.sizes_px(12)[frame]
            if not (size * 0.6 < center).all() or not (center < np.array([127, 95]) - size * 0.6).all():
                continue
            mask = world.ids[frame] == 1
            area = np.pi / 4 * size**2 * disc.aspect
            assert mask.sum() == pytest.approx(area, rel=0.06)
            rows, columns = np.nonzero(mask)
            assert (columns.mean(), rows.mean()) == pytest.approx(tuple(center), abs=0.6)
            checked += 1
    assert checked >= 20


def test_some_objects_enter_late_and_some_leave(worlds):
    areas = [visible_areas(world, entry.object_id) for world in worlds for entry in world.things]
    enters = np.mean([area[0] == 0 for area in areas])
    leaves = np.mean([area[-1] == 0 for area in areas])
    assert 0.03 < enters < 0.3
    assert 0.03 < leaves < 0.3


def test_every_world_shows_an_object_in_every_frame(worlds):
    for world in worlds:
        assert ((world.ids <= len(world.things)).sum(axis=(1, 2)) > 0).all()


def test_occlusion_is_common_but_not_dominant(worlds):
    """Compare each mask with the mask the object has where nobody is in front of it."""
    hidden = []
    for world in worlds:
        for entry in world.things:
            whole = np.pi / 4 * entry.description.sizes_px(12) ** 2
            centers = entry.description.path.positions(12)
            margin = np.minimum(centers, np.array([127, 95]) - centers).min(axis=1)
            inside = margin > entry.description.sizes_px(12) * 0.7
            area = visible_areas(world, entry.object_id)
            if inside.any():
                best = (area / whole)[inside].max()
                hidden.extend(1 - (area / whole)[inside] / best)
    share = np.mean(np.array(hidden) > 0.2)
    assert 0.02 < share < 0.25


def test_motion_is_one_to_four_pixels_per_frame_and_scale_changes(worlds):
    things = [entry.description for world in worlds for entry in world.things]
    speeds = np.array([thing.path.speed_px for thing in things])
    ratios = np.array([thing.size_ratio for thing in things])
    sizes = np.array([thing.sizes_px(12) for thing in things])
    assert speeds.min() >= 1
    assert speeds.max() <= 4
    assert ratios.max() <= 1.5 + 1e-9
    assert ratios.min() >= 1 / 1.5 - 1e-9
    assert (np.abs(np.log(ratios)) > 0.1).mean() > 0.4
    assert sizes.min() >= 16 - 1e-9
    assert sizes.max() <= 44.2


def test_path_steps_have_constant_speed_and_turn():
    path = MotionPath(x_px=40.0, y_px=30.0, anchor_frame=3.0, heading=0.7, speed_px=2.5, turn=0.1)
    positions = path.positions(10)
    assert positions[3] == pytest.approx((40.0, 30.0))
    steps = np.diff(positions, axis=0)
    chord = 2.5 / 0.05 * np.sin(0.05)  # chord of an arc of length 2.5 and angle 0.1
    assert np.linalg.norm(steps, axis=1) == pytest.approx(np.full(9, chord))
    headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    assert np.diff(headings) == pytest.approx(np.full(8, 0.1))
    assert headings[3] == pytest.approx(0.75)


def test_straight_path_advances_along_its_heading():
    path = MotionPath(x_px=0.0, y_px=0.0, anchor_frame=0.0, heading=np.pi / 2, speed_px=2.0, turn=0.0)
    assert path.positions(4) == pytest.approx(np.array([[0, 0], [0, 2], [0, 4], [0, 6]]))


def test_drawn_paths_begin_apart_from_each_other():
    arena = Arena(height=96, width=128, num_frames=12)
    touching = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        first = draw_path(rng, "stays", 12.0, [], arena).positions(12)
        second = draw_path(rng, "stays", 12.0, [Occupant(positions=first, radius_px=12.0)], arena).positions(
            12
        )
        touching += np.linalg.norm(first[0] - second[0]) < 24
        assert (second > 0).all()
        assert (second < np.array([128, 96])).all()
    assert touching == 0


def sentence_matches(text: str, world: World, object_id: int) -> bool:
    """Decide from class, color and masks alone whether a sentence is true of an object of its video."""
    words = text.removeprefix("the ").split()
    areas = {entry.object_id: visible_areas(world, entry.object_id) for entry in world.things}
    entry = world.things[object_id - 1]
    noun = next(place for place, word in enumerate(words) if word in COLORS)
    if (entry.color, entry.class_name) != (words[noun], words[noun + 1]):
        return False
    seen = np.flatnonzero(areas[object_id])
    first, last = (mask_center(world, object_id, frame) for frame in (seen[0], seen[-1]))
    group = [e.object_id for e in world.things if (e.color, e.class_name) == (entry.color, entry.class_name)]
    sizes = {i: np.sqrt(np.quantile(areas[i][areas[i] > 0], 0.75)) for i in group}
    checks = {
        "large": sizes[object_id] == max(sizes.values()),
        "small": sizes[object_id] == min(sizes.values()),
        "moving left": last[0] < first[0],
        "moving right": last[0] > first[0],
        "moving up": last[1] < first[1],
        "moving down": last[1] > first[1],
        "on the left": first[0] == min(first_center(world, i)[0] for i in group) and first[0] < 64,
        "on the right": first[0] == max(first_center(world, i)[0] for i in group) and first[0] > 64,
        "at the top": first[1] == min(first_center(world, i)[1] for i in group) and first[1] < 48,
        "at the bottom": first[1] == max(first_center(world, i)[1] for i in group) and first[1] > 48,
    }
    phrases = [" ".join(words[:noun]), " ".join(words[noun + 2 :])]
    return all(bool(checks[phrase]) for phrase in phrases if phrase)


def mask_center(world: World, object_id: int, frame: int) -> tuple[float, float]:
    rows, columns = np.nonzero(world.ids[frame] == object_id)
    return float(columns.mean()), float(rows.mean())


def first_center(world: World, object_id: int) -> tuple[float, float]:
    return mask_center(world, object_id, int(np.flatnonzero(visible_areas(world, object_id))[0]))


def test_expressions_name_exactly_one_object():
    config = WorldConfig(twin_rate=0.6)
    sentences: list[str] = []
    for index in range(80):
        world = render_world(config, "train", index, 21)
        texts = [text for entry in world.things for text in entry.expressions]
        assert len(texts) == len(set(texts))
        for entry in world.things:
            assert len(entry.expressions) <= 2
            for text in entry.expressions:
                named = [e.object_id for e in world.things if sentence_matches(text, world, e.object_id)]
                assert named == [entry.object_id], (index, text, named)
        sentences += texts
    kinds = ("large", "small", "moving", "on the", "at the")
    assert all(any(kind in text for text in sentences) for kind in kinds)


def test_nearly_every_object_has_an_expression(worlds):
    counts = [len(entry.expressions) for world in worlds for entry in world.things]
    assert np.mean([count > 0 for count in counts]) > 0.9
    assert np.mean(counts) > 1.4


@pytest.mark.parametrize(
    ("height", "width", "num_frames"), [(64, 64, 1), (64, 96, 3), (96, 128, 40), (192, 256, 5)]
)
def test_world_other_sizes_stay_readable(height, width, num_frames):
    config = WorldConfig(height=height, width=width, num_frames=num_frames)
    for index in range(4):
        world = render_world(config, "val", index, 0)
        assert world.ids.shape == (num_frames, height, width)
        things = (world.ids <= len(world.things)).mean(axis=(1, 2))
        assert things.min() > 0.005
        assert things.max() < 0.7
        assert not any("moving" in text for e in world.things for text in e.expressions) or num_frames > 1


@pytest.mark.parametrize(
    "change",
    [
        {"height": 16},
        {"num_frames": 0},
        {"min_objects": 0},
        {"min_objects": 5},
        {"min_size_fraction": 0.5},
        {"max_size_fraction": 1.5},
    ],
)
def test_world_config_impossible_values_are_refused(change):
    with pytest.raises(ValueError, match="got"):
        dataclasses.replace(CONFIG, **change)
