import pickle

import pytest

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error


def test_item_error_sent_between_processes_keeps_its_reason():
    error = pickle.loads(pickle.dumps(ItemError("E102", "a: 0 bytes")))
    assert (error.code, error.message) == ("E102", "a: 0 bytes")
    assert str(error) == "E102 image file empty, truncated or not decodable: a: 0 bytes"


def test_item_error_unknown_code_raises():
    with pytest.raises(KeyError):
        ItemError("E999", "a")


@pytest.mark.parametrize("error", [KeyError("x"), PermissionError("x"), ValueError("x"), IndexError("x")])
def test_malformed_as_item_error_wraps_what_bad_data_raises(error):
    with pytest.raises(ItemError) as caught, malformed_as_item_error("a"):
        raise error
    assert (caught.value.code, caught.value.message) == ("E100", f"a: {type(error).__name__}: {error}")


@pytest.mark.parametrize("error", [ItemError("E102", "a"), SourceError("a"), ZeroDivisionError("a")])
def test_malformed_as_item_error_passes_reasons_and_own_bugs_on(error):
    with pytest.raises(type(error)) as caught, malformed_as_item_error("a"):
        raise error
    assert caught.value is error
