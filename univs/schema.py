"""The unified record: what one image or one stretch of video holds, whatever dataset it came from.

Everything here is standard library only, so preprocessing workers never import torch. Masks are COCO
compressed run-length strings; their size is always the record's ``height`` x ``width``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any, Literal

from univs.labels import LabelSpace

SCHEMA_VERSION = "univs-sample/1"

Task = Literal["detection", "sot", "grounding"]
"""Training tasks: classed entities; class-less tracked objects; objects named by an expression."""

VISIBLE, ABSENT, UNKNOWN, IGNORED = "V", "A", "U", "I"
"""Per-frame states of an object: has a mask; annotated as not there; not annotated; not to be judged."""

RegionKind = Literal["void", "unlabelled", "crowd"]
GroundTruth = Literal["full", "first_frame", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One stored frame, its bytes as the dataset's authors encoded them."""

    index: int
    """Position in the whole item, counted from 0 (not in the chunk)."""
    name: str
    """Official file name, for example ``00005.jpg`` or ``img_0000001.jpg``."""
    extension: Literal["jpg", "png"]
    """Encoding of the stored bytes."""
    labelled: bool = True
    """Whether the dataset annotates this frame."""

    @property
    def stem(self) -> str:
        """File name without folder and suffix."""
        return PurePosixPath(self.name).stem


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectTrack:
    """One object (or one stuff class) through the frames of a record."""

    object_id: int
    """Dense 1..n inside the item, the same in all its chunks."""
    source_id: str
    """The dataset's own id of the object, as text."""
    category_id: int | None
    """The dataset's own category id, ``None`` where objects have no class."""
    states: str
    """One of the four state letters per frame."""
    rles: tuple[str | None, ...]
    """Run-length ``counts`` per frame, ``None`` unless the state is ``V``."""
    is_crowd: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Pixels that belong to no object on purpose."""

    kind: RegionKind
    rles: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """A referring expression and the objects it names."""

    expression_id: str
    text: str
    object_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Which part of an item a record holds; an image or a short video is one chunk of one."""

    index: int = 0
    count: int = 1
    item_frames: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRecord:
    """All annotation of one image or one chunk of a video."""

    dataset: str
    split: str
    item_id: str
    kind: Literal["image", "video"]
    height: int
    width: int
    label_space: str | None
    """Name of the label space of ``category_id``; ``None`` for class-less data."""
    frames: tuple[Frame, ...]
    objects: tuple[ObjectTrack, ...]
    regions: tuple[Region, ...] = ()
    expressions: tuple[Expression, ...] = ()
    ground_truth: GroundTruth = "full"
    is_partition: bool = False
    """Whether objects and regions of a frame are disjoint and cover it."""
    chunk: Chunk = Chunk()
    license: str = "unknown"

    @property
    def num_frames(self) -> int:
        """Frames in this record."""
        return len(self.frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexRow:
    """One sample of a release in ``index.parquet``: where its bytes lie and what sampling needs."""

    key: str
    item_id: str
    shard: str
    """Tar file name, relative to the release."""
    chunk_index: int
    chunk_count: int
    height: int
    width: int
    meta_offset: int
    meta_size: int
    annotation_offset: int
    annotation_size: int
    frame_offsets: tuple[int, ...]
    """Byte offset of each frame's data in the tar, in frame order."""
    frame_sizes: tuple[int, ...]
    num_objects: int
    num_expressions: int

    @property
    def num_frames(self) -> int:
        """Frames stored in the sample."""
        return len(self.frame_offsets)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardEntry:
    """One finished shard in the manifest."""

    name: str
    sha256: str
    size_bytes: int
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """``manifest.json`` of a release, written last: a release without one is not whole."""

    dataset: str
    split: str
    task: Task
    kind: Literal["image", "video"]
    label_space: LabelSpace | None
    num_items: int
    """Items the source listed; ``num_items = accepted items + sum(rejects)``."""
    num_samples: int
    num_frames: int
    num_objects: int
    num_expressions: int
    rejects: Mapping[str, int]
    """Rejected items by reason code."""
    shards: tuple[ShardEntry, ...]
    plan_digest: str
    """Digest of the plan and builder version the shards were written from."""


def meta_to_json(record: VideoRecord) -> bytes:
    """Encode identity, sizes and the frame table: the ``KEY.meta.json`` member."""
    body = {name: value for name, value in asdict(record).items() if name not in _ANNOTATION_FIELDS}
    return canonical_json({"schema": SCHEMA_VERSION, **body})


def annotation_to_json(record: VideoRecord) -> bytes:
    """Encode objects, regions and expressions: the ``KEY.ann.json`` member."""
    body = asdict(record)
    return canonical_json({name: body[name] for name in _ANNOTATION_FIELDS})


def record_from_json(meta: bytes, annotation: bytes) -> VideoRecord:
    """Decode the two JSON members of a sample.

    Raises:
        ValueError: the members are of another schema version.
    """
    body: dict[str, Any] = json.loads(meta)
    version = body.pop("schema", None)
    if version != SCHEMA_VERSION:
        raise ValueError(f"sample has schema {version!r}, expected {SCHEMA_VERSION!r}: preprocess it again")
    parts: dict[str, Any] = json.loads(annotation)
    body["frames"] = tuple(Frame(**frame) for frame in body["frames"])
    body["chunk"] = Chunk(**body["chunk"])
    body["objects"] = tuple(_object_from_dict(entry) for entry in parts["objects"])
    body["regions"] = tuple(Region(kind=r["kind"], rles=tuple(r["rles"])) for r in parts["regions"])
    body["expressions"] = tuple(_expression_from_dict(entry) for entry in parts["expressions"])
    return VideoRecord(**body)


def manifest_to_json(manifest: Manifest) -> bytes:
    """Encode ``manifest.json``."""
    body = {field.name: getattr(manifest, field.name) for field in fields(Manifest)}
    body["label_space"] = manifest.label_space.to_dict() if manifest.label_space else None
    body["shards"] = [asdict(entry) for entry in manifest.shards]
    return canonical_json(body)


def manifest_from_json(data: bytes) -> Manifest:
    """Decode ``manifest.json``.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no JSON, or not of this version.
    """
    body: dict[str, Any] = json.loads(data)
    space = body.pop("label_space")
    shards = tuple(ShardEntry(**entry) for entry in body.pop("shards"))
    return Manifest(label_space=LabelSpace.from_dict(space) if space else None, shards=shards, **body)


def index_row_from_dict(body: Mapping[str, Any]) -> IndexRow:
    """Make a row from its fields, in which tuples may be lists."""
    lists = {name: tuple(body[name]) for name in ("frame_offsets", "frame_sizes")}
    return IndexRow(**{**body, **lists})


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Serialize so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


_ANNOTATION_FIELDS = ("objects", "regions", "expressions")


def _object_from_dict(entry: dict[str, Any]) -> ObjectTrack:
    return ObjectTrack(**{**entry, "rles": tuple(entry["rles"])})


def _expression_from_dict(entry: dict[str, Any]) -> Expression:
    return Expression(**{**entry, "object_ids": tuple(entry["object_ids"])})
