from dataclasses import replace

import pytest

from preprocessing.errors import ItemError
from preprocessing.findings import FindingLog
from preprocessing.reference_checks import check_references, check_texts
from univs.schema import Chunk, Expression, Frame, ObjectTrack, OfficialPrompt, VideoRecord

FULL = "06"  # six pixels of the object, after no background


def make_track(object_id, states="VAV"):
    rles = tuple(FULL if state == "V" else None for state in states)
    return ObjectTrack(
        object_id=object_id, source_id=f"s{object_id}", category_id=None, states=states, rles=rles
    )


def make_record(**changes):
    record = VideoRecord(
        dataset="burst",
        split="val",
        item_id="a",
        kind="video",
        height=2,
        width=3,
        label_space=None,
        frames=tuple(Frame(index=i, name=f"{i}.jpg", extension="jpg") for i in range(3)),
        objects=(make_track(1), make_track(2, "UVV")),
    )
    return replace(record, **changes)


def prompt(kind, coordinates=(), object_id=1, frame_index=0):
    return OfficialPrompt(kind=kind, object_id=object_id, frame_index=frame_index, coordinates=coordinates)


SOUND = (
    prompt("point", (1.0, 2.0)),
    prompt("box", (0.0, 0.0, 2.0, 1.0)),
    prompt("scribble", (1.0, 2.0)),
    prompt("scribble", (1.0, 2.0, 1.5, 2.0), object_id=0, frame_index=2),
    prompt("mask", object_id=2, frame_index=1),
)


def test_check_references_sound_prompts_pass():
    check_references(make_record(prompts=SOUND))


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (prompt("point", (1.0, 2.0), object_id=3), "prompt 5 (point) names object 3; there are 2"),
        (prompt("point", (1.0, 2.0), frame_index=3), "prompt 5 (point) names frame 3 of 3"),
        (prompt("point", (1.0, 2.0), frame_index=-1), "prompt 5 (point) names frame -1 of 3"),
        (prompt("point", (1.0, 2.0, 3.0)), "prompt 5 (point) has 3 coordinates: 1.0, 2.0, 3.0"),
        (prompt("point", (1.0, float("nan"))), "prompt 5 (point) has 2 coordinates: 1.0, nan"),
        (prompt("point", ("1", 2)), "prompt 5 (point) has 2 coordinates: '1', 2"),
        (prompt("box", (1.0, 2.0)), "prompt 5 (box) has 2 coordinates: 1.0, 2.0"),
        (prompt("scribble"), "prompt 5 (scribble) has 0 coordinates: "),
        (prompt("scribble", (1.0,) * 7), "prompt 5 (scribble) has 7 coordinates: 1.0, 1.0, 1.0, 1.0, 1.0"),
        (prompt("mask", (1.0,)), "prompt 5 (mask) has 1 coordinates: 1.0"),
        (prompt("mask", object_id=0), "prompt 5 (mask) names object 0, which has no mask in frame 0"),
        (prompt("mask", frame_index=1), "prompt 5 (mask) names object 1, which has no mask in frame 1"),
    ],
)
def test_check_references_malformed_prompt_is_e144(bad, found):
    with pytest.raises(ItemError) as caught:
        check_references(make_record(prompts=(*SOUND, bad)))
    assert (caught.value.code, caught.value.message) == ("E144", f"a: {found}")


def test_check_references_prompt_of_a_later_chunk_counts_frames_of_the_item():
    frames = tuple(Frame(index=i, name=f"{i}.jpg", extension="jpg") for i in (3, 4, 5))
    chunk = Chunk(index=1, count=2, item_frames=6)
    record = make_record(frames=frames, chunk=chunk, prompts=(prompt("mask", frame_index=5),))
    check_references(record)
    with pytest.raises(ItemError, match="names frame 2 of 3"):
        check_references(replace(record, prompts=(prompt("mask", frame_index=2),)))


def findings_of(record):
    log = FindingLog()
    check_texts(record, log)
    return [(finding.code, finding.message) for finding in log.findings()]


def expression(text, object_ids=(1, 2)):
    return Expression(expression_id="4", text=text, object_ids=object_ids)


@pytest.mark.parametrize("text", ["", "  \t"])
def test_check_texts_expression_without_words_is_w141(text):
    assert findings_of(make_record(expressions=(expression(text),))) == [
        ("W141", f"a: expression 4 is {text!r}")
    ]


@pytest.mark.parametrize(("text", "num_tokens"), [("a cat, 12x " * 16, 98), ("a " * 76, 78), ("7" * 90, 92)])
def test_check_texts_expression_too_long_is_w141(text, num_tokens):
    expected = f"a: expression 4 has at least {num_tokens} tokens; the encoder reads 77"
    assert findings_of(make_record(expressions=(expression(text),))) == [("W141", expected)]


def test_check_texts_expression_as_long_as_the_encoder_reads_is_sound():
    assert findings_of(make_record(expressions=(expression("cat " * 75),))) == []


def test_check_texts_video_object_without_expression_is_w142():
    record = make_record(expressions=(expression("a cat", (1,)),))
    assert findings_of(record) == [("W142", "a: 1 of 2 objects: s2")]
    many = tuple(make_track(i) for i in range(1, 9))
    assert findings_of(replace(record, objects=many)) == [
        ("W142", "a: 7 of 8 objects: s2, s3, s4, s5, s6, ...")
    ]


@pytest.mark.parametrize(
    "changes", [{"kind": "image"}, {"expressions": ()}, {"expressions": (expression("a cat", ()),)}]
)
def test_check_texts_image_or_unpublished_answers_are_not_w142(changes):
    record = make_record(expressions=(expression("a cat", (1,)),))
    assert findings_of(replace(record, **changes)) == []
