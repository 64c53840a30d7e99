"""Releases for the data tests, written by the real packer from hand-made records."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.index import begin_release, commit_release
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import SOURCES
from preprocessing.sources.source import Item, SourceSpec, SourceVideo
from univs.data.release import Release
from univs.labels import LabelSpace
from univs.schema import Chunk, Frame, ObjectTrack, Task, VideoRecord

HEIGHT, WIDTH = 24, 32

settings.register_profile("no_deadline", deadline=None)  # a busy machine must not fail a test
settings.load_profile("no_deadline")


@dataclass(frozen=True)
class HandMadeSource:
    """A source whose items are given records and images."""

    records: Mapping[str, VideoRecord]
    task: Task
    space: LabelSpace | None

    @property
    def spec(self) -> SourceSpec:
        first = next(iter(self.records.values()))
        return SourceSpec(
            name=first.dataset,
            task=self.task,
            kind=first.kind,
            needs="",
            expects="",
            license="",
            splits=("train",),
        )

    def label_space(self, root: Path) -> LabelSpace | None:
        return self.space

    def scan(self, root: Path, split: str):
        for item_id, record in self.records.items():
            yield Item(item_id=item_id, num_frames=record.num_frames, payload="{}")

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        record = self.records[item.item_id]
        paths = tuple(root / item.item_id / frame.name for frame in record.frames)
        return SourceVideo(record=record, frame_paths=paths)


def encode_mask(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def encode_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def encode_jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92, subsampling=0)
    return stream.getvalue()


def rectangle(left: int, top: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def make_track(object_id: int, masks: Sequence[np.ndarray | str], **changes) -> ObjectTrack:
    """Make a track from one mask, or one of the letters A, U, I, per frame."""
    track = ObjectTrack(
        object_id=object_id,
        source_id=str(object_id),
        category_id=None,
        states="".join(mask if isinstance(mask, str) else "V" for mask in masks),
        rles=tuple(None if isinstance(mask, str) else encode_mask(mask) for mask in masks),
    )
    return replace(track, **changes)


def make_record(num_frames: int, tracks: Sequence[ObjectTrack] = (), **changes) -> VideoRecord:
    record = VideoRecord(
        dataset="handmade",
        split="train",
        item_id="item",
        kind="video" if num_frames > 1 else "image",
        height=HEIGHT,
        width=WIDTH,
        label_space=None,
        frames=tuple(Frame(index=i, name=f"{i:05d}.png", extension="png") for i in range(num_frames)),
        objects=tuple(tracks),
        chunk=Chunk(item_frames=num_frames),
    )
    return replace(record, **changes)


@dataclass(frozen=True)
class ReleaseMaker:
    """The hand-made tools and the packer in one fixture."""

    root: Path

    track: Callable[..., ObjectTrack] = staticmethod(make_track)
    record: Callable[..., VideoRecord] = staticmethod(make_record)
    rectangle: Callable[..., np.ndarray] = staticmethod(rectangle)
    encode_mask: Callable[[np.ndarray], str] = staticmethod(encode_mask)
    encode_png: Callable[[np.ndarray], bytes] = staticmethod(encode_png)
    encode_jpeg: Callable[[np.ndarray], bytes] = staticmethod(encode_jpeg)

    def pack(
        self,
        records: Sequence[VideoRecord],
        *,
        task: Task = "detection",
        space: LabelSpace | None = None,
        max_frames_per_chunk: int = 128,
        frames_per_shard: int = 8,
        frames: Mapping[str, Sequence[bytes]] | None = None,
    ) -> Path:
        """Pack records into a release; frames not given are noise that differs between frames."""
        name = records[0].dataset
        source = HandMadeSource(records={r.item_id: r for r in records}, task=task, space=space)
        raw, release_dir = self.root / f"{name}-raw", self.root / name / "train"
        for record in records:
            contents = (frames or {}).get(record.item_id) or _noise_frames(record)
            (raw / record.item_id).mkdir(parents=True)
            for frame, content in zip(record.frames, contents, strict=True):
                (raw / record.item_id / frame.name).write_bytes(content)
        parameters = PlanParameters(
            target_frames_per_shard=frames_per_shard, max_frames_per_chunk=max_frames_per_chunk
        )
        return pack_source(source, raw, "train", release_dir, parameters)

    def open(self, records: Sequence[VideoRecord], **options) -> Release:
        return Release.open(self.pack(records, **options))


def pack_source(source, raw: Path, split: str, release_dir: Path, parameters: PlanParameters) -> Path:
    space = source.label_space(raw)
    plan = make_plan(source.spec.name, split, source.scan(raw, split), parameters, space)
    for path in begin_release(release_dir, plan):
        pack_shard(source, raw, split, read_work_order(path), release_dir)
    manifest = commit_release(release_dir, plan, source.spec, space)
    assert not manifest.rejects
    return release_dir


def _noise_frames(record: VideoRecord) -> list[bytes]:
    generator = np.random.default_rng(sum(record.item_id.encode()))
    shape = (record.num_frames, record.height, record.width, 3)
    return [encode_png(frame) for frame in generator.integers(0, 256, shape, dtype=np.uint8)]


@pytest.fixture
def maker(tmp_path: Path) -> ReleaseMaker:
    return ReleaseMaker(tmp_path)


@pytest.fixture(scope="session")
def miniature_releases(tmp_path_factory) -> dict[str, Path]:
    """Build the train releases of four miniature datasets: every task, image and video, things and stuff."""
    root = tmp_path_factory.mktemp("miniature")
    config = MiniatureConfig(train_images=4, val_images=1, train_videos=2, val_videos=1)
    raw = build(root / "raw", config, ("sa_1b", "coco_panoptic", "vipseg", "refytvos"))
    return {
        name: pack_source(SOURCES[name], path, "train", root / name / "train", PlanParameters())
        for name, path in raw.items()
    }
