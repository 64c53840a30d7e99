from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.errors import BuildError, MissingFileError
from preprocessing.plan import PlanParameters, make_plan, read_work_order, write_work_orders
from preprocessing.samples import sample_key
from preprocessing.sources.source import Item
from univs.labels import Category, LabelSpace

PARAMETERS = PlanParameters(target_frames_per_shard=10)
COLLISION = (25983, 76508)


def make_items(lengths):
    return [Item(item_id=f"v{i}", num_frames=n, payload=f'{{"n":{n}}}') for i, n in enumerate(lengths)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 64))
def test_make_plan_any_items_places_each_exactly_once(lengths, target):
    items = make_items(lengths)
    plan = make_plan("vspw", "train", items, PlanParameters(target_frames_per_shard=target))
    placed = [item for order in plan.orders for item in order.items]
    assert sorted(placed, key=lambda item: item.item_id) == sorted(items, key=lambda item: item.item_id)
    for order in plan.orders[:-1]:
        frames = [max(item.num_frames, 1) for item in order.items]
        assert sum(frames) >= target > sum(frames[:-1])
    assert plan.num_items == len(items)


def test_make_plan_items_in_another_order_gives_the_same_plan():
    items = make_items(range(1, 30))
    plan = make_plan("vspw", "train", items, PARAMETERS)
    assert make_plan("vspw", "train", reversed(items), PARAMETERS) == plan
    assert [order.shard for order in plan.orders][:2] == ["vspw-train-000000.tar", "vspw-train-000001.tar"]


def test_make_plan_items_are_permuted_by_the_seed():
    items = make_items([1] * 40)
    orders = [
        [
            i.item_id
            for order in make_plan("vspw", "train", items, replace(PARAMETERS, seed=s)).orders
            for i in order.items
        ]
        for s in (0, 1)
    ]
    listed = [item.item_id for item in items]
    assert orders[0] != orders[1]
    assert listed not in orders


def test_make_plan_anything_that_changes_bytes_changes_the_digest():
    items = make_items([3, 4])
    space = LabelSpace(name="a", categories=(Category(category_id=1, name="x", is_thing=True),))
    digests = {
        make_plan("vspw", "train", items, PARAMETERS).digest,
        make_plan("vipseg", "train", items, PARAMETERS).digest,
        make_plan("vspw", "val", items, PARAMETERS).digest,
        make_plan("vspw", "train", items, replace(PARAMETERS, seed=1)).digest,
        make_plan("vspw", "train", items, replace(PARAMETERS, max_frames_per_chunk=64)).digest,
        make_plan("vspw", "train", items, replace(PARAMETERS, target_frames_per_shard=11)).digest,
        make_plan("vspw", "train", [*items, *make_items([1, 1, 9])[2:]], PARAMETERS).digest,
        make_plan("vspw", "train", [items[0], replace(items[1], num_frames=5)], PARAMETERS).digest,
        make_plan("vspw", "train", [items[0], replace(items[1], payload="{}")], PARAMETERS).digest,
        make_plan("vspw", "train", items, PARAMETERS, space).digest,
    }
    assert len(digests) == 10


def test_make_plan_repeated_item_is_e120():
    with pytest.raises(BuildError) as caught:
        make_plan("vspw", "train", make_items([1]) * 2, PARAMETERS)
    assert str(caught.value) == (
        "E120 two items share an id: vspw train: item 'v0' is listed twice; expected unique ids; "
        "repair the source's annotation"
    )


def test_make_plan_items_with_one_sample_key_is_e121():
    # Equal to the 40th character, and so are the first eight digits of their hashes.
    pair = [f"{'x' * 40}{number}" for number in COLLISION]
    items = [Item(item_id=item_id, num_frames=1, payload="{}") for item_id in pair]
    make_plan("vspw", "val", items, PARAMETERS)
    with pytest.raises(BuildError) as caught:
        make_plan("vspw", "train", items, PARAMETERS)
    assert caught.value.code == "E121"
    names = " and ".join(repr(item_id) for item_id in sorted(pair, key=caught.value.message.index))
    key = sample_key("vspw", "train", pair[0], 0)
    assert caught.value.message == f"vspw train: items {names} would both be {key}; rename one"


def test_make_plan_no_items_raises():
    with pytest.raises(
        MissingFileError, match=r"^vspw train: the source lists no items; check --source and --split$"
    ):
        make_plan("vspw", "train", [], PARAMETERS)


def test_work_orders_written_and_read_back_are_equal(tmp_path):
    plan = make_plan("vspw", "train", make_items([4, 9, 2, 12, 0]), PARAMETERS)
    paths = write_work_orders(tmp_path, plan)
    assert tuple(read_work_order(path) for path in paths) == plan.orders


def test_write_work_orders_smaller_plan_removes_the_older_orders(tmp_path):
    write_work_orders(tmp_path, make_plan("vspw", "train", make_items([10] * 5), PARAMETERS))
    paths = write_work_orders(tmp_path, make_plan("vspw", "train", make_items([10] * 2), PARAMETERS))
    assert set(paths[0].parent.iterdir()) == set(paths)


def test_make_plan_of_another_builder_has_another_digest(monkeypatch):
    before = make_plan("vspw", "train", make_items([3]), PARAMETERS).digest
    monkeypatch.setattr("preprocessing.plan.BUILDER_VERSION", "next")
    assert make_plan("vspw", "train", make_items([3]), PARAMETERS).digest != before


@pytest.mark.parametrize(("target", "chunk"), [(0, 1), (1, 0), (1, 1000)])
def test_plan_parameters_out_of_range_raise(target, chunk):
    with pytest.raises(ValueError, match="must be at least 1"):
        PlanParameters(target_frames_per_shard=target, max_frames_per_chunk=chunk)
