"""Cut an item into the samples that are stored."""

from collections.abc import Iterator
from dataclasses import replace

from preprocessing.validate import ValidVideo
from univs.schema import Chunk, ObjectTrack, VideoRecord


def split_chunks(video: ValidVideo, max_frames: int) -> Iterator[ValidVideo]:
    """Cut a whole item into consecutive chunks; every chunk lists all objects and expressions of the item.

    A prompt is in the chunk that holds its frame.
    """
    total = video.record.num_frames
    count = -(-total // max_frames)
    for index in range(count):
        window = slice(index * max_frames, min((index + 1) * max_frames, total))
        chunk = Chunk(index=index, count=count, item_frames=total)
        yield ValidVideo(
            record=_cut_record(video.record, window, chunk),
            frame_bytes=video.frame_bytes[window],
            findings=video.findings,
        )


def _cut_record(record: VideoRecord, window: slice, chunk: Chunk) -> VideoRecord:
    if chunk.count == 1:
        return replace(record, chunk=chunk)
    return replace(
        record,
        chunk=chunk,
        frames=record.frames[window],
        objects=tuple(_cut_track(track, window) for track in record.objects),
        regions=tuple(replace(region, rles=region.rles[window]) for region in record.regions),
        prompts=tuple(p for p in record.prompts if window.start <= p.frame_index < window.stop),
    )


def _cut_track(track: ObjectTrack, window: slice) -> ObjectTrack:
    return replace(
        track,
        states=track.states[window],
        rles=track.rles[window],
        boxes=track.boxes[window],
        areas=track.areas[window],
        polygons=track.polygons[window],
    )
