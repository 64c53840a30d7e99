"""Releases for the loader's benchmark: 720p video of eight objects, large images of a hundred masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from official_data import VOID_ID, Scene, draw_scene
from pycocotools import mask as coco_mask

from preprocessing.index import begin_release, commit_release
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.source import Item, SourceSpec, SourceVideo
from univs.labels import LabelSpace
from univs.schema import Chunk, Frame, ObjectTrack, VideoRecord

NUM_VIDEOS, FRAMES_PER_VIDEO, OBJECTS_PER_VIDEO = 6, 36, 8
NUM_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """Pictures and masks made here, as a source of the packer."""

    name: str
    records: dict[str, VideoRecord]

    @property
    def spec(self) -> SourceSpec:
        """Describe it."""
        kind = next(iter(self.records.values())).kind
        return SourceSpec(
            name=self.name, task="sot", kind=kind, needs="", expects="", license="", splits=("train",)
        )

    def label_space(self, root: Path) -> LabelSpace | None:
        """Give none: objects have no class."""
        return None

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the records."""
        for item_id, record in self.records.items():
            yield Item(item_id=item_id, num_frames=record.num_frames, payload="{}")

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Give a record with its files."""
        record = self.records[item.item_id]
        paths = tuple(root / item.item_id / frame.name for frame in record.frames)
        return SourceVideo(record=record, frame_paths=paths)


def make_video_release(root: Path) -> Path:
    """Pack 720p videos in which eight segments are objects."""
    records = {}
    for index in range(NUM_VIDEOS):
        scene = draw_scene(720, 1280, 30, index)
        scenes = [scene.moved(7 * number) for number in range(FRAMES_PER_VIDEO)]
        masks = [
            [encode(shot.segments == number) for shot in scenes] for number in range(1, OBJECTS_PER_VIDEO + 1)
        ]
        records[f"video{index}"] = write_item(root / "raw", f"video{index}", scenes, masks)
    return pack(root, PictureSource(name="video", records=records))


def make_image_release(root: Path) -> Path:
    """Pack images of 1500 x 2250 with about a hundred masks that overlap, as SA-1B has."""
    fine, coarse = draw_scene(1500, 2250, 70, 90), draw_scene(1500, 2250, 30, 91)
    records = {}
    for index in range(NUM_IMAGES):
        scenes = [fine.moved(41 * index), coarse.moved(29 * index)]
        masks = [
            [encode(scene.segments == number)]
            for scene in scenes
            for number in np.unique(scene.segments).tolist()
            if number != VOID_ID
        ]
        records[f"image{index}"] = write_item(root / "raw", f"image{index}", scenes[:1], masks)
    return pack(root, PictureSource(name="image", records=records))


def encode(mask: np.ndarray) -> str:
    """Give compressed run lengths."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def write_item(root: Path, item_id: str, scenes: list[Scene], masks: list[list[str]]) -> VideoRecord:
    """Write the frames of an item and give its record."""
    frames = tuple(Frame(index=i, name=f"{i:05d}.jpg", extension="jpg") for i in range(len(scenes)))
    (root / item_id).mkdir(parents=True)
    for frame, scene in zip(frames, scenes, strict=True):
        cv2.imwrite(str(root / item_id / frame.name), scene.picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    objects = tuple(
        ObjectTrack(
            object_id=number,
            source_id=str(number),
            category_id=None,
            states="V" * len(rles),
            rles=tuple(rles),
            predicted_iou=0.95,
            stability_score=0.98,
        )
        for number, rles in enumerate(masks, start=1)
    )
    height, width = scenes[0].segments.shape
    return VideoRecord(
        dataset=item_id[:5],
        split="train",
        item_id=item_id,
        kind="video" if len(frames) > 1 else "image",
        height=height,
        width=width,
        label_space=None,
        frames=frames,
        objects=objects,
        chunk=Chunk(item_frames=len(frames)),
    )


def pack(root: Path, source: PictureSource) -> Path:
    """Write the release."""
    release, raw = root / source.name / "train", root / "raw"
    plan = make_plan(source.name, "train", source.scan(raw, "train"), PlanParameters())
    for path in begin_release(release, plan):
        pack_shard(source, raw, "train", read_work_order(path), release)
    commit_release(release, plan, source.spec, None)
    return release
