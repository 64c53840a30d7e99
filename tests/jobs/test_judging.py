import logging
from dataclasses import replace

import pytest

from jobs.errors import UserError
from jobs.judging import judge_categories, judge_counts, judge_rejects, summarize_rejects
from preprocessing.errors import BuildError, Problem
from preprocessing.sources.catalog import SOURCES
from preprocessing.sources.source import ExpectedCounts
from univs.label_spaces import builtin_spaces
from univs.labels import LabelSpace

SPEC = replace(SOURCES["vipseg"].spec, counts={"val": ExpectedCounts(num_items=343, num_objects=2000)})
FEW = ExpectedCounts(num_items=8, num_frames=96)
ROW = "vipseg val: 8 items, official 343"


def make_rejects(count):
    return [Problem(item_id=f"v{i}", code="E102", message=f"v{i}: 0 bytes") for i in reversed(range(count))]


def test_judge_rejects_within_the_rate_are_reported(caplog):
    judge_rejects(make_rejects(2), 200, 0.01)
    judge_rejects([], 0, 0.0)
    assert [record.message for record in caplog.records] == [
        "2 of 200 items are unusable: E102 2 times (image file empty, truncated or not decodable); "
        "first: E102 v0: 0 bytes; E102 v1: 0 bytes"
    ]


def test_judge_rejects_beyond_the_rate_raises():
    with pytest.raises(UserError) as caught:
        judge_rejects(make_rejects(3), 200, 0.01)
    assert str(caught.value) == (
        f"3 of 200 items are unusable: {summarize_rejects(make_rejects(3))}; at most 1.00% may be; "
        "repair the source and run the same command again, or raise --max-reject-rate"
    )


def test_judge_counts_other_than_official_is_one_warning(caplog):
    judge_counts(SPEC, "val", FEW, "warn")
    line = f"W171 counts are not those of the official release: {ROW}"
    assert [record.message for record in caplog.records] == [line]


def test_judge_counts_other_than_required_is_e170():
    with pytest.raises(BuildError) as caught:
        judge_counts(SPEC, "val", FEW, "require")
    assert str(caught.value) == (
        f"E170 counts are not those of the official release: {ROW}; complete the source, or pass "
        "--official warn"
    )


@pytest.mark.parametrize(
    ("split", "found", "officialness"),
    [
        ("val", FEW, "ignore"),
        ("train", FEW, "require"),
        ("val", ExpectedCounts(num_items=343, num_objects=2009), "require"),
    ],
)
def test_judge_counts_official_unknown_or_not_asked_for_is_silent(caplog, split, found, officialness):
    judge_counts(SPEC, split, found, officialness)
    assert caplog.records == []


def space(name, change=lambda categories: categories):
    return LabelSpace(name=name, categories=tuple(change(list(builtin_spaces()[name].labels.categories))))


def rename_third(categories):
    return [*categories[:2], replace(categories[2], name="unicorn"), *categories[3:]]


def test_judge_categories_of_the_official_table_pass(caplog):
    with caplog.at_level(logging.WARNING):
        for name in builtin_spaces():
            judge_categories(SPEC, "val", space(name), "require")
        judge_categories(SPEC, "val", None, "require")
    assert caplog.records == []


def named_like(name, table, shift=0, count=None):
    """Give the categories of another table, counted on by ``shift``, the name of a space."""
    moved = [replace(c, category_id=c.category_id + shift) for c in builtin_spaces()[table].labels.categories]
    return LabelSpace(name=name, categories=tuple(moved[:count]))


@pytest.mark.parametrize(
    "official",
    [
        named_like("coco", "coco_panoptic", count=80),
        named_like("vspw", "vipseg", shift=1),
        named_like("viposeg", "vipseg"),
        LabelSpace(
            name="ade20k",
            categories=tuple(
                replace(c, name=f"{c.name} , of other names")
                for c in builtin_spaces()["ade20k"].labels.categories
            ),
        ),
    ],
    ids=lambda labels: labels.name,
)
def test_judge_categories_of_a_shared_table_and_with_synonyms_pass(official):
    judge_categories(SPEC, "val", official, "require")


@pytest.mark.parametrize("name", ["coco", "vspw", "viposeg", "ade20k"])
def test_judge_categories_of_a_shared_table_that_differ_are_e124(name):
    with pytest.raises(BuildError, match=r"^E124 .*: \d+ of 365 differ, such as"):
        judge_categories(SPEC, "val", named_like(name, "objects365"), "require")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (
            replace(space("ytvis_2019"), name="ytvis_2021"),
            "40 of 40 differ, such as 1 'person', official 'airplane'",
        ),
        (
            space("ytvis_2021", rename_third),
            "1 of 40 differ, such as 3 'unicorn', official 'bird'",
        ),
        (space("ytvis_2021", lambda categories: categories[:-1]), "39 categories, official 40"),
    ],
)
def test_judge_categories_other_than_official_is_e124(caplog, changed, found):
    with pytest.raises(BuildError) as caught:
        judge_categories(SPEC, "val", changed, "require")
    text = "categories are not those of the official release: vipseg val"
    assert str(caught.value) == f"E124 {text}: {found}; complete the source, or pass --official warn"
    judge_categories(SPEC, "val", changed, "warn")
    assert [record.message for record in caplog.records] == [f"W124 {text}: {found}"]
    judge_categories(SPEC, "val", changed, "ignore")
    assert len(caplog.records) == 1
