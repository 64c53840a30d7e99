import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from preprocessing.index import read_manifest
from preprocessing.miniature import MiniatureConfig, build

SCRIPT = Path(__file__).parents[2] / "pipelines/preprocess.py"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    sizes = MiniatureConfig(train_images=1, val_images=1, train_videos=4, val_videos=1)
    return build(tmp_path_factory.mktemp("official"), sizes, ["davis_2017"])["davis_2017"]


def run(*flags, prefix=(), **environment):
    """Run the script as a user does, from another folder."""
    return subprocess.run(
        [*prefix, sys.executable, str(SCRIPT), *map(str, flags)],
        cwd="/",
        env={**os.environ, "UNIVS_CONNECT_TIMEOUT_S": "5", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def flags_for(official, out):
    return "--dataset", "davis_2017", "--split", "train", "--source", official, "--out", out


def test_list_names_every_dataset_and_its_needs():
    done = run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "davis_2017: videos for sot, splits train val\n  needs JPEGImages/480p/" in done.stdout
    assert done.stdout.count("\n  license ") == 8


def test_dry_run_shows_the_plan_and_writes_nothing(official, tmp_path):
    done = run(*flags_for(official, tmp_path / "out"), "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/out/davis_2017/train would hold 4 items, 48 frames, 1 shards\n"
    assert not (tmp_path / "out").exists()


def test_release_is_built_on_the_cluster_of_the_environment(official, ray_local, tmp_path):
    address = ray.get_runtime_context().gcs_address
    done = run(*flags_for(official, tmp_path), RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "davis_2017/train")
    (shard,) = manifest.shards
    assert done.stdout == (
        f"items 4, samples 4, frames 48, objects {manifest.num_objects}, expressions 0\nrejects none\n"
        f"{shard.sha256}  {shard.name}\nrelease {tmp_path}/davis_2017/train\n"
    )
    assert "KiB of source in" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "code", "line"),
    [
        (
            {"--source": "/nowhere"},
            1,
            "--source /nowhere: no such folder; expected one with JPEGImages/480p/",
        ),
        (
            {"--dataset": "davis"},
            1,
            "--dataset davis: no such dataset; expected one of coco_panoptic, sa_1b, ",
        ),
        ({"--split": "test"}, 1, "--split test: davis_2017 has no such split; expected one of train, val"),
        ({"--num-workers": "two"}, 2, "--num-workers: expected an integer, got 'two'"),
        ({"--num-worker": "2"}, 2, "--num-worker: no such option, did you mean --num-workers?"),
    ],
)
def test_wrong_flag_is_one_line_before_anything_starts(official, tmp_path, change, code, line):
    given = flags_for(official, tmp_path / "out")
    pairs = {**dict(zip(given[::2], given[1::2], strict=True)), **change}
    done = run(*(part for pair in pairs.items() for part in pair), RAY_ADDRESS="")
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {line}")
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert not (tmp_path / "out").exists()


def test_unreachable_ray_is_one_line(official, tmp_path):
    done = run(*flags_for(official, tmp_path / "out"), RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == (
        "error: no Ray answers at RAY_ADDRESS=127.0.0.1:1 ([Errno 111] Connection refused); start one with "
        "`ray start --head`, correct the address, or unset it to run on this machine\n"
    )
    assert not (tmp_path / "out").exists()


def test_full_disk_is_one_line_and_leaves_no_shard(official, tmp_path):
    script = (
        f'mount -t tmpfs -o size=64k none {tmp_path} && "$@"; code=$?; '
        f'find {tmp_path} -name "*.tar" -o -name "*.tmp-*"; exit $code'
    )
    small_disk = (
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
    )
    if shutil.which("unshare") is None or subprocess.run([*small_disk, "true"], check=False).returncode:
        pytest.skip("this machine lets no user mount a small disk in a namespace of its own")
    done = run(*flags_for(official, tmp_path), prefix=small_disk, RAY_ADDRESS="")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: {tmp_path}/davis_2017/train/davis_2017-train-000000.tar not written: "
        "No space left on device; free space and run again"
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
