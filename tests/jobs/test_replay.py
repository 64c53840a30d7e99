import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from jobs.artifacts import write_record
from jobs.curriculum import mixture_of, places_of, releases_of, stage_identity
from jobs.errors import UserError
from jobs.releases import RELEASES, require_releases
from jobs.replay import rebuild_batches, replay_step
from pipelines.recipes import stage1, stage3
from pipelines.recipes.miniature import SMOKE_WORLDS
from preprocessing.index import begin_release, commit_release
from preprocessing.miniature import build
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import require_source
from univs.data.images import PIXEL_MEAN, PIXEL_STD
from univs.data.loader import make_loader

STEP = 2


@pytest.fixture(scope="module")
def run_root(tmp_path_factory):
    """Releases of what the two recipes train on, built without Ray."""
    root = tmp_path_factory.mktemp("runs")
    names = sorted({name.dataset for stage in (stage1, stage3) for name in releases_of(stage.smoke())})
    for name, official in build(root / "raw", SMOKE_WORLDS, names).items():
        source, folder = require_source(name), root / RELEASES / name / "train"
        space = source.label_space(official)
        plan = make_plan(name, "train", source.scan(official, "train"), PlanParameters(), space)
        for order in begin_release(folder, plan):
            pack_shard(source, official, "train", read_work_order(order), folder)
        commit_release(folder, plan, source.spec, space)
    return root


def with_workers(config, num_workers, **loader):
    return replace(
        config,
        workers=replace(config.workers, num_workers=num_workers),
        loader=replace(config.loader, **loader),
    )


def pictures_of(page, mime):
    encoded = re.findall(rf'src="data:{mime};base64,([^"]*)"', page)
    return [
        cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        for text in encoded
    ]


@pytest.mark.parametrize("stage", [stage1, stage3], ids=["images", "videos"])
def test_replayed_page_holds_the_very_pixels_and_keys_of_the_training_loader(run_root, stage):
    config = stage.smoke()
    path = replay_step(config, run_root, STEP)
    assert path == places_of(config, run_root).stage / f"replay/step-{STEP:08d}.html"
    page = path.read_text()
    sources = mixture_of(config, places_of(config, run_root))
    feed = make_loader(sources, config.loader, seed=config.train.seed)
    trained = [next(feed) for _ in range(STEP + 1)][-1]
    assert re.findall(r"<h3>([^<]*)</h3>", page) == list(trained.keys)
    drawn = iter(pictures_of(page, "image/png"))
    for frames, (height, width) in zip(trained.frames, trained.image_sizes.tolist(), strict=True):
        for frame in frames:
            colors = frame.permute(1, 2, 0).numpy() * PIXEL_STD + PIXEL_MEAN
            expected = colors[:height, :width].clip(0, 255)
            assert np.abs(next(drawn) - expected).max() <= 0.501  # rounded to whole gray levels
    assert next(drawn, None) is None


@pytest.mark.parametrize("datasets_per_step", [1, 2])
def test_replay_joins_what_every_worker_trains_on(run_root, datasets_per_step):
    config = with_workers(stage1.smoke(), 2, batch_size=4, datasets_per_step=datasets_per_step)
    sources = mixture_of(config, places_of(config, run_root))
    batches = rebuild_batches(config, run_root, STEP)
    assert len(batches) == datasets_per_step
    slots = {
        group + place * datasets_per_step: (batch, place)
        for group, batch in enumerate(batches)
        for place in range(len(batch.keys))
    }
    for rank in range(2):
        feed = make_loader(sources, config.loader, seed=config.train.seed, rank=rank, world_size=2)
        trained = [next(feed) for _ in range(STEP + 1)][-1]
        for place, slot in enumerate(range(rank, 4, 2)):
            batch, position = slots[slot]
            assert trained.keys[place] == batch.keys[position]
            assert (trained.frames[place] == batch.frames[position]).all()
            assert (trained.targets[place].masks == batch.targets[position].masks).all()


def test_replay_of_a_step_that_is_not_there_raises(run_root):
    config = stage1.smoke()
    last = config.train.num_steps - 1
    with pytest.raises(UserError, match=rf"^--replay {last + 1}: stage1 has steps 0 to {last}$"):
        replay_step(config, run_root, last + 1)


def test_replay_of_sequential_access_raises(run_root):
    config = with_workers(stage1.smoke(), 1, access="sequential")
    with pytest.raises(UserError, match="loader.access is 'sequential', whose order is no function"):
        replay_step(config, run_root, 0)


def test_replay_of_a_finished_stage_refuses_other_releases(run_root):
    config = replace(stage1.smoke(), name="finished")
    places = places_of(config, run_root)
    inputs = require_releases(places.releases, releases_of(config))
    places.stage.mkdir(parents=True)
    identity = stage_identity(config)
    write_record(places.stage, kind="checkpoint", config=identity, inputs=inputs, outputs={})
    assert replay_step(config, run_root, 0).exists()
    changed = {**inputs, "vipseg/train": "0" * 64}
    write_record(places.stage, kind="checkpoint", config=identity, inputs=changed, outputs={})
    with pytest.raises(
        UserError, match="vipseg/train: is another release than the one stage1 was trained on"
    ):
        replay_step(config, run_root, 0)


def test_replay_flag_prints_where_the_page_is(run_here, run_root):
    ended = run_here("stage1", "--recipe", "smoke", "--replay", "1", UNIVS_RUN_ROOT=str(run_root))
    page = run_root / "smoke/stage1/replay/step-00000001.html"
    assert (ended.code, ended.out) == (0, f"{page}\n")
    assert "stage1 of smoke, step 1" in page.read_text()


@pytest.mark.parametrize("value", ["-1", "x", "1.5"])
def test_replay_flag_wants_a_whole_number(run_here, value):
    ended = run_here("stage1", "--recipe", "smoke", f"--replay={value}")
    assert (ended.code, ended.err) == (2, f"error: --replay: expected a whole number, got '{value}'\n")
