import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

from preprocessing.index import read_manifest
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import SOURCES

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
        env={**os.environ, "UNIVS_CONNECT_TIMEOUT_S": "60", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def flags_for(official, out):
    return "--dataset", "davis_2017", "--split", "train", "--source", official, "--out", out


def test_list_names_every_dataset_and_its_needs():
    done = run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    start = lines.index("davis_2017: videos for sot, splits train val test-dev test-challenge")
    assert lines[start + 1].startswith("  needs JPEGImages/480p/")
    assert lines[start + 2].startswith("  official size 60 train, 30 val, ")
    assert "; counted: train 60 items; val 30 items; " in lines[start + 2]
    assert lines[start + 3] == "  yields masks, objects without class, masks to start from, scribbles"
    assert lines[start + 4].startswith("  license ")
    assert [line.partition(":")[0] for line in lines[::5]] == list(SOURCES)
    assert len(lines) == 5 * len(SOURCES)


@pytest.fixture(scope="module")
def datasets(official):
    """Give the folder of datasets: one is whole, one has no validation list, one has no files."""
    root = official.parent
    sizes = MiniatureConfig(train_images=1, val_images=1, train_videos=2, val_videos=1)
    build(root, sizes, ["vspw"])
    (root / "vspw/val.txt").unlink()
    (root / "ovis").mkdir()
    return root


@pytest.fixture(scope="module")
def releases(datasets, ray_local, tmp_path_factory):
    """Give the folder of releases of all datasets, and how the script ended."""
    out = tmp_path_factory.mktemp("releases")
    address = ray.get_runtime_context().gcs_address
    flags = "--dataset", "all", "--source", datasets, "--out", out
    return out, run(*flags, RAY_ADDRESS=address)


def test_all_datasets_are_built_with_a_table_and_a_failure_is_told(releases, datasets):
    out, done = releases
    table = [line.split() for line in done.stdout.splitlines()]
    assert table[0][:3] == ["dataset", "split", "state"]
    states = {(row[0], row[1]): row[2] for row in table[1:]}
    assert {name for name, state in states.items() if state == "built"} == {
        ("vspw", "train"),
        ("davis_2017", "train"),
        ("davis_2017", "val"),
    }
    assert {state for (name, _), state in states.items() if name == "ovis"} == {"failed"}
    assert states["vspw", "val"] == "not"
    assert f"--source {datasets}/vspw: val.txt not found; expected " in done.stdout
    assert read_manifest(out / "davis_2017/train").num_items == 4
    assert done.returncode == 1
    assert "W171 counts are not those of the official release: davis_2017 train: 4 items, off" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_datasets_dry_run_lists_what_would_be_tried(datasets, tmp_path):
    flags = "--dataset", "all", "--split", "train", "--source", datasets, "--out", tmp_path / "out"
    done = run(*flags, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    names = [name for name in SOURCES if name in {"vspw", "davis_2017", "ovis"}]
    assert done.stdout == "".join(f"{name} train from {datasets}/{name}\n" for name in names)
    assert not (tmp_path / "out").exists()


def test_all_datasets_of_an_empty_folder_is_one_line(tmp_path):
    done = run("--dataset", "all", "--split", "all", "--source", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: --source {tmp_path}: has no folder named like a dataset that has ")


def test_counts_that_are_required_fail_before_anything_is_packed(official, ray_local, tmp_path):
    address = ray.get_runtime_context().gcs_address
    done = run(*flags_for(official, tmp_path), "--official", "require", RAY_ADDRESS=address)
    assert_ends_with_error(
        done,
        "E170 counts are not those of the official release: davis_2017 train: 4 items, official 60; "
        "complete the source, or pass --official warn",
    )
    assert list(tmp_path.iterdir()) == []


def test_verify_tells_a_sound_release_from_a_damaged_one(releases, tmp_path):
    release = shutil.copytree(releases[0] / "davis_2017/train", tmp_path / "release")
    done = run("--verify", release, "--num-samples", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{release}: 1 shards, 4 samples, 2 of them decoded: as written\n"
    (shard,) = release.glob("*.tar")
    content = bytearray(shard.read_bytes())
    content[4000] ^= 4
    shard.write_bytes(bytes(content))
    done = run("--verify", release)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    expected = f"error: E162 bytes on disk are not those that were written: {shard} has sha256 "
    assert done.stderr.startswith(expected)


def test_leaks_between_releases_are_printed_and_written(releases, datasets, ray_local, tmp_path):
    # A training set in which a validation video was left.
    root = shutil.copytree(datasets / "davis_2017", tmp_path / "davis_2017")
    lists = root / "ImageSets/2017"
    (name, *_) = (lists / "val.txt").read_text().splitlines()
    with (lists / "train.txt").open("a") as stream:
        stream.write(f"\n{name}\n")
    address = ray.get_runtime_context().gcs_address
    assert run(*flags_for(root, tmp_path / "out"), RAY_ADDRESS=address).returncode == 0
    folders = tmp_path / "out/davis_2017/train", releases[0] / "davis_2017/val", releases[0] / "vspw/train"
    done = run("--leaks", *folders, "--report", tmp_path / "leaks.parquet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"davis_2017/train and davis_2017/val share 1 groups by name and 0 by frames, 12 frames; "
        f"first davis:{name}\n"
    )
    (row,) = pq.read_table(tmp_path / "leaks.parquet").to_pylist()
    assert (row["match"], row["training_group"], row["num_frames"]) == ("group", f"davis:{name}", 12)


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
        f"items 4, samples 4, frames 48, objects {manifest.num_objects}, expressions 0\n"
        "rejects none\nwarnings none\n"
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
            "--dataset davis: no such dataset; expected one of coco_panoptic, ",
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
    assert_ends_with_error(
        done,
        f"{tmp_path}/davis_2017/train/davis_2017-train-000000.tar not written: "
        "No space left on device; free space and run again",
    )
    assert done.stdout == ""


def assert_ends_with_error(done, line):
    """The user's error is the last line, it is whole, and no traceback is anywhere."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith(f"error: {line}\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def test_ray_that_does_not_start_is_one_line_after_a_second_try(official, tmp_path):
    done = run(*flags_for(official, tmp_path / "out"), RAY_ADDRESS="", RAY_DASHBOARD_STARTUP_TIMEOUT_S="0")
    advice = "free memory and disk or stop other work, look into /tmp/ray/session_latest/logs, and run again"
    *_, second = done.stderr.partition(" trying once more\n")
    assert second, done.stderr
    reason = second.partition("error: Ray did not start on this machine (")[2].removesuffix(f"); {advice}\n")
    assert_ends_with_error(done, f"Ray did not start on this machine ({reason}); {advice}")
    assert "dashboard" in reason
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_tasks_that_memory_does_not_allow_are_given_up_with_one_line(official, tmp_path):
    """Ray kills a worker as soon as more than this share of the machine's memory is in use: at once."""
    scarce = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "50"}
    done = run(*flags_for(official, tmp_path / "out"), RAY_ADDRESS="", **scarce)
    assert_ends_with_error(
        done,
        "workers died 4 times on the same task, most likely for lack of memory; "
        "run again with fewer --num-workers (OutOfMemoryError)",
    )
