"""Time LitData over the samples of a release; run by ``loader.py`` in the environment of LitData.

    python litdata_clips.py RELEASE FOLDER SPEC_JSON NUM_ROUNDS

The tars are converted once into LitData's chunks, a sample each with the bytes of all its frames. Prints the
shortest CPU time of a pass, per clip, as JSON.
"""

import json
import random
import sys
import tarfile
import time
from pathlib import Path

import cv2
import litdata
import torch
from plain_clips import PlainSpec, make_clip


def read_samples(release: Path):
    """Give the samples of all shards as members by suffix."""
    for shard in sorted(release.glob("*.tar")):
        sample, key = {}, None
        with tarfile.open(shard) as archive:
            for member in archive:
                name, suffix = member.name.split(".", 1)
                if key not in (None, name):
                    yield sample
                    sample = {}
                key = name
                sample[suffix] = archive.extractfile(member).read()
        yield sample


def convert(release: Path, folder: Path) -> None:
    """Write the samples as LitData chunks."""
    writer = litdata.streaming.writer.BinaryWriter(str(folder), chunk_bytes="64MB")
    for index, sample in enumerate(read_samples(release)):
        frames = [sample[name] for name in sorted(sample) if name[:6].isdigit()]
        body = {"meta": sample["meta.json"], "annotation": sample["ann.json"]}
        body |= {"lengths": json.dumps([len(data) for data in frames]), "frames": b"".join(frames)}
        writer[index] = body
    writer.done()
    writer.merge()


class Clips(litdata.StreamingDataset):
    """Clips of the samples."""

    spec: PlainSpec

    def __getitem__(self, index):
        """Make a clip of a sample."""
        sample = super().__getitem__(index)
        frames, start = [], 0
        for length in json.loads(sample["lengths"]):
            frames.append(sample["frames"][start : start + length])
            start += length
        meta, annotation = bytes(sample["meta"]), bytes(sample["annotation"])
        return make_clip(meta, annotation, frames, self.spec, random.Random(index.index))


def main() -> None:
    """Convert and measure."""
    release, folder, spec, num_rounds = sys.argv[1:]
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if not Path(folder).is_dir():
        convert(Path(release), Path(folder))
    clips = Clips(folder, shuffle=True)
    clips.spec = PlainSpec(**json.loads(spec))
    best, passes = float("inf"), max(1, 16 // len(clips))
    for _ in range(int(num_rounds) + 1):
        start = time.process_time()
        count = sum(1 for _ in range(passes) for _ in clips)
        best = min(best, (time.process_time() - start) / count)
    print(json.dumps({"clip_s": best}))


if __name__ == "__main__":
    main()
