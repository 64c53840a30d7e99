"""The unified record: what one image or one stretch of video holds, whatever dataset it came from.

Everything here is standard library only, so preprocessing workers never import torch. Masks are COCO
compressed run-length strings; their size is always the record's ``height`` x ``width``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from univs.labels import LabelSpace

SCHEMA_VERSION = "univs-sample/2"

Task = Literal["detection", "sot", "grounding"]
"""Training tasks: classed entities; class-less tracked objects; objects named by an expression."""

VISIBLE, ABSENT, UNKNOWN, IGNORED = "V", "A", "U", "I"
"""Per-frame states of an object: has a mask; annotated as not there; not annotated; not to be judged."""

RegionKind = Literal["void", "unlabelled", "crowd"]
GroundTruth = Literal["full", "first_frame", "none"]
"""Whether all labelled frames have masks, only those where an object first appears, or none."""
PromptKind = Literal["point", "box", "scribble", "mask"]
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""
Polygons = tuple[tuple[float, ...], ...]
"""Outlines of one mask, each flat: x, y, x, y, ..."""


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
    boxes: tuple[Box | None, ...] = ()
    """The dataset's own box per frame; empty where each is the tight box of the mask, or none is given."""
    areas: tuple[float | None, ...] = ()
    """The dataset's own area per frame; empty where each is the mask's pixel count, or none is given."""
    polygons: tuple[Polygons | None, ...] = ()
    """The outlines a mask was filled from, per frame; empty for datasets of pixels."""
    predicted_iou: float | None = None
    """How well a machine-made mask is believed to fit, 0..1 (SA-1B)."""
    stability_score: float | None = None
    """How little a machine-made mask changes with its threshold, 0..1 (SA-1B)."""
    extra: str = ""
    """Canonical JSON of the object's official fields that no field here holds."""


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
    """The official text, unchanged; where a dataset has two forms of it, the one that models train on."""
    object_ids: tuple[int, ...]
    """None for an expression that nothing answers, or whose objects are not published."""
    origin: str = ""
    """Which part of the dataset it is of: an annotator, or a subset such as ``unc/testA``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialPrompt:
    """A visual prompt that the dataset itself gives; simulated ones are never stored."""

    kind: PromptKind
    object_id: int
    """0 for a prompt on the background."""
    frame_index: int
    """Position of the prompted frame in the whole item."""
    coordinates: tuple[float, ...] = ()
    """Pixels: x, y of a point; x, y, width, height of a box; x, y, x, y, ... along a scribble. A mask prompt
    has none: it is the object's own mask in that frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completeness:
    """What may be concluded from an object that is not annotated."""

    is_federated: bool = False
    """Whether only the categories listed below, and those of the objects, were looked for."""
    is_partial: bool = False
    """Whether unannotated objects of the annotated kinds may be visible (video object segmentation)."""
    negative_category_ids: tuple[int, ...] = ()
    """Verified to be absent."""
    not_exhaustive_category_ids: tuple[int, ...] = ()
    """Present, but not every instance is annotated."""


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
    prompts: tuple[OfficialPrompt, ...] = ()
    completeness: Completeness = Completeness()
    ground_truth: GroundTruth = "full"
    is_partition: bool = False
    """Whether objects and regions of a frame are disjoint and cover it."""
    chunk: Chunk = Chunk()
    license: str = "unknown"
    group: str = ""
    """Names the pictures, such as ``coco:000000000139``: records of one group, of any dataset, share them."""
    frames_per_second: float | None = None
    """Rate of the stored frames, where the dataset states it."""
    extra: str = ""
    """Canonical JSON of the item's official fields that no field here holds."""

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
    group: str
    """The record's group: equal groups in two releases are the same pictures."""
    category_ids: tuple[int, ...]
    """Categories of the sample's objects, ascending, each once."""
    flags: tuple[str, ...]
    """Codes of the warnings about the item, each once."""

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
    warnings: Mapping[str, int]
    """Warnings by code; an item may have several."""
    shards: tuple[ShardEntry, ...]
    plan_digest: str
    """Digest of the plan and builder version the shards were written from."""


def meta_to_json(record: VideoRecord) -> bytes:
    """Encode identity, sizes and the frame table: the ``KEY.meta.json`` member."""
    names = [field.name for field in fields(VideoRecord) if field.name not in _ANNOTATION_FIELDS]
    return canonical_json({"schema": SCHEMA_VERSION, **_to_dict(record, names)})


def annotation_to_json(record: VideoRecord) -> bytes:
    """Encode objects, regions, expressions and prompts: the ``KEY.ann.json`` member."""
    body = _to_dict(record, _ANNOTATION_FIELDS)
    return canonical_json({name: body.get(name, []) for name in _ANNOTATION_FIELDS})


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
    body["chunk"] = Chunk(**body.get("chunk", {}))
    body["completeness"] = Completeness(**_tuples(body.get("completeness", {})))
    body["objects"] = tuple(ObjectTrack(**_tuples(entry)) for entry in parts["objects"])
    body["regions"] = tuple(Region(**_tuples(entry)) for entry in parts["regions"])
    body["expressions"] = tuple(Expression(**_tuples(entry)) for entry in parts["expressions"])
    body["prompts"] = tuple(OfficialPrompt(**_tuples(entry)) for entry in parts["prompts"])
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
    return IndexRow(**_tuples(body))


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Serialize so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN."""
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


_ANNOTATION_FIELDS = ("objects", "regions", "expressions", "prompts")


def _to_dict(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """Give the named fields of a dataclass, without those that have their default."""
    defaults, plain = _defaults_of(type(value)), {}
    for name in names:
        part = getattr(value, name)
        if part != defaults[name]:
            plain[name] = _to_plain(part)
    return plain


def _to_plain(value: Any) -> Any:
    """Turn tuples into lists, and dataclasses into dicts without the fields that have their default."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple):
        return [_to_plain(entry) for entry in value]
    return _to_dict(value, _defaults_of(type(value))) if is_dataclass(value) else value


_defaults: dict[type, Mapping[str, Any]] = {}


def _defaults_of(kind: type) -> Mapping[str, Any]:
    """Give the default of every field of a dataclass, ``MISSING`` for those without; looked up once."""
    if kind not in _defaults:
        _defaults[kind] = {field.name: field.default for field in fields(kind)}
    return _defaults[kind]


def _tuples(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _to_tuple(value) if type(value) is list else value for name, value in body.items()}


def _to_tuple(value: list[Any]) -> tuple[Any, ...]:
    return tuple([_to_tuple(entry) if type(entry) is list else entry for entry in value])
