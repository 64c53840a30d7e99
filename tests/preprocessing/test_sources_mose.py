import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, MissingFileError
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate
from univs.schema import OfficialPrompt

SOURCE = require_source("mose")
LABELS = np.array([[[0, 4, 4, 9]], [[0, 0, 4, 4]], [[9, 9, 0, 0]]], np.uint8)


def write(root, folder, video, num_labels=3, num_frames=3):
    for part in ("JPEGImages", "Annotations"):
        (root / folder / part / video).mkdir(parents=True)
    for index in range(num_frames):
        Image.new("RGB", (4, 1)).save(root / folder / "JPEGImages" / video / f"{index:05d}.jpg")
    for index, labels in enumerate(LABELS[:num_labels]):
        image = Image.fromarray(labels)
        image.putpalette(list(range(256)) * 3)
        image.save(root / folder / "Annotations" / video / f"{index:05d}.png")


def read(root, split):
    (item,) = SOURCE.scan(root, split)
    return SOURCE.read(root, split, item)


def rejection(root, split):
    with pytest.raises(ItemError) as caught:
        validate(read(root, split))
    return caught.value.code, caught.value.message


def test_read_train_ids_may_have_gaps(tmp_path):
    write(tmp_path, "train", "ab12")
    record = validate(read(tmp_path, "train")).record
    assert [(t.object_id, t.source_id, t.states) for t in record.objects] == [
        (1, "4", "VVA"),
        (2, "9", "VAV"),
    ]
    assert (record.ground_truth, record.group, record.prompts) == ("full", "mose:ab12", ())
    assert (record.frames_per_second, record.completeness.is_partial) == (None, True)


@pytest.mark.parametrize("split", ["val", "test"])
def test_read_first_frame_only_leaves_the_rest_unknown(tmp_path, split):
    write(tmp_path, {"val": "valid", "test": "test"}[split], "ab12", num_labels=1)
    record = validate(read(tmp_path, split)).record
    assert record.ground_truth == "first_frame"
    assert [track.states for track in record.objects] == ["VUU", "VUU"]
    assert record.prompts == (
        OfficialPrompt(kind="mask", object_id=1, frame_index=0),
        OfficialPrompt(kind="mask", object_id=2, frame_index=0),
    )


def test_read_val_with_every_mask_is_full_ground_truth(tmp_path):
    write(tmp_path, "valid", "ab12")
    record = validate(read(tmp_path, "val")).record
    assert (record.ground_truth, [track.states for track in record.objects]) == ("full", ["VVA", "VAV"])


def test_read_single_frame_video_is_kept_and_flagged(tmp_path):
    write(tmp_path, "train", "330ac20d", num_labels=1, num_frames=1)
    video = validate(read(tmp_path, "train"))
    assert video.record.num_frames == 1
    assert [finding.code for finding in video.findings] == ["W150"]


def test_read_train_without_some_label_is_e151(tmp_path):
    write(tmp_path, "train", "ab12", num_labels=2)
    assert rejection(tmp_path, "train") == ("E151", "ab12: 3 jpg, 2 png; frame 00002 has no label file")


def test_read_val_without_any_label_is_e151(tmp_path):
    write(tmp_path, "valid", "ab12", num_labels=0)
    expected = ("E151", "ab12: 3 frames, 0 of them with a PNG in Annotations")
    assert rejection(tmp_path, "val") == expected


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "ab12: no frames on disk; check the split list and unpack the images"),
        ("val", "ab12: no frames on disk; unpack the images of valid"),
    ],
)
def test_read_labels_without_images_is_e153(tmp_path, split, message):
    write(tmp_path, {"train": "train", "val": "valid"}[split], "ab12", num_frames=0)
    assert rejection(tmp_path, split) == ("E153", message)


def test_read_rgb_label_is_e130(tmp_path):
    write(tmp_path, "train", "ab12")
    Image.new("RGB", (4, 1)).save(tmp_path / "train/Annotations/ab12/00001.png")
    expected = ("E130", "ab12: label image 00001.png has mode RGB; expected P or L")
    assert rejection(tmp_path, "train") == expected


def test_read_label_without_image_is_flagged(tmp_path):
    write(tmp_path, "valid", "ab12", num_frames=2)
    (finding,) = read(tmp_path, "val").findings
    assert (finding.code, finding.message) == ("W152", "ab12: 00002.png has no image, left out")


def test_scan_lists_videos_by_name_with_their_frames(tmp_path):
    write(tmp_path, "train", "b0")
    write(tmp_path, "train", "a1", num_frames=2)
    assert [(item.item_id, item.num_frames) for item in SOURCE.scan(tmp_path, "train")] == [
        ("a1", 2),
        ("b0", 3),
    ]


def test_scan_missing_split_raises(tmp_path):
    write(tmp_path, "train", "ab12")
    with pytest.raises(MissingFileError) as caught:
        list(SOURCE.scan(tmp_path, "val"))
    assert str(caught.value) == (
        f"--source {tmp_path}: valid/JPEGImages has no folders; expected one per video of MOSE; unpack the "
        "archive of valid"
    )


def test_counts_sum_to_the_published_total():
    assert sum(counts.num_items for counts in SOURCE.spec.counts.values()) == 2149
