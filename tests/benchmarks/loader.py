"""How fast clips are made, per core, against what cannot be avoided and against other loaders.

    python tests/benchmarks/loader.py [--json FILE] [--rounds 5] [--litdata [PYTHON]]

The bound, in the same run and process: the same frames, decoded and resized to the same sizes, nothing else.
Where the target is small both decode at a fraction of the size, and a row compares with decoding the whole.
Others read the same shards and make the same clips in the usual way, see ``plain_clips``. ``--litdata`` also
measures LitData, in the environment of the Python named, or else in one made for it under a temporary folder
by ``uv``, which must be on the path: its pins are not ours. The data are made here, see ``loader_data``.

One clip at a time, in this process, one thread: what a DataLoader worker does on its core. Times are CPU
time, so that a busy machine does not spoil them.
"""

import json
import logging
import random
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import webdataset
from loader_data import make_image_release, make_video_release
from plain_clips import PlainSpec, make_clip
from table import Row, parser, report

from univs.data.augment import AugmentConfig
from univs.data.clips import ClipSource, ClipSpec, draw_clip, padded_size
from univs.data.images import decode_image
from univs.data.loader import ClipSteps, LoaderConfig, MixtureSource
from univs.data.release import Release
from univs.data.stores import ByteStore
from univs.data.worker import start_worker

RANGE_FRAMES = 20
NUM_CLIPS = 12
COLOR = 0.1


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One kind of clip."""

    name: str
    release: Path
    num_frames: int
    short_edge_px: int
    max_objects: int
    has_color: bool = True

    @property
    def spec(self) -> PlainSpec:
        """The clip as others make it."""
        return PlainSpec(
            self.num_frames, RANGE_FRAMES, self.max_objects, self.short_edge_px, 2 * self.short_edge_px
        )

    @property
    def config(self) -> LoaderConfig:
        """The clip as we make it: whole frames, flip and color."""
        color = COLOR if self.has_color else 0.0
        augment = AugmentConfig(
            short_edges_px=(self.short_edge_px,),
            max_long_edge_px=2 * self.short_edge_px,
            crop_probability=0,
            brightness=color,
            contrast=color,
            saturation=color,
            pseudo_motion=False,
        )
        return LoaderConfig(
            batch_size=1,
            frames_per_clip=self.num_frames,
            max_objects=self.max_objects,
            augment=augment,
            num_workers=0,
        )


class CountingStore:
    """A store that counts the bytes read."""

    def __init__(self, inner: ByteStore) -> None:
        self.inner, self.num_bytes = inner, 0

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read and count."""
        self.num_bytes += size
        return self.inner.read(name, offset, size)

    def read_ranges(self, name: str, ranges) -> list[bytes]:
        """Read and count."""
        return [self.read(name, offset, size) for offset, size in ranges]


def main() -> None:
    """Measure all."""
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--litdata", nargs="?", const="", help="measure LitData, with this Python or its own")
    given = flags.parse_args()
    logging.disable(logging.WARNING)
    start_worker(0)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        scenes = make_scenes(root)
        rows = [row for scene in scenes for row in scene_rows(scene, given.rounds)]
        if given.litdata is not None:
            python = given.litdata or make_environment(root)
            rows += [litdata_row(scene, python, root, given.rounds) for scene in scenes]
    report(rows, given.json)


def make_scenes(root: Path) -> list[Scene]:
    """Write the releases and name the clips to make of them."""
    videos, images = make_video_release(root / "videos"), make_image_release(root / "images")
    return [
        Scene(
            name="720p video, 5 frames at 576",
            release=videos,
            num_frames=5,
            short_edge_px=576,
            max_objects=20,
        ),
        Scene(
            name="720p video, 5 frames at 320",
            release=videos,
            num_frames=5,
            short_edge_px=320,
            max_objects=20,
        ),
        Scene(name="1500x2250 image at 800", release=images, num_frames=1, short_edge_px=800, max_objects=60),
        Scene(name="1500x2250 image at 512", release=images, num_frames=1, short_edge_px=512, max_objects=60),
    ]


def scene_rows(scene: Scene, num_rounds: int) -> list[Row]:
    """Compare the ways to make one kind of clip."""
    steps = ClipSteps(
        [MixtureSource(path=scene.release, frame_range_frames=RANGE_FRAMES)], scene.config, seed=0
    )
    frames = [clip_frames(scene, step) for step in range(NUM_CLIPS)]
    plain = webdataset_clips(scene)
    functions: dict[str, Callable[[], object]] = {
        "ours": lambda: consume(steps[step] for step in range(NUM_CLIPS)),
        "bound": lambda: consume(decode_and_resize(clip, reduced=True) for clip in frames),
        "full": lambda: consume(decode_and_resize(clip, reduced=False) for clip in frames),
        "webdataset": lambda: consume(islice(plain, NUM_CLIPS)),
        "unpacked": lambda: consume(steps[step].unpack() for step in range(NUM_CLIPS)),
    }
    times = {name: seconds / NUM_CLIPS for name, seconds in cpu_times(functions, num_rounds).items()}
    ours = times["ours"]
    speed = f"{1 / ours:.1f} clips/s, {scene.num_frames / ours:.0f} frames/s"

    def row(way: str, note: str) -> Row:
        return Row(name=scene.name, ours=1e3 * ours, other=1e3 * times[way], unit="ms", note=note)

    return [
        row("bound", f"decode + resize, nothing else ({speed})"),
        row("full", "decode whole + resize, nothing else"),
        row("webdataset", "WebDataset, plain"),
        Row(
            name=f"{scene.name}, on the CPU",
            ours=1e3 * times["unpacked"],
            other=1e3 * times["webdataset"],
            unit="ms",
            note="WebDataset, plain; ours normalized, too, as a GPU does otherwise",
        ),
        amplification_row(scene),
    ]


def consume(clips: Iterable[object]) -> None:
    """Make clips and let go of each, as a worker does."""
    deque(clips, maxlen=0)


def cpu_times(functions: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Give the least CPU seconds of each function; they take turns, and the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(num_rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            found[name].append(time.process_time() - start)
    return {name: min(seconds[1:]) for name, seconds in found.items()}


@dataclass(frozen=True, kw_only=True)
class FrameSet:
    """The encoded frames of a clip and the size it is shown at."""

    encoded: list[bytes]
    size: tuple[int, int]
    scale: int


def clip_frames(scene: Scene, step: int) -> FrameSet:
    """Give what the clip of a step is made from."""
    steps = ClipSteps(
        [MixtureSource(path=scene.release, frame_range_frames=RANGE_FRAMES)], scene.config, seed=0
    )
    batch = steps[step]
    release = Release.open(scene.release)
    row_index = next(i for i, row in enumerate(release.rows) if row.key == batch.keys[0])
    row = release.rows[row_index]
    positions = sorted({i % row.num_frames for i in batch.frame_indices[0].tolist()})
    height, width = batch.image_sizes[0].tolist()
    scale = next(s for s in (8, 4, 2, 1) if s == 1 or (row.height >= s * height and row.width >= s * width))
    return FrameSet(
        encoded=release.read_frames(row_index, positions),
        size=(width, height),
        scale=scale,
    )


def decode_and_resize(clip: FrameSet, *, reduced: bool) -> list[np.ndarray]:
    """Do what cannot be avoided; the frames of a clip are there together."""
    scale = clip.scale if reduced else 1
    return [
        cv2.resize(decode_image(data, scale), clip.size, interpolation=cv2.INTER_LINEAR)
        for data in clip.encoded
    ]


def webdataset_clips(scene: Scene):
    """Make clips from the shards read in order, without end."""
    shards = sorted(str(path) for path in scene.release.glob("*.tar"))
    draw = random.Random(0)
    while True:
        for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
            frames = [sample[name] for name in sorted(sample) if name[:6].isdigit()]
            yield make_clip(sample["meta.json"], sample["ann.json"], frames, scene.spec, draw)


def amplification_row(scene: Scene) -> Row:
    """Compare the bytes read per byte of the clip's frames and annotation with reading whole samples."""
    release = Release.open(scene.release)
    store = CountingStore(release.store)
    source = ClipSource.of(
        Release(location="", manifest=release.manifest, rows=release.rows, store=store),
        ClipSpec(
            frames_per_clip=scene.num_frames,
            frame_range_frames=RANGE_FRAMES,
            max_objects=scene.max_objects,
            augment=scene.config.augment,
        ),
    )
    needed = whole = 0
    for step, index in enumerate(islice(cycle(range(len(release.rows))), NUM_CLIPS)):
        seeds, row = (0, step, 0), release.rows[index]
        clip = draw_clip(source, index, seeds, padded_size([source.frame(index, seeds)]))
        positions = {i % row.num_frames for i in clip.frame_indices.tolist()}
        needed += row.meta_size + row.annotation_size + sum(row.frame_sizes[p] for p in positions)
        whole += row.meta_size + row.annotation_size + sum(row.frame_sizes)
    ours, other = store.num_bytes / needed, whole / needed
    return Row(
        name=f"{scene.name}, bytes read / needed",
        ours=ours,
        other=other,
        unit="x",
        note="reading whole samples",
    )


def make_environment(root: Path) -> str:
    """Make an environment for LitData."""
    python = root / "litdata/bin/python"
    subprocess.run(["uv", "venv", "--quiet", str(python.parents[1])], check=True)
    packages = ["litdata", "numpy", "opencv-python-headless", "pycocotools", "torch"]
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
    return str(python)


def litdata_row(scene: Scene, python: str, root: Path, num_rounds: int) -> Row:
    """Compare with LitData, our time taken again right before its."""
    steps = ClipSteps(
        [MixtureSource(path=scene.release, frame_range_frames=RANGE_FRAMES)], scene.config, seed=0
    )
    times = cpu_times({"ours": lambda: consume(steps[step] for step in range(NUM_CLIPS))}, num_rounds)
    script = Path(__file__).with_name("litdata_clips.py")
    chunks = root / f"litdata_{scene.release.parent.name}"
    command = [
        python,
        str(script),
        str(scene.release),
        str(chunks),
        json.dumps(asdict(scene.spec)),
        str(num_rounds),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    other = json.loads(done.stdout.splitlines()[-1])["clip_s"]
    ours = times["ours"] / NUM_CLIPS
    return Row(name=scene.name, ours=1e3 * ours, other=1e3 * other, unit="ms", note="LitData, plain")


if __name__ == "__main__":
    main()
