"""Encode one chunk of an item as the members of a sample."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from preprocessing.chunks import split_chunks
from preprocessing.errors import ItemError
from preprocessing.validate import ValidVideo
from univs.schema import VideoRecord, annotation_to_json, meta_to_json

MAX_META_BYTES = 128 << 10
"""Holds the frame table of a chunk and the extra fields of its item."""
MAX_ANNOTATION_BYTES = 32 << 20
MAX_KEY_CHARACTERS = 80
"""With its suffix a member name then fits the 100 characters of a plain tar header."""
_MAX_SLUG = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """A sample as it will lie in the tar."""

    key: str
    record: VideoRecord
    meta: bytes
    annotation: bytes
    frame_bytes: tuple[bytes, ...]
    flags: tuple[str, ...]
    """Codes of the item's warnings, each once."""

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Give names and contents in the order they are stored: meta, annotation, frames."""
        yield f"{self.key}.meta.json", self.meta
        yield f"{self.key}.ann.json", self.annotation
        frames = zip(self.record.frames, self.frame_bytes, strict=True)
        for position, (frame, content) in enumerate(frames):
            yield f"{self.key}.{position:06d}.{frame.extension}", content


def encode_item(video: ValidVideo, max_frames_per_chunk: int) -> tuple[EncodedSample, ...]:
    """Encode a whole item, one sample per chunk.

    Raises:
        ItemError: E160 if a member would be too large.
    """
    return tuple(_encode(chunk) for chunk in split_chunks(video, max_frames_per_chunk))


def sample_key(dataset: str, split: str, item_id: str, chunk_index: int) -> str:
    """Name a sample: readable, lower-case, without a dot, unique by the hash of the full id."""
    slug = _sanitize(item_id)[:_MAX_SLUG]
    digest = hashlib.blake2b(f"{dataset}|{split}|{item_id}".encode()).hexdigest()[:8]
    return f"{dataset}-{_sanitize(split)}-{slug}-{digest}-{chunk_index:03d}"


def _sanitize(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())


def _encode(video: ValidVideo) -> EncodedSample:
    record = video.record
    meta, annotation = meta_to_json(record), annotation_to_json(record)
    _require_small(record, "meta.json", meta, MAX_META_BYTES)
    _require_small(record, "ann.json", annotation, MAX_ANNOTATION_BYTES)
    return EncodedSample(
        key=sample_key(record.dataset, record.split, record.item_id, record.chunk.index),
        record=record,
        meta=meta,
        annotation=annotation,
        frame_bytes=video.frame_bytes,
        flags=tuple(sorted({finding.code for finding in video.findings})),
    )


def _require_small(record: VideoRecord, member: str, content: bytes, limit: int) -> None:
    if len(content) > limit:
        raise ItemError(
            "E160",
            f"{record.item_id}: {member} of chunk {record.chunk.index} would have {len(content)} bytes; "
            f"expected at most {limit}",
        )
