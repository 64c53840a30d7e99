import stat
import warnings
import zipfile

import pytest


@pytest.fixture
def packed(submit):
    submission = submit("mose")
    submission.check()
    return submission


def add(submission, info, data=b""):
    with zipfile.ZipFile(submission.zip, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(info, data)


def test_missing_zip_is_told(packed):
    packed.zip.unlink()
    assert packed.refusal_packed() == "no such file, expected the zip to upload"


def test_truncated_zip_is_told(packed):
    data = packed.zip.read_bytes()
    packed.zip.write_bytes(data[:-30])
    assert packed.refusal_packed() == (
        f"{len(data) - 30} bytes that are no whole zip (File is not a zip file); pack it again"
    )


def test_what_is_no_zip_is_told(packed):
    packed.zip.write_text("results")
    assert packed.refusal_packed() == "7 bytes that are no whole zip (File is not a zip file); pack it again"


def test_empty_zip_is_told(packed):
    with zipfile.ZipFile(packed.zip, "w") as archive:
        archive.writestr("cat/", b"")
    assert packed.refusal_packed() == "holds no file; pack the predictions"


def test_name_that_is_there_twice_is_told(packed):
    add(packed, "cat/00000.png", b"other")
    assert (
        packed.refusal_packed() == "cat/00000.png: is there 2 times; pack the zip anew, not into an old one"
    )


def test_encrypted_entry_is_told(packed):
    """Bit 0 of the flags, in the local head and in the directory, is what encryption sets."""
    data = bytearray(packed.zip.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    packed.zip.write_bytes(data)
    assert packed.refusal_packed() == "cat/00000.png: is encrypted; pack without a password"


@pytest.mark.parametrize("name", ["../up.png", "/cat/00000.png", "cat\\00000.png", "a/../../b.png"])
def test_name_that_leaves_the_folder_is_told(packed, name):
    add(packed, name)
    assert packed.refusal_packed() == (
        f"{name}: is a name that leaves the folder or has backslashes; pack with relative names and /"
    )


def test_compression_that_servers_may_not_read_is_told(packed):
    with zipfile.ZipFile(packed.zip, "a") as archive:
        archive.writestr("cat/x.png", b"data", zipfile.ZIP_LZMA)
    assert (
        packed.refusal_packed() == "cat/x.png: is compressed by method 14, expected stored (0) or deflate (8)"
    )


def test_link_is_told(packed):
    info = zipfile.ZipInfo("cat/x.png")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    add(packed, info, b"00000.png")
    assert packed.refusal_packed() == "cat/x.png: is a link; pack the file itself"


def test_damaged_entry_is_told(packed):
    data = bytearray(packed.zip.read_bytes())
    # Behind the head of the first file and its name lie its compressed bytes.
    data[30 + len("cat/00000.png") + 10] ^= 0xFF
    packed.zip.write_bytes(data)
    message = packed.refusal_packed()
    assert message.startswith("cat/00000.png: is damaged (")
    assert message.endswith("; pack the zip again")


def test_folders_of_their_own_are_no_files(packed):
    add(packed, "cat/")
    assert "fits mose" in packed.check_packed()
