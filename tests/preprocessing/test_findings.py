import pytest

from preprocessing.errors import Finding
from preprocessing.findings import FindingLog, count_by_code


def test_finding_log_repeats_are_counted_and_the_first_is_kept():
    log = FindingLog()
    log.add("W118", "a: polygon", "b.json", "/3")
    log.add("W106", "a: mode L")
    log.add("W118", "a: another", "c.json", "/4")
    log.add("W118", "a: a third")
    assert log.findings() == (
        Finding(code="W106", message="a: mode L"),
        Finding(code="W118", message="a: polygon (and 2 more like it)", file="b.json", pointer="/3"),
    )


def test_finding_log_unknown_code_raises():
    with pytest.raises(KeyError):
        FindingLog().add("E102", "a")


def test_count_by_code_any_order_gives_sorted_counts():
    assert list(count_by_code(["W2", "W1", "W2"]).items()) == [("W1", 1), ("W2", 2)]
