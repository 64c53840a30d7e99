"""The README's way on real data: official files to shards, shards to a checkpoint, a checkpoint to scores."""

import json
import os
from pathlib import Path

import pytest
import ray

from jobs.artifacts import digest_release, read_record, verify_outputs
from jobs.training_log import read_log
from preprocessing.index import read_manifest

pytestmark = [
    pytest.mark.skipif("UNIVS_SAMPLES_DIR" not in os.environ, reason="needs UNIVS_SAMPLES_DIR: real samples"),
    pytest.mark.timeout(900),
]

SPLITS = {"train": ("blackswan", "scooter-black"), "val": ("car-shadow",)}
SIZES = {
    "coco_panoptic/train": 24,
    "coco_panoptic/val": 12,
    "davis_2016/train": 50 + 43,
    "davis_2016/val": 40,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """The samples' COCO as it is, and their DAVIS sequences with the lists that the samples leave out."""
    samples, davis = Path(os.environ["UNIVS_SAMPLES_DIR"]), tmp_path_factory.mktemp("davis")
    for folder in ("JPEGImages", "Annotations"):
        (davis / folder).symlink_to(samples / "davis2016/DAVIS" / folder)
    (davis / "ImageSets/2016").mkdir(parents=True)
    for split, names in SPLITS.items():
        (davis / f"ImageSets/2016/{split}.txt").write_text("\n".join(names))
    return {"coco_panoptic": samples / "coco", "davis_2016": davis}


def flags_for(sources, name, out):
    dataset, split = name.split("/")
    return "--dataset", dataset, "--split", split, "--source", sources[dataset], "--out", out


@pytest.fixture(scope="module")
def root(run_script, ray_local, sources, tmp_path_factory) -> Path:
    """A run root with the four releases."""
    root = tmp_path_factory.mktemp("real")
    address = ray.get_runtime_context().gcs_address
    for name in SIZES:
        flags = flags_for(sources, name, root / "releases")
        done = run_script("pipelines/preprocess.py", *flags, RAY_ADDRESS=address)
        assert done.returncode == 0, done.stderr
        assert "rejects none\n" in done.stdout
    return root


@pytest.fixture(scope="module")
def checkpoint(root) -> Path:
    return root / "small_real/stage2/checkpoint.safetensors"


def test_real_data_is_packed_whole(root):
    for name, num_frames in SIZES.items():
        folder = root / "releases" / name
        manifest = read_manifest(folder)
        assert manifest.num_frames == num_frames
        assert manifest.num_objects >= manifest.num_items
        verify_outputs(folder, read_record(folder, "release"))


def test_real_data_packed_again_is_the_same_to_the_byte(root, ray_local, run_here, sources, tmp_path):
    for name in SIZES:
        ended = run_here("preprocess", *flags_for(sources, name, tmp_path))
        assert ended.code == 0, ended.err
        first, again = (read_manifest(folder / name) for folder in (root / "releases", tmp_path))
        assert [entry.sha256 for entry in again.shards] == [entry.sha256 for entry in first.shards]
        assert digest_release(again) == digest_release(first)


def test_small_recipe_trains_on_real_data_and_is_scored(root, checkpoint, ray_local, run_here):
    steps = ("--train.num-steps", 4, "--train.report-every-steps", 2, "--checkpoint-every-steps", 4)
    ended = run_here("stage2", "--recipe", "small_real", *steps, UNIVS_RUN_ROOT=str(root))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == str(checkpoint)
    record = read_record(checkpoint.parent, "checkpoint")
    assert set(record.inputs) == {"start", "coco_panoptic/train", "davis_2016/train"}
    assert [step.step for step in read_log(checkpoint.parent / "steps.jsonl")] == [2, 4]

    flags = ("--checkpoint", checkpoint, "--data", root / "releases", "--out", root / "evaluation")
    benchmarks = ("--benchmarks", "coco_panoptic,davis_2016", "--recipe", "small_real")
    ended = run_here("evaluate", *flags, *benchmarks, UNIVS_RUN_ROOT=str(root))
    assert ended.code == 0, ended.err
    scores = json.loads((root / "evaluation/report.json").read_text())["benchmarks"]
    assert 0 <= scores["coco_panoptic"]["pq"]["checkpoint"] <= 100
    assert 0 <= scores["davis_2016"]["jf"]["checkpoint"] <= 100
    inputs = read_record(root / "evaluation", "evaluation").inputs
    assert inputs["checkpoint"] == record.outputs["checkpoint.safetensors"]
    assert set(inputs) == {"checkpoint", "coco_panoptic/val", "davis_2016/val"}
