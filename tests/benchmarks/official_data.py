"""Write realistic official data for benchmarks: sizes, segment counts and file formats as the real sets have.

Pictures are noise of many octaves, whose JPEG files are about as large as those of photographs; segments are
cells with wavy borders. Everything is seeded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree

VOID_ID = 0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture [H, W, 3] and its segment map [H, W], ids 1..n with a few void pixels (0)."""

    picture: np.ndarray
    segments: np.ndarray

    def moved(self, shift_px: int) -> "Scene":
        """Give the scene a moment later."""
        return Scene(
            picture=np.roll(self.picture, shift_px, axis=1), segments=np.roll(self.segments, shift_px, axis=1)
        )


def draw_scene(height: int, width: int, num_segments: int, seed: int) -> Scene:
    """Make a scene."""
    generator = np.random.default_rng(seed)
    octaves = [_noise(generator, height, width, cell, 3) / (256 / cell) ** 0.9 for cell in (256, 64, 16, 4)]
    picture = 127 + 70 * sum(octaves) + generator.normal(0, 3, (height, width, 3))
    warp = 6 * _noise(generator, height, width, 32, 2) + 2 * _noise(generator, height, width, 8, 2)
    seeds = generator.random((num_segments, 2)) * (height, width)
    grid = np.stack(np.mgrid[:height, :width], axis=-1) + warp
    _, nearest = cKDTree(seeds).query(grid.reshape(-1, 2))
    segments = nearest.reshape(height, width).astype(np.int32) + 1
    segments[: height // 40, : width // 10] = VOID_ID
    return Scene(picture=picture.clip(0, 255).astype(np.uint8), segments=segments)


def write_vipseg(root: Path, num_videos: int = 6, num_frames: int = 6) -> None:
    """Write 720p panoptic video: 16 bit PNGs of about 15 segments."""
    names = [f"{index}_video" for index in range(num_videos)]
    for index, name in enumerate(names):
        for frame, scene in enumerate(_shots(720, 1280, 15, index, num_frames)):
            _write_jpeg(root / f"imgs/{name}/{frame:08d}.jpg", scene.picture)
            number = np.where(scene.segments % 3 == 0, scene.segments, scene.segments * 100 + 1)
            _write_png(root / f"panomasks/{name}/{frame:08d}.png", number.astype(np.uint16))
    classes = [{"id": i, "name": f"class {i}", "isthing": int((i + 1) % 3 != 0)} for i in range(124)]
    _write_json(root / "panoVIPSeg_categories.json", classes)
    (root / "train.txt").write_text("".join(f"{name}\n" for name in names))


def write_coco_panoptic(root: Path, num_images: int = 48) -> None:
    """Write 640 x 480 images with color PNGs of about 12 segments."""
    categories = [{"id": i, "name": f"class {i}", "isthing": 1} for i in range(1, 13)]
    body = {"images": [], "annotations": [], "categories": categories}
    for index, scene in enumerate(_shots(480, 640, 12, 50, num_images)):
        name = f"{index:012d}"
        _write_jpeg(root / f"train2017/{name}.jpg", scene.picture, quality=95)
        ids = np.where(scene.segments == VOID_ID, 0, scene.segments * 987_654 % (1 << 24))
        color = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        _write_png(root / f"annotations/panoptic_train2017/{name}.png", color[..., ::-1])
        shown = np.unique(scene.segments[scene.segments != VOID_ID]).tolist()
        rows = [_panoptic_row(int(i) * 987_654 % (1 << 24), i, ids) for i in shown]
        body["images"].append({"id": index, "file_name": f"{name}.jpg", "height": 480, "width": 640})
        body["annotations"].append({"image_id": index, "file_name": f"{name}.png", "segments_info": rows})
    _write_json(root / "annotations/panoptic_train2017.json", body)


def write_sa_1b(root: Path, num_images: int = 8) -> None:
    """Write 1500 x 2250 images with 100 masks each as compressed run lengths."""
    pairs = zip(_shots(1500, 2250, 70, 90, num_images), _shots(1500, 2250, 30, 91, num_images), strict=True)
    for index, (fine, coarse) in enumerate(pairs, start=1):
        _write_jpeg(root / f"sa_{index}.jpg", fine.picture, quality=95)
        maps = (fine.segments, coarse.segments)
        masks = [segments == i for segments in maps for i in np.unique(segments[segments != VOID_ID])]
        rows = [_sa_1b_row(index * 1000 + number, mask) for number, mask in enumerate(masks)]
        image = {"image_id": index, "height": 1500, "width": 2250, "file_name": f"sa_{index}.jpg"}
        _write_json(root / f"sa_{index}.json", {"image": image, "annotations": rows})


def write_ytvis_2021(root: Path, num_videos: int = 6, num_frames: int = 8) -> None:
    """Write 720p videos with four objects each as uncompressed run lengths in one JSON file."""
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 41)]
    body = {"videos": [], "annotations": [], "categories": categories}
    for index in range(1, num_videos + 1):
        shots = list(_shots(720, 1280, 12, 130 + index, num_frames))
        names = [f"video{index}/{frame * 5:05d}.jpg" for frame in range(num_frames)]
        for name, scene in zip(names, shots, strict=True):
            _write_jpeg(root / "train/JPEGImages" / name, scene.picture)
        body["videos"].append({"id": index, "file_names": names, "height": 720, "width": 1280})
        for number in range(1, 5):
            runs = [_uncompressed(scene.segments == number) for scene in shots]
            row = {"id": index * 10 + number, "video_id": index, "category_id": number, "segmentations": runs}
            body["annotations"].append(row)
    _write_json(root / "train/instances.json", body)


def _shots(height: int, width: int, num_segments: int, seed: int, count: int) -> Iterator[Scene]:
    scene = draw_scene(height, width, num_segments, seed)
    return (scene.moved(7 * index) for index in range(count))


def _noise(
    generator: np.random.Generator, height: int, width: int, cell_px: int, channels: int
) -> np.ndarray:
    coarse = generator.normal(size=(height // cell_px + 2, width // cell_px + 2, channels)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _panoptic_row(segment_id: int, category_id: int, ids: np.ndarray) -> dict[str, object]:
    rows, columns = np.nonzero(ids == segment_id)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    area = len(rows)
    return {"id": segment_id, "category_id": category_id, "iscrowd": 0, "area": area, "bbox": box}


def _sa_1b_row(annotation_id: int, mask: np.ndarray) -> dict[str, object]:
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    box = coco_mask.toBbox(encoded).tolist()
    return {
        "id": annotation_id,
        "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode()},
        "bbox": box,
        "area": int(coco_mask.area(encoded)),
        "predicted_iou": 0.95,
        "stability_score": 0.97,
        "point_coords": [[box[0] + box[2] / 2, box[1] + box[3] / 2]],
        "crop_box": [0, 0, mask.shape[1], mask.shape[0]],
    }


def _uncompressed(mask: np.ndarray) -> dict[str, object]:
    pixels = np.concatenate(([0], mask.T.ravel(), [2]))
    edges = np.flatnonzero(pixels[1:] != pixels[:-1])
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate(([0], edges))).tolist()}


def _write_jpeg(path: Path, picture: np.ndarray, quality: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def _write_json(path: Path, body: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))
