import shutil
from dataclasses import replace

import pytest

from jobs.artifacts import digest_release
from jobs.errors import UserError
from jobs.releases import ReleaseName, build_miniature, missing_releases, require_releases
from pipelines.recipes.miniature import SMOKE_WORLDS
from preprocessing.index import read_manifest

VIPSEG = ReleaseName(dataset="vipseg", split="train")
DAVIS = ReleaseName(dataset="davis_2017", split="val")


def test_generated_releases_are_whole_and_named_by_their_digests(smoke_releases):
    digests = require_releases(smoke_releases, [VIPSEG, DAVIS])
    manifests = {name: read_manifest(smoke_releases / name) for name in digests}
    assert {name: digest_release(manifest) for name, manifest in manifests.items()} == digests
    assert list(digests) == ["vipseg/train", "davis_2017/val"]
    assert manifests["vipseg/train"].num_items == SMOKE_WORLDS.train_videos
    assert missing_releases(smoke_releases, [VIPSEG, DAVIS]) == []


def test_generated_release_is_a_function_of_its_worlds(ray_local, smoke_releases, tmp_path):
    build_miniature(SMOKE_WORLDS, [DAVIS], tmp_path / "same/releases", ray_local)
    build_miniature(replace(SMOKE_WORLDS, seed=1), [DAVIS], tmp_path / "other/releases", ray_local)
    expected = require_releases(smoke_releases, [DAVIS])
    assert require_releases(tmp_path / "same/releases", [DAVIS]) == expected
    assert require_releases(tmp_path / "other/releases", [DAVIS]) != expected


def test_release_without_manifest_is_missing(smoke_releases, tmp_path):
    shutil.copytree(smoke_releases / "vipseg/train", tmp_path / "vipseg/train")
    assert missing_releases(tmp_path, [VIPSEG, DAVIS]) == [DAVIS]
    (tmp_path / "vipseg/train/manifest.json").unlink()
    assert missing_releases(tmp_path, [VIPSEG, DAVIS]) == [VIPSEG, DAVIS]
    with pytest.raises(UserError) as error:
        require_releases(tmp_path, [VIPSEG])
    assert str(error.value) == (
        f"{tmp_path}/vipseg/train: no whole release of vipseg/train; build it with `python pipelines/"
        f"preprocess.py --dataset vipseg --split train --source DIR --out {tmp_path}`"
    )


def test_damaged_release_is_named(smoke_releases, tmp_path):
    shutil.copytree(smoke_releases / "vipseg/train", tmp_path / "vipseg/train")
    (shard,) = (tmp_path / "vipseg/train").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(ValueError, match=shard.name):
        require_releases(tmp_path, [VIPSEG])
