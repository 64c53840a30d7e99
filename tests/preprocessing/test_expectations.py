from dataclasses import replace

import pytest

from preprocessing.errors import BuildError
from preprocessing.expectations import count_differences, require_license
from preprocessing.sources.catalog import SOURCES
from preprocessing.sources.source import ExpectedCounts

OFFICIAL = ExpectedCounts(num_items=2806, num_frames=66767, num_objects=1000)


def test_count_differences_the_official_counts_have_none():
    assert count_differences(OFFICIAL, OFFICIAL) == ()
    assert count_differences(OFFICIAL, ExpectedCounts()) == ()
    assert count_differences(ExpectedCounts(), OFFICIAL) == ()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"num_items": 2805}, ("2,805 items, official 2,806",)),
        ({"num_items": 2807, "num_frames": 9}, ("2,807 items, official 2,806", "9 frames, official 66,767")),
        ({"num_frames": 66434}, ()),
        ({"num_frames": 66433}, ("66,433 frames, official 66,767",)),
        ({"num_objects": 1005}, ()),
        ({"num_objects": 1006}, ("1,006 objects, official 1,000",)),
        ({"num_expressions": 5}, ()),
    ],
)
def test_count_differences_items_are_exact_and_others_within_half_a_percent(found, expected):
    assert count_differences(OFFICIAL, replace(OFFICIAL, **found)) == expected


@pytest.mark.parametrize("license_text", ["", "  "])
def test_require_license_none_is_e180(license_text):
    spec = replace(SOURCES["vspw"].spec, license=license_text)
    with pytest.raises(BuildError) as caught:
        require_license(spec)
    assert str(caught.value) == (
        "E180 license of the dataset is not stated: vspw: its SourceSpec has no license; "
        "state the official terms there"
    )


@pytest.mark.parametrize("name", SOURCES)
def test_require_license_of_every_dataset_is_stated(name):
    require_license(SOURCES[name].spec)
