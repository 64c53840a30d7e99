import os
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.errors import MissingFileError, SourceError
from preprocessing.sources.files import OfficialFile
from preprocessing.sources.ref_pickles import PickledRef, load_refs

OFFICIAL = OfficialFile(path="refs(unc).p", expected="the expressions", remedy="unzip it there")
REFS = [
    {
        "ref_id": 0,
        "split": "train",
        "sent_ids": [0, 1],
        "sentences": [{"sent": "a cat", "tokens": ["a", "cat"]}],
    },
    {"ref_id": 1, "split": "val", "sent_ids": (), "sentences": [], "x": [None, True, -3, 1 << 70, 0.5]},
]


def load(folder: Path, content: bytes):
    (folder / OFFICIAL.path).write_bytes(content)
    return load_refs(folder, OFFICIAL)


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        load(folder, content)
    message = str(caught.value)
    assert "\n" not in message
    start, end = f"--source {folder}: refs(unc).p ", "; expected the expressions; unzip it there"
    assert message.startswith(start)
    assert message.endswith(end)
    return message[len(start) : -len(end)]


def python_2(value) -> bytes:
    """Write what Python 2 writes: protocol 0, byte strings as ``S``, text as ``V``."""
    if isinstance(value, bytes):
        return b"S" + repr(value)[1:].encode() + b"\n"
    if isinstance(value, str):
        return b"V" + value.encode("raw-unicode-escape") + b"\n"
    if isinstance(value, int):
        return b"I%d\n" % value
    if isinstance(value, list):
        return b"(l" + b"".join(python_2(part) + b"a" for part in value)
    return b"(d" + b"".join(python_2(key) + python_2(part) + b"s" for key, part in value.items())


@pytest.mark.parametrize("protocol", range(6))
def test_load_reads_every_protocol(tmp_path, protocol):
    refs = load(tmp_path, pickle.dumps(REFS, protocol=protocol))
    assert [ref.index for ref in refs] == [0, 1]
    assert refs[0].fields == REFS[0]
    assert refs[1].fields == {**REFS[1], "sent_ids": []}
    assert all(ref.is_clean for ref in refs)


def test_load_reads_byte_strings_as_utf_8_or_else_as_latin_1(tmp_path):
    content = python_2(
        [
            {b"sent": "caf\N{LATIN SMALL LETTER E WITH ACUTE}".encode()},
            {b"sent": b"caf\xe9"},
            {b"sent": "caf\N{LATIN SMALL LETTER E WITH ACUTE}", b"n": 3},
        ]
    )
    refs = load(tmp_path, content + b".")
    assert [ref.fields["sent"] for ref in refs] == ["café"] * 3
    assert [ref.is_clean for ref in refs] == [True, False, True]


def test_load_joins_surrogates_that_python_2_wrote_apart(tmp_path):
    refs = load(tmp_path, b"(l(dS'sent'\nV\\ud83d\\ude00 dog\nsa.")
    assert refs == [PickledRef(index=0, fields={"sent": "\N{GRINNING FACE} dog"}, is_clean=False)]


class Attack:
    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("protocol", range(6))
def test_load_hostile_pickle_is_refused_and_not_run(tmp_path, protocol):
    trace = tmp_path / "trace"
    content = pickle.dumps([{"ref_id": Attack(trace)}], protocol=protocol)
    found = refusal(tmp_path, content)
    opcode = "b'c'" if protocol < 4 else "b'\\x93'"
    assert found == (
        f"is not a pickled list of refs (UnpicklingError: opcode {opcode} is not plain data, it is not run)"
    )
    assert not trace.exists()
    pickle.loads(content)  # the attack itself works
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "opcode"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "b'c'"),
        (b"(S'true'\nios\nsystem\n.", "b'i'"),
        (b"(cos\nsystem\nS'true'\no.", "b'c'"),
        (b"Pid\n.", "b'P'"),
        (b"\x80\x02\x82\x01.", "b'\\x82'"),
        (b"(l}b.", "b'b'"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "b'\\x96'"),
        (b"\x80\x04\x8f.", "b'\\x8f'"),
    ],
)
def test_load_other_instructions_are_refused(tmp_path, content, opcode):
    assert f"opcode {opcode} is not plain data" in refusal(tmp_path, content)


def test_load_memo_index_of_gigabytes_costs_nothing(tmp_path):
    assert load(tmp_path, b"(lr" + struct.pack("<I", 0xFFFFFFF0) + b".") == []


def test_load_lists_that_unfold_beyond_the_file_are_refused(tmp_path):
    value = ["x"]
    for _ in range(60):
        value = [value, value]
    found = refusal(tmp_path, pickle.dumps([{"a": value}]))
    assert "ValueError: its values unfold to more than the file holds" in found


def test_load_text_that_unfolds_beyond_the_file_is_refused(tmp_path):
    text = "x" * 100_000
    found = refusal(tmp_path, pickle.dumps([{"a": [text] * 20_000}]))
    assert "unfold to more than the file holds" in found


def test_load_list_that_holds_itself_is_refused(tmp_path):
    value = []
    value.append(value)
    assert refusal(tmp_path, pickle.dumps([{"a": value}])).startswith("is not a pickled list of refs (")


@pytest.mark.parametrize(
    ("value", "found"),
    [({"a": 1}, "TypeError: a dict"), ([[1]], "TypeError: entry 0 is a list"), (None, "a NoneType")],
)
def test_load_something_else_is_refused(tmp_path, value, found):
    assert found in refusal(tmp_path, pickle.dumps(value))


def test_load_missing_file_raises_missing_file_error(tmp_path):
    with pytest.raises(MissingFileError) as caught:
        load_refs(tmp_path, OFFICIAL)
    expected = f"--source {tmp_path}: refs(unc).p not found; expected the expressions; unzip it there"
    assert str(caught.value) == expected


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_load_truncated_file_is_refused(tmp_path, protocol):
    content = pickle.dumps(REFS, protocol=protocol)
    for size in range(len(content)):
        assert refusal(tmp_path, content[:size]).startswith("is not a pickled list of refs (")


@settings(max_examples=300, deadline=None)
@given(data=st.data(), protocol=st.integers(0, 5))
def test_load_damaged_file_gives_refs_or_a_source_error(tmp_path_factory, data, protocol):
    content = bytearray(pickle.dumps(REFS, protocol=protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.getbasetemp()
    try:
        refs = load(folder, bytes(content))
    except SourceError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a pass is fine too
    else:
        assert all(isinstance(ref.fields, dict) for ref in refs)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_load_any_bytes_give_refs_or_a_source_error(tmp_path_factory, content):
    try:
        load(tmp_path_factory.getbasetemp(), content)
    except SourceError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a pass is fine too
