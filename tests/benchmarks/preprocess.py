"""How fast official data become shards, against what cannot be avoided.

    python tests/benchmarks/preprocess.py [--json FILE] [--rounds 5]

The bound, in the same run and process: every frame is read and decoded once, every label image decoded and
encoded once (annotation in JSON: parsed once, its run lengths compressed or checked once),
and the bytes of the shards written, synced and hashed. The data are made here, see ``official_data``. Rows of
one process are CPU seconds, those of two processes seconds by the clock.
"""

import hashlib
import io
import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import official_data
from PIL import Image
from pycocotools import mask as coco_mask
from table import Row, parser, report, time_all

from preprocessing import masks
from preprocessing.frame_checks import Place, decode_frame
from preprocessing.masks import compress_counts, encode_label_map, measure_masks
from preprocessing.plan import PlanParameters, WorkOrder, make_plan
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import require_source
from preprocessing.sources.label_images import SIXTEEN_BIT_MODES, read_label_image, read_segment_ids
from preprocessing.sources.official_fields import tight_box

NUM_SHARDS = 2
NUM_COPIES = 4
Encode = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Official data on disk, the plan of their shards, and how to make their masks once."""

    name: str
    title: str
    root: Path
    orders: tuple[WorkOrder, ...]
    num_frames: int
    encode: Encode


def main() -> None:
    """Measure all."""
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    given = flags.parse_args()
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as folder:
        datasets = list(make_datasets(Path(folder)))
        rows = [row for dataset in datasets for row in bound_rows(dataset, Path(folder), given.rounds)]
        rows += two_process_rows(datasets, Path(folder), given.rounds)
        rows += png_rows(Path(folder), 4 * given.rounds)
    report(rows, given.json)


def make_datasets(folder: Path) -> Iterator[Dataset]:
    """Write four official layouts and plan their shards."""
    yield make_dataset(folder, "vipseg", "VIPSeg 720p", official_data.write_vipseg, encode_vipseg)
    yield make_dataset(
        folder, "coco_panoptic", "COCO panoptic", official_data.write_coco_panoptic, encode_coco_panoptic
    )
    yield make_dataset(folder, "sa_1b", "SA-1B, 100 masks", official_data.write_sa_1b, encode_sa_1b)
    yield make_dataset(
        folder, "ytvis_2021", "YouTube-VIS 720p", official_data.write_ytvis_2021, encode_ytvis_2021
    )


def make_dataset(folder: Path, name: str, title: str, write: Encode, encode: Encode) -> Dataset:
    """Write and plan one dataset."""
    root = folder / "official" / name
    root.mkdir(parents=True)
    write(root)
    source = require_source(name)
    items = list(source.scan(root, "train"))
    num_frames = sum(item.num_frames for item in items)
    parameters = PlanParameters(target_frames_per_shard=-(-num_frames // NUM_SHARDS))
    plan = make_plan(name, "train", items, parameters, source.label_space(root))
    return Dataset(
        name=name, title=title, root=root, orders=plan.orders, num_frames=num_frames, encode=encode
    )


def bound_rows(dataset: Dataset, folder: Path, num_rounds: int) -> list[Row]:
    """Compare packing with the bound."""
    out = folder / "release" / dataset.name
    pack_all(dataset, out)
    shards = [path.read_bytes() for path in sorted(out.glob("*.tar"))]
    functions = {
        "ours": lambda: pack_all(dataset, out),
        "whole": lambda: run_bound(dataset, shards, folder, decode_whole),
        "ours only": lambda: run_bound(dataset, shards, folder, decode_as_we_do),
    }
    times = time_all(functions, num_rounds, process_time)
    speed = dataset.num_frames / times["ours"]
    megabytes = sum(map(len, shards)) / times["ours"] / 1e6
    notes = {
        "whole": f"the bound, JPEGs decoded to pixels; {speed:.0f} frames/s, {megabytes:.0f} MB/s",
        "ours only": "the bound with our decoding, which checks every bit and makes few pixels",
    }
    return [
        Row(name=f"{dataset.title}, one process", ours=times["ours"], other=times[bound], unit="s", note=note)
        for bound, note in notes.items()
    ]


def pack_all(dataset: Dataset, out: Path) -> None:
    """Pack every shard into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    for order in dataset.orders:
        pack_one(dataset.name, dataset.root, order, out)


def pack_one(name: str, root: Path, order: WorkOrder, out: Path) -> None:
    """Pack one shard as a worker does that has seen none of its masks."""
    forget_masks()
    result = pack_shard(require_source(name), root, "train", order, out)
    assert not result.rejects, result.rejects[0]


def forget_masks() -> None:
    """Clear what a process remembers of masks: the next round must not find those of the last."""
    masks._areas.clear()
    tight_box.cache_clear()


def run_bound(dataset: Dataset, shards: list[bytes], folder: Path, decode: Callable[[bytes], None]) -> None:
    """Do what no builder can leave out."""
    forget_masks()
    for path in sorted(dataset.root.rglob("*.jpg")):
        decode(path.read_bytes())
    dataset.encode(dataset.root)
    for shard in shards:
        with (folder / "bound.tar").open("wb") as stream:
            stream.write(shard)
            stream.flush()
            os.fsync(stream.fileno())
        hashlib.sha256(shard).hexdigest()


def decode_whole(content: bytes) -> None:
    """Decode a JPEG at its size and in color."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()


def decode_as_we_do(content: bytes) -> None:
    """Decode a JPEG as validation does."""
    decode_frame(content, Place(where="", name="", file="", pointer=""))


def encode_vipseg(root: Path) -> None:
    """Encode 16 bit label images."""
    for path in root.rglob("*.png"):
        encode_label_map(read_label_image(path, SIXTEEN_BIT_MODES, ""))


def encode_coco_panoptic(root: Path) -> None:
    """Encode color label images."""
    for path in root.rglob("*.png"):
        encode_label_map(read_segment_ids(path, ""))


def encode_sa_1b(root: Path) -> None:
    """Check compressed run lengths."""
    for path in root.glob("*.json"):
        rows = json.loads(path.read_bytes())["annotations"]
        measure_masks([row["segmentation"]["counts"] for row in rows], *rows[0]["segmentation"]["size"])


def encode_ytvis_2021(root: Path) -> None:
    """Compress run lengths."""
    for row in json.loads((root / "train/instances.json").read_bytes())["annotations"]:
        for segmentation in row["segmentations"]:
            compress_counts(segmentation["counts"], *segmentation["size"])


def two_process_rows(datasets: list[Dataset], folder: Path, num_rounds: int) -> list[Row]:
    """Compare two worker processes with one."""
    with worker_pool(1) as one, worker_pool(2) as two:
        return [two_process_row(dataset, one, two, folder, num_rounds) for dataset in datasets]


@contextmanager
def worker_pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes as Ray does: fresh ones, which import what they need once."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=logging.disable) as pool:
        list(pool.map(require_source, ["vipseg"] * 2 * num_workers))
        yield pool


def two_process_row(
    dataset: Dataset, one: ProcessPoolExecutor, two: ProcessPoolExecutor, folder: Path, num_rounds: int
) -> Row:
    """Measure one dataset."""

    def pack_with(pool: ProcessPoolExecutor, out: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)
        # Several times over: a shard of this size takes a moment only.
        places = [(order, out / str(copy)) for copy in range(NUM_COPIES) for order in dataset.orders]
        tasks = [pool.submit(pack_one, dataset.name, dataset.root, *place) for place in places]
        for task in tasks:
            task.result()

    times = time_all(
        {
            "ours": lambda: pack_with(two, folder / "release/two"),
            "other": lambda: pack_with(one, folder / "release/one"),
        },
        num_rounds,
    )
    return Row(name=f"{dataset.title}, two processes", unit="s", note="one process", **times)


def png_rows(folder: Path, num_rounds: int) -> list[Row]:
    """Compare turning panoptic PNGs into run lengths with one mask and one encode per segment."""
    sizes = ((480, 640, 12), (720, 1280, 15), (720, 1280, 40))
    return [row for size in sizes for row in png_rows_of_size(folder / "panoptic.png", *size, num_rounds)]


def png_rows_of_size(path: Path, height: int, width: int, num_segments: int, num_rounds: int) -> list[Row]:
    """Compare with and without decoding the file."""
    ids = official_data.draw_scene(height, width, num_segments, seed=1).segments * 98_765
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)).save(path)

    def ours() -> dict[int, str]:
        return encode_label_map(read_segment_ids(path, ""))

    def other() -> dict[int, str]:
        return encode_each(read_each(path))

    assert ours() == other()
    decoded = {"ours": lambda: encode_label_map(ids), "other": lambda: encode_each(ids)}
    whole = time_all({"ours": ours, "other": other}, num_rounds, process_time)
    encoding = time_all(decoded, num_rounds, process_time)
    title = f"{width} x {height}, {num_segments} segments"
    note = "mask == id, then pycocotools.encode, per segment"
    return [
        Row(name=f"PNG to RLEs, {title}", unit="s", note=f"{note}; both decode the PNG", **whole),
        Row(name=f"map to RLEs, {title}", unit="s", note=note, **encoding),
    ]


def read_each(path: Path) -> np.ndarray:
    """Join the channels of a color PNG the usual way."""
    with Image.open(path) as image:
        channels = np.asarray(image).astype(np.uint32)
    return channels[..., 0] + 256 * channels[..., 1] + 256**2 * channels[..., 2]


def encode_each(ids: np.ndarray) -> dict[int, str]:
    """Encode one segment after the other."""
    return {
        int(i): coco_mask.encode(np.asfortranarray(ids == i, dtype=np.uint8))["counts"].decode()
        for i in np.unique(ids)
    }


if __name__ == "__main__":
    main()
