"""Whatever the official files of a video dataset say, what comes out says the same."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from preprocessing.masks import decode_mask, encode_mask
from preprocessing.sources.burst_tracks import read_sequence_tracks
from preprocessing.sources.davis_text import read_lines_by_sequence
from preprocessing.sources.first_masks import mask_prompts, unknown_elsewhere
from preprocessing.sources.official_fields import extra_json, keep_areas, keep_boxes, tight_box
from preprocessing.sources.tracks import build_tracks
from preprocessing.sources.vis_tracks import read_tracks
from preprocessing.sources.vos_folders import stored_rate

HEIGHT, WIDTH, FRAMES = 5, 7, 3
MASKS = arrays(np.bool_, (HEIGHT, WIDTH))
SHOWN = MASKS.filter(np.any)
ROWS = st.lists(st.none() | SHOWN, min_size=FRAMES, max_size=FRAMES)
NUMBERS = st.integers(-5, 50) | st.floats(-5, 50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SHAPE = {"height": HEIGHT, "width": WIDTH, "length": FRAMES}


def runs_of(mask):
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)


@st.composite
def vis_entries(draw):
    """Draw a track in either run-length form, with boxes and areas of the mask, of its own, or none."""
    masks = draw(ROWS)
    encode = draw(st.sampled_from([runs_of, encode_mask]))
    size = {"size": [HEIGHT, WIDTH]}
    entry = {
        "id": draw(st.integers(1, 10**6)),
        "video_id": 1,
        "category_id": draw(st.integers(1, 40)),
        "iscrowd": draw(st.integers(0, 1)),
        "segmentations": [None if mask is None else {**size, "counts": encode(mask)} for mask in masks],
    }
    boxes = st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS).map(list)
    for field, value in (("bboxes", boxes), ("areas", st.none() | NUMBERS)):
        if draw(st.booleans()):
            entry[field] = draw(st.lists(value, min_size=FRAMES, max_size=FRAMES))
    held = {*entry, "height", "width", "length", "bboxes", "areas"}
    names = st.text(min_size=1).filter(lambda name: name not in held)
    entry.update(draw(st.dictionaries(names, JSON, max_size=2)))
    return masks, entry


@settings(max_examples=60, deadline=None)
@given(vis_entries())
def test_vis_track_keeps_masks_boxes_areas_and_unknown_fields(drawn):
    masks, entry = drawn
    tracks = read_tracks("1", [(0, json.loads(json.dumps(entry)))], SHAPE)
    if not any(mask is not None for mask in masks):
        assert tracks.visible == ()
        assert [finding.code for finding in tracks.findings] == ["W138"]
        assert tracks.left_out == (entry,)
        return
    (track,) = tracks.visible
    for mask, rle, state in zip(masks, track.rles, track.states, strict=True):
        assert (mask is None) == (rle is None) == (state != "V")
        if rle is not None:
            np.testing.assert_array_equal(decode_mask(rle, HEIGHT, WIDTH), mask)
    derived = tuple(None if mask is None else box_of(mask) for mask in masks)
    given_boxes = entry.get("bboxes")
    if given_boxes is not None:
        assert (track.boxes or derived) == tuple(None if b is None else tuple(b) for b in given_boxes)
    counted = tuple(None if mask is None else mask.sum() for mask in masks)
    if entry.get("areas") is not None:
        assert (track.areas or counted) == tuple(entry["areas"])
    held = {"id", "video_id", "category_id", "iscrowd", "segmentations", "bboxes", "areas"}
    assert json.loads(track.extra or "{}") == {k: v for k, v in entry.items() if k not in held}


@settings(max_examples=60, deadline=None)
@given(SHOWN)
def test_tight_box_is_the_box_of_the_pixels(mask):
    assert tight_box(encode_mask(mask), HEIGHT, WIDTH) == box_of(mask)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_boxes_and_areas_of_the_masks_are_never_stored(masks):
    rles = [None if mask is None else encode_mask(mask) for mask in masks]
    boxes = [None if mask is None else [float(side) for side in box_of(mask)] for mask in masks]
    areas = [None if mask is None else float(mask.sum()) for mask in masks]
    assert keep_boxes(boxes, rles, HEIGHT, WIDTH, "") == ()
    assert keep_areas(areas, rles, HEIGHT, WIDTH, "") == ()


@given(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
def test_extra_and_what_is_held_give_the_official_fields(official, held):
    rest = json.loads(extra_json(official, held) or "{}")
    assert {name: rest.get(name, held.get(name)) for name in official} == official
    assert rest.keys() <= official.keys()


@st.composite
def burst_sequences(draw):
    tracks = draw(st.dictionaries(st.integers(1, 30).map(str), st.integers(1, 1230), min_size=1, max_size=3))
    masks = st.fixed_dictionaries({"rle": SHOWN.map(encode_mask), "is_gt": st.booleans()}) | (
        st.fixed_dictionaries(
            {"rle": SHOWN.map(encode_mask), "is_gt": st.booleans(), "score": st.floats(0, 1)}
        )
    )
    frames = st.dictionaries(st.sampled_from(sorted(tracks)), masks)
    return {
        "height": HEIGHT,
        "width": WIDTH,
        "annotated_image_paths": ["a", "b", "c"],
        "track_category_ids": tracks,
        "segmentations": draw(st.lists(frames, min_size=FRAMES, max_size=FRAMES)),
    }


@settings(max_examples=60, deadline=None)
@given(burst_sequences(), st.booleans())
def test_burst_masks_and_their_fields_come_back(sequence, is_exhaustive):
    read = read_sequence_tracks("x", sequence, "/sequences/0", is_exhaustive=is_exhaustive)
    categories = {track.source_id: track.category_id for track in read.objects}
    assert {**categories, **read.never_visible} == sequence["track_category_ids"]
    assert len(read.findings) == len(read.never_visible)
    frames = [{} for _ in range(FRAMES)]
    for track in read.objects:
        fields = json.loads(track.extra)
        for index, rle in enumerate(track.rles):
            assert track.states[index] == ("V" if rle else "A" if is_exhaustive else "U")
            if rle is not None:
                others = {name: values[index] for name, values in fields.items() if values[index] is not None}
                frames[index][track.source_id] = {"rle": rle, **others}
    assert frames == sequence["segmentations"]
    assert [int(track.source_id) for track in read.objects] == sorted(map(int, categories))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bear", "clasic-car", "dogs-jump"]),
            st.integers(0, 99),
            st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), max_size=12),
        ),
        max_size=6,
    )
)
def test_ref_davis_lines_come_back(tmp_path_factory, lines):
    root = tmp_path_factory.mktemp("texts")
    (root / "davis_text_annotations").mkdir()
    written = "".join(f'{name} {number} "{text}"\n' for name, number, text in lines)
    for file in ("annot1", "annot1_full_video", "annot2", "annot2_full_video"):
        content = written if file == "annot2" else ""
        (root / f"davis_text_annotations/Davis17_{file}.txt").write_text(content, encoding="utf-8")
    read = sorted(
        (line["number"], line["sequence"], line["object_id"], line["text"], name)
        for name, found in read_lines_by_sequence(root).items()
        for line in found
    )
    names = {"clasic-car": "classic-car"}
    assert read == [
        (place, name, str(number), text, names.get(name, name))
        for place, (name, number, text) in enumerate(lines, start=1)
    ]


@given(st.lists(st.none() | st.dictionaries(st.integers(1, 4), st.just("rle"), max_size=3), min_size=1))
def test_first_masks_prompt_every_object_where_it_first_has_one(frames):
    tracks = unknown_elsewhere(build_tracks(frames, dict.fromkeys(range(1, 5))))
    prompts = mask_prompts(tracks)
    assert [prompt.object_id for prompt in prompts] == [track.object_id for track in tracks]
    for track, prompt in zip(tracks, prompts, strict=True):
        assert set(track.states) <= {"V", "U"}
        shown = [index for index, frame in enumerate(frames) if frame and int(track.source_id) in frame]
        assert prompt.frame_index == shown[0]
        assert [index for index, state in enumerate(track.states) if state == "V"] == shown


@pytest.mark.parametrize(
    ("names", "rate"),
    [
        (["00000.jpg", "00005.jpg", "00010.jpg"], 6.0),
        (["00003.jpg", "00004.jpg"], 30.0),
        (["00000.jpg", "00005.jpg", "00015.jpg"], None),
        (["00005.jpg", "00000.jpg"], None),
        (["00000.jpg", "00000.jpg"], None),
        (["a.jpg", "b.jpg"], None),
        (["00000.jpg"], None),
        ([], None),
    ],
)
def test_stored_rate_follows_the_frame_numbers(names, rate):
    assert stored_rate(names) == rate
