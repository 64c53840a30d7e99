from preprocessing.chunks import split_chunks
from preprocessing.validate import ValidVideo, check_annotation
from univs.schema import Chunk, Expression, Frame, ObjectTrack, OfficialPrompt, Region, VideoRecord


def make_video(num_frames=7):
    track = ObjectTrack(
        object_id=1,
        source_id="9",
        category_id=None,
        states="V" * num_frames,
        rles=("16",) * num_frames,
        boxes=tuple((0.0, float(i), 1.0, 2.0) for i in range(num_frames)),
        areas=tuple(float(i) for i in range(num_frames)),
        polygons=tuple(((float(i), 0.0, 1.0, 1.0, 0.0, 1.0),) for i in range(num_frames)),
    )
    record = VideoRecord(
        dataset="mose",
        split="val",
        item_id="a",
        kind="video",
        height=7,
        width=1,
        label_space=None,
        frames=tuple(Frame(index=i, name=f"{i}.jpg", extension="jpg") for i in range(num_frames)),
        objects=(track,),
        regions=(Region(kind="void", rles=(None, "16", None, None, "16", None, None)),),
        expressions=(Expression(expression_id="0", text="a square", object_ids=(1,)),),
        prompts=tuple(
            OfficialPrompt(kind="point", object_id=1, frame_index=i, coordinates=(0.0, float(i)))
            for i in (0, 2, 3, 6)
        ),
    )
    return ValidVideo(record=record, frame_bytes=tuple(bytes([i]) for i in range(num_frames)))


def test_split_chunks_long_video_joins_back_to_the_item():
    video = make_video()
    chunks = list(split_chunks(video, 3))
    records = [chunk.record for chunk in chunks]
    assert [record.num_frames for record in records] == [3, 3, 1]
    assert [record.chunk for record in records] == [Chunk(index=i, count=3, item_frames=7) for i in range(3)]
    assert sum((record.frames for record in records), ()) == video.record.frames
    assert sum((chunk.frame_bytes for chunk in chunks), ()) == video.frame_bytes
    assert sum((record.prompts for record in records), ()) == video.record.prompts
    assert sum((record.regions[0].rles for record in records), ()) == video.record.regions[0].rles
    assert {record.expressions for record in records} == {video.record.expressions}
    whole = video.record.objects[0]
    parts = [record.objects[0] for record in records]
    assert {(part.object_id, part.source_id) for part in parts} == {(1, "9")}
    assert "".join(part.states for part in parts) == whole.states
    for name in ("rles", "boxes", "areas", "polygons"):
        assert sum((getattr(part, name) for part in parts), ()) == getattr(whole, name)


def test_split_chunks_every_chunk_passes_the_checks_of_the_item():
    video = make_video()
    check_annotation(video.record)
    for chunk in split_chunks(video, 3):
        check_annotation(chunk.record)


def test_split_chunks_short_video_stays_as_it_is():
    video = make_video()
    (chunk,) = split_chunks(video, 7)
    assert chunk.record.chunk == Chunk(index=0, count=1, item_frames=7)
    assert (chunk.record.objects, chunk.record.prompts) == (video.record.objects, video.record.prompts)
