import io
from dataclasses import replace

import av
import pytest
from PIL import Image

from jobs.curriculum import untrained_checkpoint
from jobs.errors import UserError
from jobs.evaluator import Evaluator, WorkItem
from pipelines.recipes import evaluate, stage1
from univs.data.release import Release
from univs.data.videos import Video, iter_videos
from univs.evaluation.benchmarks import BENCHMARKS, score

SETTINGS = {setting.name: setting for setting in evaluate.miniature().evaluation.settings}
NAMES = ("coco_panoptic", "ytvis_2021", "vipseg", "vspw", "davis_2017", "refytvos")


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    loaded = Evaluator(1)
    loaded.load(untrained_checkpoint(stage1.smoke(), tmp_path_factory.mktemp("untrained")))
    return loaded


def make_item(root, name, **changes):
    video = next(iter_videos(Release.open(root / name / "val")))
    item = WorkItem(
        benchmark=name,
        video=video,
        num_frames=video.num_frames,
        inference=SETTINGS[name].inference,
        seed=0,
        is_drawn=True,
        submissions=None,
    )
    return replace(item, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_item_comes_back_scored_and_drawn(evaluator, smoke_releases, tmp_path, name):
    item = make_item(smoke_releases, name, submissions=tmp_path / name)
    result = evaluator.evaluate(item)
    assert (result.benchmark, result.item_id) == (name, item.video.item_id)
    labels = item.video.release.manifest.label_space
    scores = score(BENCHMARKS[name], [result.partial], labels)
    assert 0 <= scores[BENCHMARKS[name].primary] <= 100
    (picture,) = result.pictures
    image = Image.open(io.BytesIO(picture.png))
    # Truth and prediction, each four times as large as the world, with a gap.
    assert image.width == 2 * 4 * 128 + 4
    assert image.height > 4 * 96
    if name == "coco_panoptic":
        assert picture.mp4 == b""
    else:
        with av.open(io.BytesIO(picture.mp4)) as film:
            assert len(list(film.decode(video=0))) == item.num_frames == 12
    assert (tmp_path / name).exists() or result.submission is not None


def test_result_is_the_same_again_and_depends_on_the_seed_alone(evaluator, smoke_releases):
    item = make_item(smoke_releases, "davis_2017", is_drawn=False)
    first, again = evaluator.evaluate(item), evaluator.evaluate(item)
    assert first.pictures == ()
    assert first.partial.jaccards.tolist() == again.partial.jaccards.tolist()


def test_withheld_truth_leaves_the_score_out(evaluator, smoke_releases, tmp_path):
    item = make_item(smoke_releases, "ytvis_2021", submissions=tmp_path)
    video = Video(release=item.video.release, item_id=item.video.item_id, row_indices=item.video.row_indices)
    video.__dict__["record"] = replace(video.record, ground_truth="none", objects=())
    result = evaluator.evaluate(replace(item, video=video))
    assert (result.partial, result.pictures) == (None, ())
    assert result.submission.video_id == video.item_id


def test_evaluator_without_a_checkpoint_refuses_items(smoke_releases):
    with pytest.raises(RuntimeError, match="no checkpoint is loaded"):
        Evaluator(1).evaluate(make_item(smoke_releases, "vspw"))


def test_file_that_is_no_checkpoint_is_a_users_mistake(tmp_path):
    (tmp_path / "x").write_text("no")
    with pytest.raises(UserError, match=f"^{tmp_path}/x: not a safetensors file"):
        Evaluator(1).load(tmp_path / "x")


def test_damaged_shard_is_a_users_mistake_that_names_it(evaluator, smoke_releases):
    item = make_item(smoke_releases, "vspw")
    shard = item.video.release.rows[0].shard

    class Cut:
        def read(self, name, offset, size):
            raise ValueError(f"{name}: found 0 bytes")

    broken = replace(item.video, release=replace(item.video.release, store=Cut()))
    with pytest.raises(ValueError, match=shard) as error:
        evaluator.evaluate(replace(item, video=broken))
    # Raised outside of our packages: a bug, which keeps its type and traceback.
    assert type(error.value) is ValueError
