import pickle

import pytest
from PIL import UnidentifiedImageError

from preprocessing.errors import (
    FAILURES,
    REASONS,
    WARNINGS,
    BuildError,
    DuplicateIdError,
    ItemError,
    SourceError,
    describe_damage,
    malformed_as_item_error,
)


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


def test_malformed_as_item_error_repeated_id_is_e120():
    with pytest.raises(ItemError) as caught, malformed_as_item_error("a"):
        raise DuplicateIdError("id 3 twice")
    assert (caught.value.code, caught.value.message) == ("E120", "a: id 3 twice")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (PermissionError(13, "Permission denied", "/home/me/a.json"), "Permission denied"),
        (UnidentifiedImageError("cannot identify image file '/home/me/a.png'"), "not an image"),
        (ValueError("runs sum to 3"), "runs sum to 3"),
        (OSError("image file is truncated"), "image file is truncated"),
    ],
)
def test_describe_damage_says_nothing_of_where_the_file_lies(error, found):
    assert describe_damage(error) == found


def test_build_error_sent_between_processes_keeps_its_reason():
    error = pickle.loads(pickle.dumps(BuildError("E161", "a.tar has 3 members")))
    assert str(error) == "E161 shard does not hold what was written: a.tar has 3 members"
    assert (error.code, error.message) == ("E161", "a.tar has 3 members")
    assert isinstance(error, SourceError)


def test_codes_say_by_their_letter_how_grave_they_are():
    assert {code[0] for code in REASONS} == {code[0] for code in FAILURES} == {"E"}
    assert {code[0] for code in WARNINGS} == {"W"}
