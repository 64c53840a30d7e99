"""Releases in object stores: a real S3-compatible server on loopback, and fsspec's memory."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import boto3
import fsspec
import pytest
import torch
from moto.server import ThreadedMotoServer

from univs.data.augment import AugmentConfig
from univs.data.loader import LoaderConfig, MixtureSource, make_loader
from univs.data.release import Release
from univs.data.stores import FsspecFiles, LocalFiles, open_store

CONFIG = LoaderConfig(
    batch_size=2,
    frames_per_clip=2,
    augment=AugmentConfig(short_edges_px=(24, 40), max_long_edge_px=64),
    num_workers=0,
    shuffle_samples=2,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve S3 on loopback."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def local(maker) -> Path:
    records = [
        maker.record(
            5, [maker.track(1, [maker.rectangle(3 * t, 4 + i, 6, 7) for t in range(5)])], item_id=f"video{i}"
        )
        for i in range(4)
    ]
    return maker.pack(records, max_frames_per_chunk=3)


@pytest.fixture
def bucket(server, monkeypatch, local) -> str:
    """Copy the release into a bucket; the reader finds endpoint and credentials in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    name = local.parent.parent.name.replace("_", "-").lower()
    client.create_bucket(Bucket=name)
    for path in local.iterdir():
        if path.is_file():
            client.upload_file(str(path), name, f"handmade/train/{path.name}")
    return f"s3://{name}/handmade/train"


def take(path, config=CONFIG, number=4):
    return list(islice(make_loader([MixtureSource(path=path)], config, seed=3), number))


def test_a_release_in_a_bucket_reads_like_the_local_one(bucket, local):
    remote, here = Release.open(bucket), Release.open(local)
    assert isinstance(remote.store, FsspecFiles)
    assert remote.manifest == here.manifest
    for index, row in enumerate(here.rows):
        assert remote.rows[index] == row
        assert remote.read_record(index) == here.read_record(index)
        assert remote.read_frames(index, [1, 0]) == here.read_frames(index, [1, 0])


@pytest.mark.parametrize("access", ["indexed", "sequential"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_from_a_bucket_are_those_of_local_files(bucket, local, access, workers):
    config = replace(CONFIG, num_workers=workers, access=access)
    for left, right in zip(take(bucket, config), take(local, config), strict=True):
        assert left.keys == right.keys
        assert torch.equal(left.frames, right.frames)
        assert all(torch.equal(a.masks, b.masks) for a, b in zip(left.targets, right.targets, strict=True))


def test_only_the_frames_of_the_clip_cross_the_network(bucket, local, monkeypatch):
    release = Release.open(bucket)
    asked = []
    files = release.store._connect()
    fetch = files.cat_ranges

    def watch(paths, starts, ends, **options):
        asked.extend(zip(starts, ends, strict=True))
        return fetch(paths, starts, ends, **options)

    monkeypatch.setattr(files, "cat_ranges", watch)
    row = release.rows[0]
    release.read_frames(0, [1])
    assert asked == [(row.frame_offsets[1], row.frame_offsets[1] + row.frame_sizes[1])]


def test_a_bucket_without_the_release_is_refused(bucket):
    with pytest.raises(ValueError, match=r"handmade/val: no manifest\.json, so no whole release"):
        Release.open(bucket.replace("/train", "/val"))


def test_a_shard_that_was_copied_in_part_is_refused(bucket):
    release = Release.open(bucket)
    name, key = bucket.removeprefix("s3://").split("/", 1)
    shard = release.rows[0].shard
    boto3.client("s3").put_object(Bucket=name, Key=f"{key}/{shard}", Body=b"x" * 700)
    with pytest.raises(ValueError, match="size 700 bytes, the manifest says"):
        Release.open(bucket)
    with pytest.raises(ValueError, match=r"found \d+ bytes at offset 512"):
        release.read_record(0)


def test_any_fsspec_store_will_do(local):
    memory = fsspec.filesystem("memory")
    for path in local.iterdir():
        if path.is_file():
            memory.pipe_file(f"/releases/{path.name}", path.read_bytes())
    found, expected = Release.open("memory://releases"), Release.open(local)
    assert found.read_frames(1, [0, 1]) == expected.read_frames(1, [0, 1])
    assert found.read_record(1) == expected.read_record(1)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_local_paths_are_read_by_position(local, scheme):
    assert isinstance(open_store(f"{scheme}{local}"), LocalFiles)
    assert Release.open(f"{scheme}{local}").read_frames(0, [0]) == Release.open(local).read_frames(0, [0])
