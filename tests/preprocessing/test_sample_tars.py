import hashlib
import io
import tarfile
from dataclasses import replace

import pytest

from preprocessing.errors import BuildError
from preprocessing.sample_tars import check_tar, write_tar
from preprocessing.samples import encode_item
from preprocessing.validate import ValidVideo
from univs.schema import Frame, VideoRecord


def make_samples(item_id="a", num_frames=3):
    frames = tuple(Frame(index=i, name=f"{i}.jpg", extension="jpg") for i in range(num_frames))
    record = VideoRecord(
        dataset="mose",
        split="train",
        item_id=item_id,
        kind="video",
        height=4,
        width=6,
        label_space=None,
        frames=frames,
        objects=(),
    )
    contents = tuple(f"{item_id}{i}".encode() * 300 for i in range(num_frames))
    return encode_item(ValidVideo(record=record, frame_bytes=contents), 2)


@pytest.fixture
def samples():
    return [*make_samples("a"), *make_samples("b", 1)]


def test_write_tar_reports_what_the_file_holds(samples, tmp_path):
    path = tmp_path / "s.tar"
    content = write_tar(path, "s.tar", samples)
    data = path.read_bytes()
    assert content.sha256 == hashlib.sha256(data).hexdigest()
    assert content.size_bytes == len(data)
    for row, digests, sample in zip(content.rows, content.frame_sha256, samples, strict=True):
        places = zip(row.frame_offsets, row.frame_sizes, strict=True)
        assert tuple(data[offset : offset + size] for offset, size in places) == sample.frame_bytes
        assert digests == tuple(hashlib.sha256(frame).hexdigest() for frame in sample.frame_bytes)
    check_tar(path, content.rows)


def rewrite(path, change):
    """Write the tar again with its members changed."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in change(members):
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def swap_samples(members):
    return [*members[3:], *members[:3]]


def interleave(members):
    return [members[0], members[3], members[1], members[2], *members[4:]]


def rename(members):
    members[2][0].name = members[2][0].name.replace("000000", "000001")
    return members


def lose_last(members):
    return members[:-1]


def add_one(members):
    return [*members, (tarfile.TarInfo("x.json"), b"{}")]


def grow(members):
    return [members[0], (members[1][0], members[1][1] + b" "), *members[2:]]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (swap_samples, " member 0 is "),
        (interleave, " member 1 is "),
        (rename, " member 2 is "),
        (lose_last, " has 9 members; expected 10"),
        (add_one, " has 11 members; expected 10"),
        (grow, " member 1 is "),
    ],
)
def test_check_tar_members_other_than_the_rows_say_is_e161(samples, tmp_path, change, found):
    path = tmp_path / "s.tar"
    rows = write_tar(path, "s.tar", samples).rows
    rewrite(path, change)
    with pytest.raises(BuildError) as caught:
        check_tar(path, rows)
    assert caught.value.code == "E161"
    assert caught.value.message.startswith(f"{path}{found}")


def test_check_tar_names_what_it_found_and_expected(samples, tmp_path):
    path = tmp_path / "s.tar"
    rows = write_tar(path, "s.tar", samples).rows
    rewrite(path, rename)
    with pytest.raises(BuildError) as caught:
        check_tar(path, rows)
    key, place = rows[0].key, f"at {rows[0].frame_offsets[0]} with {rows[0].frame_sizes[0]} bytes"
    assert str(caught.value) == (
        f"E161 shard does not hold what was written: {path} member 2 is {key}.000001.jpg {place}; "
        f"expected {key}.000000 {place}"
    )


def test_check_tar_truncated_is_e161(samples, tmp_path):
    path = tmp_path / "s.tar"
    rows = write_tar(path, "s.tar", samples).rows
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BuildError, match=r"^E161 .*s\.tar"):
        check_tar(path, rows)


@pytest.mark.parametrize("key", ["a.b-000", "A-000", "", "x" * 81])
def test_check_tar_key_that_webdataset_would_cut_is_e161(samples, tmp_path, key):
    path = tmp_path / "s.tar"
    rows = write_tar(path, "s.tar", samples).rows
    with pytest.raises(BuildError) as caught:
        check_tar(path, (replace(rows[0], key=key), *rows[1:]))
    assert caught.value.message == f"{path} has key {key!r}; expected [a-z0-9_-]{{1,80}}"
