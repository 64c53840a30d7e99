import hashlib
import shutil

import pyarrow.parquet as pq
import pytest

from preprocessing.index import MANIFEST_NAME
from preprocessing.leaks import Leak, describe_leaks, find_leaks, write_leaks
from preprocessing.tables import FrameDigest, write_frames, write_index
from univs.schema import IndexRow, Manifest, manifest_to_json


def make_release(root, dataset, split, samples):
    """Write the tables of a release; a sample is its item, its group, and a letter per frame's bytes."""
    folder = root / dataset / split
    folder.mkdir(parents=True)
    rows, digests = [], []
    for item_id, group, letters in samples:
        key = f"{dataset}-{split}-{item_id}-000"
        rows.append(
            IndexRow(
                key=key,
                item_id=item_id,
                shard="s.tar",
                chunk_index=0,
                chunk_count=1,
                height=1,
                width=1,
                meta_offset=0,
                meta_size=0,
                annotation_offset=0,
                annotation_size=0,
                frame_offsets=(0,) * len(letters),
                frame_sizes=(1,) * len(letters),
                num_objects=0,
                num_expressions=0,
                group=group,
                category_ids=(),
                flags=(),
            )
        )
        digests += [
            FrameDigest(key=key, position=i, sha256=hashlib.sha256(letter.encode()).hexdigest())
            for i, letter in enumerate(letters)
        ]
    write_index(folder / "index.parquet", rows)
    write_frames(folder / "frames.parquet", digests)
    manifest = Manifest(
        dataset=dataset,
        split=split,
        task="detection",
        kind="image",
        label_space=None,
        num_items=len(rows),
        num_samples=len(rows),
        num_frames=len(digests),
        num_objects=0,
        num_expressions=0,
        rejects={},
        warnings={},
        shards=(),
        plan_digest="",
    )
    (folder / MANIFEST_NAME).write_bytes(manifest_to_json(manifest))
    return folder


@pytest.fixture
def releases(tmp_path):
    return [
        make_release(
            tmp_path,
            "coco_panoptic",
            "train",
            [
                ("1", "coco:000000000001", "a"),
                ("2", "coco:000000000002", "b"),
                ("3", "coco:000000000003", "c"),
            ],
        ),
        make_release(tmp_path, "vspw", "train", [("x", "vipseg:x", "pqr"), ("y", "vipseg:y", "stt")]),
        make_release(
            tmp_path, "lvis", "val", [("2", "coco:000000000002", "b"), ("3", "coco:000000000003", "C")]
        ),
        make_release(tmp_path, "mose", "val", [("m", "", "aqrr"), ("n", "", "zz")]),
        make_release(tmp_path, "vipseg", "val", [("y", "vipseg:y", "st"), ("w", "vipseg:w", "w")]),
    ]


def leak(training, evaluation, match, groups, num_frames):
    return Leak(
        training=training,
        evaluation=evaluation,
        match=match,
        training_group=groups[0],
        evaluation_group=groups[1],
        num_frames=num_frames,
    )


def test_find_leaks_known_pairs_are_all_found_and_nothing_else(releases):
    coco2, coco3 = ("coco:000000000002",) * 2, ("coco:000000000003",) * 2
    assert find_leaks(releases) == (
        leak("coco_panoptic/train", "lvis/val", "group", coco2, 1),
        # The same image encoded anew: only its name tells.
        leak("coco_panoptic/train", "lvis/val", "group", coco3, 0),
        # A dataset without groups is known by its items.
        leak("coco_panoptic/train", "mose/val", "frames", ("coco:000000000001", "mose:m"), 1),
        leak("vspw/train", "mose/val", "frames", ("vipseg:x", "mose:m"), 2),
        leak("vspw/train", "vipseg/val", "group", ("vipseg:y",) * 2, 2),
    )


def test_write_leaks_reads_back_and_the_description_sums_up(releases, tmp_path):
    leaks = find_leaks(releases)
    write_leaks(tmp_path / "leaks.parquet", leaks)
    assert tuple(Leak(**row) for row in pq.read_table(tmp_path / "leaks.parquet").to_pylist()) == leaks
    assert describe_leaks(leaks) == (
        "coco_panoptic/train and lvis/val share 2 groups by name and 0 by frames, 1 frames; "
        "first coco:000000000002\n"
        "coco_panoptic/train and mose/val share 0 groups by name and 1 by frames, 1 frames; "
        "first coco:000000000001 = mose:m\n"
        "vspw/train and mose/val share 0 groups by name and 1 by frames, 2 frames; first vipseg:x = mose:m\n"
        "vspw/train and vipseg/val share 1 groups by name and 0 by frames, 2 frames; first vipseg:y\n"
    )


def test_find_leaks_of_releases_without_common_pictures_is_empty(releases, tmp_path):
    leaks = find_leaks([releases[0], releases[4]])
    assert (leaks, describe_leaks(leaks)) == ((), "no group is shared\n")
    write_leaks(tmp_path / "leaks.parquet", leaks)
    assert pq.read_table(tmp_path / "leaks.parquet").num_rows == 0


def test_find_leaks_without_an_evaluation_release_raises(releases):
    with pytest.raises(
        ValueError, match=r"^--leaks: got coco_panoptic/train, vspw/train; expected releases of"
    ):
        find_leaks(releases[:2])
    with pytest.raises(ValueError, match=r"^--leaks: got none; expected"):
        find_leaks([])


def test_find_leaks_of_a_release_that_is_not_whole_raises(releases):
    (releases[2] / MANIFEST_NAME).unlink()
    with pytest.raises(ValueError, match=r"lvis/val/manifest.json not found: the release is not whole"):
        find_leaks(releases)
    shutil.rmtree(releases[2])
    with pytest.raises(ValueError, match="is not whole"):
        find_leaks(releases)
