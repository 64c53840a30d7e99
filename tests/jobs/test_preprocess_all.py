import shutil
from pathlib import Path

import pytest

from jobs.errors import UserError
from jobs.preprocess import PreprocessConfig
from jobs.preprocess_all import Outcome, describe_outcomes, expand, preprocess_all
from preprocessing.index import read_manifest
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import SOURCES
from preprocessing.worlds import WorldConfig

SMALL = MiniatureConfig(
    train_images=2, val_images=1, train_videos=2, val_videos=1, world=WorldConfig(num_frames=3)
)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Three datasets: one whole, one without its val split, one damaged as a whole; and a foreign folder."""
    root = tmp_path_factory.mktemp("datasets")
    build(root, SMALL, ["davis_2017", "vspw", "coco_panoptic"])
    (root / "vspw/val.txt").unlink()
    for path in (root / "coco_panoptic/annotations").glob("*.json"):
        path.write_text("[")
    (root / "somebody").mkdir()
    return root


def make_job(source, out, **changes):
    flags = {"dataset": "all", "split": "all", "source": source, "out": out, "official": "ignore"}
    return PreprocessConfig(**{**flags, **changes})


def test_expand_all_names_every_split_of_the_datasets_with_a_folder(datasets):
    jobs = expand(make_job(datasets, Path("out")))
    expected = [
        (name, split) for name in SOURCES for split in SOURCES[name].spec.splits if (datasets / name).is_dir()
    ]
    assert [(job.dataset, job.split) for job in jobs] == expected
    assert {job.source for job in jobs} == {datasets / n for n in ("davis_2017", "vspw", "coco_panoptic")}


def test_expand_one_dataset_or_one_split_keeps_the_rest(datasets):
    one = expand(make_job(datasets / "vspw", Path("out"), dataset="vspw"))
    assert [(job.dataset, job.split, job.source) for job in one] == [
        ("vspw", split, datasets / "vspw") for split in SOURCES["vspw"].spec.splits
    ]
    train = expand(make_job(datasets, Path("out"), split="train"))
    assert [(job.dataset, job.split) for job in train] == [
        (name, "train") for name in SOURCES if (datasets / name).is_dir()
    ]


def test_expand_without_any_dataset_raises(tmp_path):
    with pytest.raises(
        UserError, match=r"has no folder named like a dataset that has the split 'all'; expect"
    ):
        expand(make_job(tmp_path, tmp_path))


def test_preprocess_all_builds_what_is_there_and_goes_on_after_a_failure(datasets, ray_local, tmp_path):
    outcomes = preprocess_all(expand(make_job(datasets, tmp_path)), ray_local)
    states = {(outcome.dataset, outcome.split): outcome.state for outcome in outcomes}
    assert {name for name, state in states.items() if state == "built"} == {
        ("davis_2017", "train"),
        ("davis_2017", "val"),
        ("vspw", "train"),
    }
    assert {state for (name, _), state in states.items() if name == "coco_panoptic"} <= {
        "failed",
        "not there",
    }
    assert states["coco_panoptic", "train"] == "failed"
    assert states["vspw", "val"] == "not there"
    for outcome in outcomes:
        if outcome.state == "built":
            assert read_manifest(tmp_path / outcome.dataset / outcome.split) == outcome.manifest
        else:
            assert outcome.message.startswith(f"--source {datasets}/{outcome.dataset}: ")


def test_preprocess_all_dataset_without_any_split_has_failed(datasets, ray_local, tmp_path):
    shutil.copytree(datasets / "vspw", tmp_path / "vspw")
    (tmp_path / "vspw/train.txt").unlink()
    outcomes = preprocess_all(expand(make_job(tmp_path, tmp_path / "out")), ray_local)
    assert {outcome.state for outcome in outcomes} == {"failed"}


def test_describe_outcomes_is_a_table(ray_local, datasets, tmp_path):
    jobs = expand(make_job(datasets / "davis_2017", tmp_path, dataset="davis_2017", split="val"))
    (built,) = preprocess_all(jobs, ray_local)
    absent = Outcome(dataset="lvis_v05", split="test", state="not there", message="--source x: no")
    lines = describe_outcomes([built, absent]).splitlines()
    objects = built.manifest.num_objects
    warnings = sum(built.manifest.warnings.values())
    assert [line.split() for line in lines] == [
        ["dataset", "split", "state", "items", "rejects", "warnings", "frames", "objects", "expressions"],
        ["davis_2017", "val", "built", "1", "0", str(warnings), "3", str(objects), "0"],
        ["lvis_v05", "test", "not", "there", "--source", "x:", "no"],
    ]
    assert (
        len({line.index("state" if i == 0 else "built" if i == 1 else "not") for i, line in enumerate(lines)})
        == 1
    )
