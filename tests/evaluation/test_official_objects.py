import shutil
from dataclasses import asdict, replace

import numpy as np
import object_cases as cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from univs.evaluation.benchmarks import BENCHMARKS, evaluate_video
from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case
from univs.label_spaces import builtin_spaces
from univs.predictions import ObjectVideo

EVERY = pytest.mark.parametrize("name", cases.BENCHMARKS)
SEEDS = st.integers(0, 2**32 - 1)


def _open(folders, name, **options):
    return open_case(OFFICIAL[name], *folders, ScoreOptions(**options))


def _compare(case):
    return [case.compare(index) for index in range(len(case.names))]


def _score(folders, name, **options):
    case = _open(folders, name, **options)
    return case.score(_compare(case))


def _same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert list(ours.values()) == pytest.approx([theirs[key] for key in ours], abs=1e-9, nan_ok=True)


def _write(root, name, seed=0, **sizes):
    return cases.write_case(root, name, cases.draw_world(np.random.default_rng(seed), **sizes))


def _turn_ids(maps, order):
    return np.asarray((0, *order), np.uint8)[maps]


@EVERY
def test_perfect_predictions_score_100(name, tmp_path):
    world = cases.draw_world(np.random.default_rng(1))
    folders = cases.write_case(tmp_path, name, replace(world, prediction=world.truth))
    scores = _score(folders, name)
    for values in (scores.values, *scores.items.values(), *scores.classes.values()):
        assert all(value == (0 if "decay" in key else 100) for key, value in values.items())
    assert scores.values.keys() == set(OFFICIAL[name].metrics)
    assert set(scores.items) == {"a", "b"}


@EVERY
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, order=st.permutations((1, 2, 3, 4)))
def test_numbering_of_objects_changes_nothing(name, seed, order, tmp_path_factory):
    root, world = tmp_path_factory.mktemp("case"), cases.draw_world(np.random.default_rng(seed))
    turned = cases.World(
        truth={video: _turn_ids(maps, order) for video, maps in world.truth.items()},
        prediction={video: _turn_ids(maps, order) for video, maps in world.prediction.items()},
        kinds=tuple(order.index(number) for number in (1, 2, 3, 4)),
    )
    straight = _score(cases.write_case(root / "straight", name, world), name)
    assert max(straight.values.values()) > 1
    _same(_score(cases.write_case(root / "turned", name, turned), name).values, straight.values)


@EVERY
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, names=st.permutations(("a", "b", "c")))
def test_names_of_videos_and_order_of_merging_change_nothing(name, seed, names, tmp_path_factory):
    root = tmp_path_factory.mktemp("case")
    world = cases.draw_world(np.random.default_rng(seed), names=("a", "b", "c"))
    renamed = replace(
        world,
        truth={names["abc".index(video)]: maps for video, maps in world.truth.items()},
        prediction={names["abc".index(video)]: maps for video, maps in world.prediction.items()},
    )
    case = _open(cases.write_case(root / "straight", name, world), name)
    partials = _compare(case)
    scores = case.score(partials)
    reversed_scores = case.score(partials[::-1])
    np.testing.assert_array_equal(list(reversed_scores.values.values()), list(scores.values.values()))
    assert reversed_scores.items.keys() == scores.items.keys()
    found = _score(cases.write_case(root / "renamed", name, renamed), name)
    _same(found.values, scores.values)
    for video in "abc":
        _same(found.items[names["abc".index(video)]], scores.items[video])


@EVERY
def test_missing_frame_is_refused_or_scored_as_empty(name, tmp_path):
    folders = _write(tmp_path, name)
    first = sorted(folders[1].rglob("b/**/00002.png"))[0]
    blank = Image.fromarray(np.zeros((24, 48), np.uint8))
    blank.save(first)
    expected = _score(folders, name)
    first.unlink()
    with pytest.raises(
        ValueError, match=r"not predicted: '.*b/.*00002'; predict everything, or pass --missing empty"
    ):
        _open(folders, name)
    case = _open(folders, name, missing="empty")
    assert [entry.endswith("00002") for entry in case.missing] == [True]
    _same(case.score(_compare(case)).values, expected.values)


@EVERY
def test_missing_video_is_refused_or_scored_as_empty(name, tmp_path):
    folders = _write(tmp_path, name)
    for path in folders[1].rglob("b/**/*.png"):
        cases.write_map(path, np.zeros((24, 48), np.uint8))
    expected = _score(folders, name)
    for folder in list(folders[1].rglob("b")):
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"not predicted: .*'(anno_0/)?b(/e1)?'"):
        _open(folders, name)
    case = _open(folders, name, missing="empty")
    assert len(case.missing) == {"refdavis": 4, "refytvos": 4}.get(name, 1)
    _same(case.score(_compare(case)).values, expected.values)


def _spoil(folders, change):
    path = sorted(folders[1].rglob("a/**/00002.png"))[0]
    change(path)
    return path


@EVERY
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: cases.write_map(path, np.zeros((12, 48), np.uint8)),
            r"a.*00002.png: 12x48 pixels \(height x width\), expected 24x48",
        ),
        (
            lambda path: Image.new("RGB", (48, 24)).save(path),
            r"a.*00002.png: mode RGB, expected an indexed \(P\) or gray \(L\) PNG",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), r"a.*00002.png: not a readable PNG"),
    ],
)
def test_bad_prediction_is_named(name, change, message, tmp_path):
    folders = _write(tmp_path, name)
    path = _spoil(folders, change)
    assert path.exists()
    with pytest.raises(ValueError, match=message):
        _compare(_open(folders, name))


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("davis_2017", 5, "id 5, expected at most 4, the highest of the first frame"),
        ("davis_2017", 255, "id 255, expected at most 4"),
        ("refdavis", 21, "id 21, expected at most 20 objects"),
    ],
)
def test_ids_beyond_those_allowed_are_refused(name, number, message, tmp_path):
    folders = _write(tmp_path, name)
    _spoil(folders, lambda path: cases.write_map(path, np.full((24, 48), number, np.uint8)))
    with pytest.raises(ValueError, match=f"a/00002.png: {message}"):
        _compare(_open(folders, name))


@EVERY
def test_ground_truth_of_another_benchmark_is_told(name, tmp_path):
    other = "viposeg" if name != "viposeg" else "davis_2017"
    folders = _write(tmp_path, name)
    with pytest.raises(
        ValueError,
        match=rf"no .* or .*, expected the ground truth of {other}: .*it looks like .*{name}",
    ):
        _open(folders, other)


@EVERY
def test_missing_ground_truth_is_named(name, tmp_path):
    folders = _write(tmp_path, name)
    tree = {"ytvos": "Annotations_all", "viposeg": "valid/Annotations_gt"}.get(name.split("_")[0], "**/a")
    folder = next(path for path in sorted(folders[0].glob(tree)) if path.is_dir())
    folder = folder if folder.name == "a" else folder / "a"
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"a: no (PNG|00000.png), expected the ground truth of video"):
        _open(folders, name)


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("ytvos_2018", "valid/meta.json", '{"videos": {', "bytes that are not whole JSON"),
        ("ytvos_2018", "valid/meta.json", '{"videos": []}', r"'videos' is \[\], expected dict"),
        (
            "ytvos_2018",
            "valid/meta.json",
            '{"videos": {"a": {"objects": {"9": {"category": "cat", "frames": []}}}}}',
            "object '9' is in no PNG of .*valid/Annotations/a",
        ),
        ("ytvos_2018", "category_split.json", '{"seen": ["cat"], "unseen": ["rope"]}', "'dog' is missing"),
        ("viposeg", "valid/obj_class.json", "[]", r"no video 'a', expected \{video: \{object: class\}\}"),
        (
            "viposeg",
            "valid/obj_class.json",
            '{"a": {"1": "x"}, "b": {}}',
            "video 'a': .*expected whole numbers",
        ),
        ("viposeg", "valid/obj_class.json", '{"a": {"1": 2}, "b": {}}', "no class of object 2 of video 'a'"),
        ("refytvos", "expression_to_object.json", '{"a": {"e1": "0"}}', "'e1' of video 'a' names object '0'"),
        ("refytvos", "meta_expressions/valid/meta_expressions.json", '{"videos": {"a": {}}}', "no 'frames'"),
        ("davis_2017", "DAVIS/ImageSets/2017/val.txt", "\n", "val.txt: no sequences, expected one per line"),
    ],
)
def test_bad_ground_truth_is_named(name, file, text, message, tmp_path):
    folders = _write(tmp_path, name)
    (folders[0] / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        _compare(_open(folders, name))


def test_video_of_two_frames_leaves_nothing_to_judge_in_davis(tmp_path):
    with pytest.raises(ValueError, match="2 frames, expected at least 3"):
        _open(_write(tmp_path, "davis_2017", num_frames=2), "davis_2017")


@pytest.mark.parametrize("name", ["davis_2016", "davis_2017"])
def test_davis_decay_beyond_256_frames_is_mended_on_demand(name, tmp_path):
    world = cases.draw_world(np.random.default_rng(0), names=("a",), num_frames=4, num_objects=1)
    long = replace(
        world,
        truth={"a": np.repeat(world.truth["a"], 75, axis=0)},
        prediction={"a": np.repeat(world.prediction["a"], 75, axis=0)},
    )
    folders = cases.write_case(tmp_path, name, long)
    official, mended = _score(folders, name), _score(folders, name, mends=("decay-beyond-256-frames",))
    assert np.isnan(official.values["j_decay"])
    assert np.isfinite(mended.values["j_decay"])
    assert official.values["jf"] == mended.values["jf"]


def test_davis_2016_and_2017_agree_on_one_object(tmp_path):
    world = cases.draw_world(np.random.default_rng(3), num_objects=1)
    folders = cases.write_case(tmp_path, "davis_2017", world)
    expected = _score(folders, "davis_2017")
    _same(_score(folders, "davis_2016").values, expected.values)
    for path in folders[1].rglob("*.png"):
        cases.write_map(path, np.asarray(Image.open(path)) * np.uint8(255))
    _same(_score(folders, "davis_2016").values, expected.values)


def test_objects_of_viposeg_that_are_listed_twice_count_twice_unless_mended(tmp_path):
    world = cases.draw_world(np.random.default_rng(0), names=("a",))
    folders = cases.write_case(tmp_path, "viposeg", world)
    again = np.where(world.truth["a"][0] == 1, 1, 0).astype(np.uint8)
    cases.write_map(folders[0] / "valid/Annotations/a/00002.png", again)
    (official,), (mended,) = (
        _compare(_open(folders, "viposeg", mends=mends)) for mends in ((), ("repeated-objects",))
    )
    assert official.num_followed.tolist() == [4] * 8 + [5] * 10
    assert mended.num_followed.tolist() == [4] * 16


@EVERY
def test_shown_frames_fit_each_other(name, tmp_path):
    case = _open(_write(tmp_path, name), name)
    shown = case.show(1, 2)
    assert shown.truth.frame_names == shown.prediction.frame_names
    assert shown.truth.masks.shape == shown.prediction.masks.shape
    assert shown.truth.masks.shape[1:] == (2, 24, 48)
    assert [frame.shape for frame in shown.frames] == [(24, 48, 3)] * 2
    assert shown.truth.masks.any()


def _videos(world, benchmark):
    """Truth and prediction of a world, as inference hands them over."""
    for name in world.truth:
        truth, prediction = (
            ObjectVideo(
                video_id=name,
                object_ids=tuple(str(n + 1) for n in range(len(world.kinds))),
                masks=np.stack([maps[name] == n + 1 for n in range(len(world.kinds))]),
                frame_names=tuple(cases.stem(t) for t in range(len(maps[name]))),
                labels=tuple(cases.CLASSES[kind] for kind in world.kinds) if benchmark == "viposeg" else (),
            )
            for maps in (world.truth, world.prediction)
        )
        yield prediction, truth


@pytest.mark.parametrize("name", ["davis_2017", "mose", "ytvos_2018", "viposeg"])
def test_files_score_as_what_inference_hands_over(name, tmp_path):
    world = cases.draw_world(np.random.default_rng(5))
    case = _open(cases.write_case(tmp_path, name, world), name)
    labels = builtin_spaces()["vipseg"].labels
    spec = BENCHMARKS[name]
    own = [evaluate_video(spec, ours, truth, labels) for ours, truth in _videos(world, name)]
    for ours, theirs in zip(own, _compare(case), strict=True):
        for found, expected in zip(asdict(ours).values(), asdict(theirs).values(), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_unknown_mend_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"--mend x: not a quirk of mose, expected one of: first-and-last-frame"
    ):
        _open(_write(tmp_path, "mose"), "mose", mends=("x",))
