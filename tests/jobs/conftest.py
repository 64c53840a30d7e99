"""Fixtures of tests that need releases but no Ray."""

from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing.index import begin_release, commit_release
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import SOURCES
from univs.data.release import Release


@pytest.fixture(scope="session")
def pack_official() -> Callable[[str, str, Path, Path], Release]:
    """Pack one split of official files with the real reader and packer, in this process."""

    def pack(name: str, split: str, raw: Path, folder: Path) -> Release:
        source = SOURCES[name]
        space = source.label_space(raw)
        plan = make_plan(name, split, source.scan(raw, split), PlanParameters(), space)
        for order in begin_release(folder, plan):
            pack_shard(source, raw, split, read_work_order(order), folder)
        assert not commit_release(folder, plan, source.spec, space).rejects
        return Release.open(folder)

    return pack
