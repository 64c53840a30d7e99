from dataclasses import replace

import pytest

from univs.data.chunks import join_chunks, join_stretch
from univs.schema import Chunk, Expression, OfficialPrompt, Region


@pytest.fixture
def chunks(maker):
    """Two chunks of an item of five frames, each listing only the object it shows."""
    first = maker.record(2, [maker.track(1, [maker.rectangle(0, 0, 2, 2)] * 2)])
    last = maker.record(3, [maker.track(2, [maker.rectangle(1, 1, 2, 2)] * 3)])
    return [
        replace(part, chunk=Chunk(index=index, count=2, item_frames=5))
        for index, part in enumerate((first, last))
    ]


def test_an_object_missing_from_a_chunk_is_absent_there(chunks):
    joined = join_chunks(chunks[::-1])
    assert [(track.object_id, track.states) for track in joined.objects] == [(1, "VVAAA"), (2, "AAVVV")]
    assert joined.objects[1].rles == (None, None, *chunks[1].objects[0].rles)
    assert joined.frames == chunks[0].frames + chunks[1].frames
    assert joined.chunk == Chunk(index=0, count=1, item_frames=5)


def test_regions_of_one_kind_stay_apart_and_go_on_from_chunk_to_chunk(chunks):
    rles = [("a", "b"), ("c", "d", "e"), ("f", None, None)]
    chunks[0] = replace(chunks[0], regions=(Region(kind="void", rles=rles[0]),))
    chunks[1] = replace(chunks[1], regions=tuple(Region(kind="void", rles=r) for r in rles[1:]))
    assert [region.rles for region in join_chunks(chunks).regions] == [
        ("a", "b", "c", "d", "e"),
        (None, None, "f", None, None),
    ]


def test_an_expression_names_the_objects_of_all_chunks_once(chunks):
    parts = [
        replace(part, expressions=(Expression(expression_id="0", text="both", object_ids=ids),))
        for part, ids in zip(chunks, [(1,), (1, 2)], strict=True)
    ]
    (expression,) = join_chunks(parts).expressions
    assert expression.object_ids == (1, 2)


def test_incomplete_or_mixed_chunks_raise(chunks):
    first, last = chunks
    for parts in ((first,), (last,), (first, first), (first, replace(last, item_id="other"))):
        with pytest.raises(ValueError, match="chunks of one item"):
            join_chunks(parts)


def test_a_stretch_is_of_consecutive_chunks(chunks):
    first, last = chunks
    assert join_stretch([last]) is last
    assert join_stretch(chunks).num_frames == 5
    for parts in ((last, first), (first, first)):
        with pytest.raises(ValueError, match="consecutive chunks of one item"):
            join_stretch(parts)


def test_what_an_object_may_lack_is_joined_where_a_chunk_has_it(chunks):
    boxes = ((0.0, 0.5, 2.0, 2.0), None, (1.0, 1.0, 2.5, 2.0))
    prompt = OfficialPrompt(kind="point", object_id=2, frame_index=3, coordinates=(1.0, 1.0))
    moved = replace(chunks[1].objects[0], object_id=1, boxes=boxes)
    chunks[1] = replace(chunks[1], objects=(moved,), prompts=(prompt,))
    joined = join_chunks(chunks)
    assert joined.objects[0].boxes == (None, None, *boxes)
    assert joined.objects[0].areas == joined.objects[0].polygons == ()
    assert joined.prompts == (prompt,)
