import json

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate
from univs.schema import OfficialPrompt

SOURCE = require_source("ytvos_2019")
VIDEO = "003234408d"
STEMS = ("00000", "00005", "00010", "00015")
LABELS = np.zeros((4, 8, 8), dtype=np.uint8)
LABELS[0, :4, :4] = 2
LABELS[2, 2:6, 2:6] = 2
LABELS[2, 6:, :] = 5


@pytest.fixture(params=["train", "valid"])
def folder(request):
    return request.param


@pytest.fixture
def root(tmp_path, folder):
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / folder / part / VIDEO).mkdir(parents=True)
    for stem, labels in zip(STEMS, LABELS, strict=True):
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "JPEGImages" / VIDEO / f"{stem}.jpg")
        image = Image.fromarray(labels)
        image.putpalette(list(range(256)) * 3)
        image.save(tmp_path / folder / "Annotations" / VIDEO / f"{stem}.png")
    write_meta(tmp_path, folder, {"2": ["00000", "00010"], "5": ["00010", "00015"]})
    return tmp_path


def write_meta(root, folder, frames):
    objects = {object_id: {"category": "dog", "frames": names} for object_id, names in frames.items()}
    (root / folder / "meta.json").write_text(json.dumps({"videos": {VIDEO: {"objects": objects}}}))


def keep_labels(root, folder, *stems):
    for path in (root / folder / "Annotations" / VIDEO).iterdir():
        if path.stem not in stems:
            path.unlink()


def read_only(root, folder):
    split = {"train": "train", "valid": "val"}[folder]
    (item,) = SOURCE.scan(root, split)
    assert (item.item_id, item.num_frames) == (VIDEO, 4)
    return SOURCE.read(root, split, item)


def rejection(root, folder):
    with pytest.raises(ItemError) as caught:
        read_only(root, folder)
    return caught.value.code, caught.value.message


only_train = pytest.mark.parametrize("folder", ["train"], indirect=True)
only_valid = pytest.mark.parametrize("folder", ["valid"], indirect=True)


def test_read_dense_labels_are_full_ground_truth(root, folder):
    record = validate(read_only(root, folder)).record
    assert [(t.source_id, t.states, t.category_id) for t in record.objects] == [
        ("2", "VAVA", None),
        ("5", "AAVA", None),
    ]
    np.testing.assert_array_equal(decode_mask(record.objects[0].rles[2], 8, 8), LABELS[2] == 2)
    assert json.loads(record.objects[1].extra) == {"category": "dog", "frames": ["00010", "00015"]}
    assert (record.ground_truth, record.group, record.frames_per_second) == ("full", f"ytvos:{VIDEO}", 6.0)
    assert record.completeness.is_partial
    assert record.extra == ""


@only_valid
def test_read_first_appearances_leave_all_else_unknown(root, folder):
    keep_labels(root, folder, "00000", "00010")
    record = validate(read_only(root, folder)).record
    assert record.ground_truth == "first_frame"
    assert [track.states for track in record.objects] == ["VUVU", "UUVU"]
    assert [frame.labelled for frame in record.frames] == [True, False, True, False]
    assert record.prompts == (
        OfficialPrompt(kind="mask", object_id=1, frame_index=0),
        OfficialPrompt(kind="mask", object_id=2, frame_index=2),
    )


@only_train
def test_read_train_frames_between_the_annotated_ones_are_unknown(root, folder):
    keep_labels(root, folder, "00000", "00010", "00015")
    record = validate(read_only(root, folder)).record
    assert record.ground_truth == "full"
    assert [track.states for track in record.objects] == ["VUVA", "AUVA"]
    assert record.prompts == ()


@only_train
def test_read_train_declared_frame_without_label_is_e151(root, folder):
    keep_labels(root, folder, "00000", "00010")
    expected = f"{VIDEO}: object 5 is declared in frame 00015, which has no label file"
    assert rejection(root, folder) == ("E151", expected)


def test_read_no_label_at_all_is_e151(root, folder):
    write_meta(root, folder, {})
    keep_labels(root, folder)
    expected = f"{VIDEO}: 4 frames, 0 of them with a PNG in Annotations"
    assert rejection(root, folder) == ("E151", expected)


def test_read_undeclared_object_is_e137(root, folder):
    write_meta(root, folder, {"5": ["00010"]})
    with pytest.raises(ItemError) as caught:
        read_only(root, folder)
    assert (caught.value.code, caught.value.message) == ("E137", f"{VIDEO}: id 2 (16 px) is not among 5")
    assert (caught.value.file, caught.value.pointer) == (f"{folder}/meta.json", f"/videos/{VIDEO}/objects")


def test_read_undeclared_speck_is_kept_with_a_finding(root, folder):
    labels = LABELS[3].copy()
    labels[0, : 15 % 8] = 9
    Image.fromarray(labels).save(root / folder / "Annotations" / VIDEO / "00015.png")
    video = read_only(root, folder)
    assert [track.source_id for track in video.record.objects] == ["2", "5", "9"]
    assert [(f.code, f.message) for f in video.findings] == [
        ("W137", f"{VIDEO}: id 9 (7 px) is not among 2, 5; kept")
    ]


def test_read_declared_object_without_pixels_is_left_out_with_a_finding(root, folder):
    write_meta(root, folder, {"2": ["00000"], "5": ["00010"], "7": ["00005"]})
    video = read_only(root, folder)
    (finding,) = video.findings
    assert (finding.code, finding.message) == (
        "W138",
        f"{VIDEO}: declared object 7 is never visible, left out",
    )
    assert finding.pointer == f"/videos/{VIDEO}/objects/7"
    assert json.loads(video.record.extra) == {"left_out": {"7": {"category": "dog", "frames": ["00005"]}}}


def test_read_all_frames_archive_is_thirty_frames_a_second(root, folder):
    keep_labels(root, folder, "00000")
    write_meta(root, folder, {"2": ["00000"]})
    images = root / folder / "JPEGImages" / VIDEO
    for index, stem in enumerate(STEMS):
        (images / f"{stem}.jpg").rename(images / f"{index:05d}.jpg.new")
    for path in images.iterdir():
        path.rename(path.with_suffix(""))
    record = validate(read_only(root, folder)).record
    assert record.frames_per_second == 30.0
    assert record.objects[0].states == "VUUU"


def test_read_frames_with_gaps_have_no_rate(root, folder):
    (root / folder / "JPEGImages" / VIDEO / "00015.jpg").rename(
        root / folder / "JPEGImages" / VIDEO / "00025.jpg"
    )
    write_meta(root, folder, {"2": [], "5": []})
    video = read_only(root, folder)
    assert video.record.frames_per_second is None
    assert [finding.code for finding in video.findings] == ["W152"]


def test_read_no_frames_is_e153(root, folder):
    for path in (root / folder / "JPEGImages" / VIDEO).iterdir():
        path.unlink()
    split = {"train": "train", "valid": "val"}[folder]
    (item,) = SOURCE.scan(root, split)
    with pytest.raises(ItemError) as caught:
        SOURCE.read(root, split, item)
    expected = f"{VIDEO}: no frames on disk; unpack the images of {folder}"
    assert (caught.value.code, caught.value.message) == ("E153", expected)


def test_read_rgb_label_is_e130(root, folder):
    Image.new("RGB", (8, 8)).save(root / folder / "Annotations" / VIDEO / "00005.png")
    expected = f"{VIDEO}: label image 00005.png has mode RGB; expected P or L"
    assert rejection(root, folder) == ("E130", expected)


def test_read_label_of_other_size_is_e131(root, folder):
    Image.new("L", (8, 9)).save(root / folder / "Annotations" / VIDEO / "00005.png")
    expected = f"{VIDEO}/00005.png: label image 8x9; expected 8x8 (w x h)"
    assert rejection(root, folder) == ("E131", expected)


@only_train
@pytest.mark.parametrize("objects", [{"2": None}, {"2": {"category": "dog"}}, {"2": 4}])
def test_read_malformed_object_is_e100(root, folder, objects):
    (root / "train/meta.json").write_text(json.dumps({"videos": {VIDEO: {"objects": objects}}}))
    assert rejection(root, folder)[0] == "E100"


@only_train
def test_scan_missing_or_malformed_meta_raises(root, folder):
    (root / "train/meta.json").write_text('{"videos": {"a": {}}}')
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: train/meta.json is malformed (KeyError: 'objects'); expected the YouTube-VOS "
        "object list; unpack the YouTube-VOS archive of train whole"
    )
    with pytest.raises(SourceError, match="test/meta.json not found; expected the YouTube-VOS object list"):
        list(SOURCE.scan(root, "test"))


@only_train
def test_scan_unsafe_video_name_is_e190(root, folder):
    (root / "train/meta.json").write_text('{"videos": {"../../x": {"objects": {}}}}')
    (item,) = SOURCE.scan(root, "train")
    with pytest.raises(ItemError, match="^E190 .*: '../../x'; expected a path inside the dataset"):
        SOURCE.read(root, "train", item)


def test_years_share_the_layout_and_differ_in_size():
    years = {year: require_source(f"ytvos_{year}").spec for year in (2018, 2019)}
    counts = {y: tuple(spec.counts[s].num_items for s in spec.splits) for y, spec in years.items()}
    assert counts == {2018: (3471, 474, 508), 2019: (3471, 507, 541)}
