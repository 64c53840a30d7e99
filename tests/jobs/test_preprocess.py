import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from jobs.artifacts import read_record, verify_outputs
from jobs.errors import UserError
from jobs.preprocess import PreprocessConfig, outline_release, preprocess
from preprocessing.errors import SourceError
from preprocessing.index import begin_release, read_manifest
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import require_source
from preprocessing.tables import read_rejects
from preprocessing.verify import verify_release

CHECKOUT = Path(__file__).parents[2]
TASKS = {"ray::_plan_task", "ray::_pack_task", "ray::_commit_task", "ray::_record_task"}
NUM_VIDEOS = 16


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    sizes = MiniatureConfig(train_images=1, val_images=1, train_videos=NUM_VIDEOS, val_videos=1)
    return build(root, sizes, ["vipseg"])["vipseg"]


def make_job(official, out, **changes):
    job = PreprocessConfig(
        dataset="vipseg", split="train", source=official, out=out, frames_per_shard=12, official="ignore"
    )
    return replace(job, **changes)


def digests(release_dir):
    """Digest of every file but the record, which says when and by what command."""
    return {
        path.relative_to(release_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(release_dir.rglob("*"))
        if path.is_file() and path.name != "record.json"
    }


@pytest.fixture(scope="module")
def reference(official, ray_local, tmp_path_factory):
    """Files of a release built by two undisturbed workers."""
    job = make_job(official, tmp_path_factory.mktemp("reference"), num_workers=2)
    preprocess(job, ray_local)
    return digests(job.release_dir)


@pytest.mark.parametrize("num_workers", [1, 5])
def test_release_is_the_same_for_any_number_of_workers(official, ray_local, reference, tmp_path, num_workers):
    job = make_job(official, tmp_path, num_workers=num_workers)
    manifest = preprocess(job, ray_local)
    assert digests(job.release_dir) == reference
    tables = ["index.parquet", "frames.parquet", "rejects.parquet", "warnings.parquet"]
    assert sorted(reference) == sorted(["manifest.json", *tables, *(entry.name for entry in manifest.shards)])
    assert (manifest.num_items, len(manifest.shards), manifest.num_frames) == (
        NUM_VIDEOS,
        NUM_VIDEOS,
        12 * NUM_VIDEOS,
    )
    assert verify_release(job.release_dir) == manifest


def test_release_has_a_record_of_its_files_and_plan(official, ray_local, tmp_path):
    job = make_job(official, tmp_path, frames_per_shard=4096)
    manifest = preprocess(job, ray_local)
    record = read_record(job.release_dir, "release")
    verify_outputs(job.release_dir, record)
    assert record.inputs == {"plan": manifest.plan_digest}
    assert {path.name for path in job.release_dir.iterdir()} == {*record.outputs, "record.json"}


def test_whole_release_is_left_alone(official, ray_local, reference, tmp_path, caplog):
    job = make_job(official, tmp_path)
    preprocess(job, ray_local)
    before = {path: path.stat().st_mtime_ns for path in job.release_dir.iterdir()}
    with caplog.at_level(logging.INFO, "jobs.preprocess"):
        assert preprocess(job, ray_local) == read_manifest(job.release_dir)
    assert [record.message for record in caplog.records] == [f"{job.release_dir}: release is up to date"]
    assert {path: path.stat().st_mtime_ns for path in job.release_dir.iterdir()} == before


def test_release_of_another_plan_is_replaced_only_when_told(official, ray_local, reference, tmp_path):
    job = make_job(official, tmp_path)
    preprocess(replace(job, frames_per_shard=48), ray_local)
    before = digests(job.release_dir)
    with pytest.raises(UserError) as error:
        preprocess(job, ray_local)
    assert str(error.value) == (
        f"{job.release_dir}/manifest.json: this release was made from another plan (other items, options or "
        "version); choose another --out, or pass --overwrite to replace it"
    )
    assert digests(job.release_dir) == before
    preprocess(replace(job, overwrite=True), ray_local)
    assert digests(job.release_dir) == reference


def test_finished_shards_are_kept_on_resume(official, ray_local, reference, tmp_path):
    job = make_job(official, tmp_path)
    source = require_source("vipseg")
    space = source.label_space(official)
    parameters = PlanParameters(target_frames_per_shard=12)
    plan = make_plan("vipseg", "train", source.scan(official, "train"), parameters, space)
    orders = begin_release(job.release_dir, plan)
    pack_shard(source, official, "train", read_work_order(orders[3]), job.release_dir)
    (tar,) = job.release_dir.glob("*.tar")
    packed_ns = tar.stat().st_mtime_ns
    preprocess(job, ray_local)
    assert tar.stat().st_mtime_ns == packed_ns
    assert digests(job.release_dir) == reference


def own_tasks():
    """Find the workers that are at a task of a job, only those of the Ray that this process has started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            title = (process.cmdline() or [""])[0]
            if title in TASKS:
                yield title, process


@contextmanager
def killer(seed, max_kills):
    """Kill workers of the job with signal 9, at random moments of whatever task they are at."""
    generator, stop = random.Random(seed), threading.Event()
    killed: list[str] = []

    def kill() -> None:
        while len(killed) < max_kills and not stop.wait(generator.uniform(0, 0.15)):
            # Tasks are short: one look alone would often find none.
            while not (at_work := list(own_tasks())) and not stop.wait(0.001):
                pass
            if at_work:
                title, victim = generator.choice(at_work)
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    killed.append(title)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def check_killed_workers(official, session, reference, out, seed):
    job = make_job(official, out)
    # A task may be begun four times, so three kills can never be too many for one.
    with killer(seed, 3) as killed:
        preprocess(job, session)
    assert digests(job.release_dir) == reference
    return killed


def test_workers_killed_at_random_moments_cost_nothing(official, ray_local, reference, tmp_path):
    assert check_killed_workers(official, ray_local, reference, tmp_path, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 13))
def test_workers_killed_at_many_random_moments_cost_nothing(official, ray_local, reference, tmp_path, seed):
    check_killed_workers(official, ray_local, reference, tmp_path, seed)


def run_driver_until(official, out, num_shards, delay_s):
    """Start the script, and kill it some time after it has reported so many shards; give its last line."""
    flags = ["--dataset", "vipseg", "--split", "train", "--source", str(official), "--out", str(out)]
    command = [sys.executable, str(CHECKOUT / "pipelines/preprocess.py"), *flags, "--frames-per-shard", "12"]
    address = ray.get_runtime_context().gcs_address
    with subprocess.Popen(
        [*command, "--num-workers", "1"],
        cwd=out,
        env={**os.environ, "RAY_ADDRESS": address},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as driver:
        for line in driver.stderr:
            if f"shard {num_shards}/" in line or (num_shards == 0 and " items, " in line):
                threading.Event().wait(delay_s)
                driver.send_signal(signal.SIGKILL)
                break
    return driver.returncode


def test_killed_driver_goes_on_where_it_stopped(official, ray_local, reference, tmp_path):
    job = make_job(official, tmp_path)
    assert run_driver_until(official, tmp_path, 2, 0.0) == -signal.SIGKILL
    assert not (job.release_dir / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in job.release_dir.glob("*.tar")}
    assert 2 <= len(finished) < NUM_VIDEOS
    preprocess(job, ray_local)
    assert digests(job.release_dir) == reference
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_driver_and_workers_killed_again_and_again_cost_nothing(
    official, ray_local, reference, tmp_path, seed
):
    job, generator = make_job(official, tmp_path), random.Random(seed)
    for attempt in range(4):
        with killer(f"{seed}-{attempt}", 2):
            num_shards, delay_s = generator.randrange(4), generator.uniform(0, 0.3)
            assert run_driver_until(official, tmp_path, num_shards, delay_s) in (0, -signal.SIGKILL)
    preprocess(job, ray_local)
    assert digests(job.release_dir) == reference


def damage(official, tmp_path, change):
    """Copy the source and let ``change`` break one video; give the copy and the video."""
    copy = tmp_path / "damaged"
    shutil.copytree(official, copy)
    video = sorted((copy / "imgs").iterdir())[0].name
    change(copy, video)
    return copy, video


def truncate_image(root, video):
    image = sorted((root / "imgs" / video).iterdir())[2]
    image.write_bytes(image.read_bytes()[:100])


def resize_mask(root, video):
    from PIL import Image

    path = sorted((root / "panomasks" / video).iterdir())[1]
    with Image.open(path) as mask:
        smaller = mask.resize((64, 48), Image.Resampling.NEAREST)
    smaller.save(path)


@pytest.mark.parametrize(
    ("change", "code"), [(truncate_image, "E102"), (resize_mask, "E131")], ids=["image", "mask"]
)
def test_unusable_items_beyond_the_allowed_rate_fail_the_build(
    official, ray_local, reference, tmp_path, change, code
):
    copy, video = damage(official, tmp_path, change)
    job = make_job(copy, tmp_path / "out")
    with pytest.raises(UserError) as error:
        preprocess(job, ray_local)
    line = str(error.value)
    assert line.startswith(f"1 of {NUM_VIDEOS} items are unusable: {code} 1 times (")
    assert f"first: {code} {video}" in line
    assert line.endswith(
        "; at most 1.00% may be; repair the source and run the same command again, or raise --max-reject-rate"
    )
    assert "\n" not in line
    assert not (job.release_dir / "manifest.json").exists()
    shutil.rmtree(copy)
    shutil.copytree(official, copy)
    preprocess(job, ray_local)
    assert digests(job.release_dir) == reference


def test_unusable_items_within_the_allowed_rate_are_counted(official, ray_local, tmp_path, caplog):
    copy, video = damage(official, tmp_path, truncate_image)
    job = make_job(copy, tmp_path / "out", max_reject_rate=0.1)
    manifest = preprocess(job, ray_local)
    assert manifest.rejects == {"E102": 1}
    assert manifest.num_samples == NUM_VIDEOS - 1
    assert [reject.item_id for reject in read_rejects(job.release_dir)] == [video]
    assert f"1 of {NUM_VIDEOS} items are unusable: E102 1 times" in caplog.text
    stricter = rf"^1 of {NUM_VIDEOS} items are unusable: E102 1 times .*; at most 0\.00% may be"
    with pytest.raises(UserError, match=stricter):
        preprocess(replace(job, max_reject_rate=0.0), ray_local)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"source": Path("/nowhere")}, r"^--source /nowhere: no such folder; expected one with imgs/"),
        ({"dataset": "vipsge"}, r"^--dataset vipsge: no such dataset; expected one of coco_panoptic, "),
        ({"split": "tset"}, r"^--split tset: vipseg has no such split; expected one of train, val, test$"),
    ],
)
def test_wrong_flag_leaves_nothing(official, ray_local, tmp_path, changes, line):
    job = make_job(official, tmp_path / "out", **changes)
    with pytest.raises(UserError, match=line):
        preprocess(job, ray_local)
    assert not job.out.exists()


def test_missing_annotation_file_is_named_and_leaves_nothing(official, ray_local, tmp_path):
    copy, _ = damage(official, tmp_path, lambda root, _: (root / "panoVIPSeg_categories.json").unlink())
    job = make_job(copy, tmp_path / "out")
    with pytest.raises(UserError) as error:
        preprocess(job, ray_local)
    assert str(error.value) == (
        f"--source {copy}: panoVIPSeg_categories.json not found; expected the list of 124 categories with "
        "id, name and isthing; take it from the VIPSeg repository"
    )
    assert not job.out.exists()
    with pytest.raises(SourceError):
        outline_release(job)


def test_outline_writes_nothing_and_starts_nothing(official, tmp_path):
    outline = outline_release(make_job(official, tmp_path / "out"))
    assert (outline.num_items, outline.num_frames, outline.num_shards) == (NUM_VIDEOS, 192, NUM_VIDEOS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", [{"num_workers": -1}, {"frames_per_shard": 0}, {"max_reject_rate": 1.5}])
def test_numbers_without_sense_are_refused(official, tmp_path, changes):
    with pytest.raises(ValueError, match="num_workers must be at least 0, frames_per_shard at least 1"):
        make_job(official, tmp_path, **changes)
