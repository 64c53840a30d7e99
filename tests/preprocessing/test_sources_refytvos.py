import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate
from univs.schema import Completeness, Expression

SOURCE = require_source("refytvos")
FRAMES = ("00000", "00005", "00010")
LABELS = np.zeros((3, 8, 8), dtype=np.uint8)
LABELS[0, :4, :4] = 2
LABELS[0, 6:, 6:] = 5
LABELS[2, 2:6, 2:6] = 2


@pytest.fixture
def videos():
    expressions = {
        "0": {"exp": "a dog", "obj_id": "2"},
        "10": {"exp": "the dog on the left", "obj_id": "2"},
        "2": {"exp": "it", "obj_id": "2"},
    }
    return {"003234408d": {"expressions": expressions, "frames": list(FRAMES)}}


@pytest.fixture
def root(tmp_path):
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / "valid" / folder / "003234408d").mkdir(parents=True)
    for stem, labels in zip(FRAMES, LABELS, strict=True):
        Image.new("RGB", (8, 8)).save(tmp_path / f"valid/JPEGImages/003234408d/{stem}.jpg")
        image = Image.fromarray(labels)
        image.putpalette(list(range(256)) * 3)
        image.save(tmp_path / f"valid/Annotations/003234408d/{stem}.png")
    return tmp_path


def write(root, videos, folder="valid"):
    (root / "meta_expressions" / folder).mkdir(parents=True, exist_ok=True)
    path = root / "meta_expressions" / folder / "meta_expressions.json"
    path.write_text(json.dumps({"videos": videos}))


def write_declared(root, *object_ids):
    objects = {object_id: {"category": "dog", "frames": []} for object_id in object_ids}
    (root / "valid/meta.json").write_text(json.dumps({"videos": {"003234408d": {"objects": objects}}}))


def read_only(root, videos):
    write(root, videos)
    (item,) = SOURCE.scan(root, "val")
    return SOURCE.read(root, "val", item)


def rejection(root, videos):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root, videos))
    return caught.value.code, caught.value.message


def test_read_video_stores_masks_once_and_lets_expressions_share_them(root, videos):
    record = validate(read_only(root, videos)).record
    assert [(t.object_id, t.source_id, t.category_id, t.states) for t in record.objects] == [
        (1, "2", None, "VAV"),
        (2, "5", None, "VAA"),
    ]
    np.testing.assert_array_equal(decode_mask(record.objects[0].rles[2], 8, 8), LABELS[2] == 2)
    assert record.expressions == (
        Expression(expression_id="0", text="a dog", object_ids=(1,)),
        Expression(expression_id="2", text="it", object_ids=(1,)),
        Expression(expression_id="10", text="the dog on the left", object_ids=(1,)),
    )
    assert record.ground_truth == "full"


def test_read_frame_without_png_is_unknown_not_absent(root, videos):
    (root / "valid/Annotations/003234408d/00005.png").unlink()
    record = validate(read_only(root, videos)).record
    assert [track.states for track in record.objects] == ["VUV", "VUA"]
    assert [frame.labelled for frame in record.frames] == [True, False, True]


def test_read_video_of_a_server_split_keeps_the_text(root, videos):
    for entry in videos["003234408d"]["expressions"].values():
        del entry["obj_id"]
    record = validate(read_only(root, videos)).record
    assert (record.ground_truth, record.objects, record.height) == ("none", (), 8)
    assert [(e.text, e.object_ids) for e in record.expressions][0] == ("a dog", ())
    assert not any(frame.labelled for frame in record.frames)


def test_scan_val_leaves_out_the_test_videos(root, videos):
    write(root, {**videos, "test1": videos["003234408d"]})
    write(root, {"test1": {}}, "test")
    assert [item.item_id for item in SOURCE.scan(root, "val")] == ["003234408d"]


def test_read_expression_of_missing_object_is_e140(root, videos):
    videos["003234408d"]["expressions"]["4"] = {"exp": "a cat", "obj_id": "7"}
    assert rejection(root, videos) == ("E140", '003234408d: expression "4" obj_id "7", objects 2, 5')


def test_read_expression_without_object_among_others_is_e140(root, videos):
    del videos["003234408d"]["expressions"]["10"]["obj_id"]
    assert rejection(root, videos)[0] == "E140"


def test_read_undeclared_object_is_e137(root, videos):
    write_declared(root, "5")
    assert rejection(root, videos) == ("E137", "003234408d: id 2 (16 px) is not among 5")


def test_read_undeclared_speck_is_kept_with_a_finding(root, videos):
    write_declared(root, "2")
    video = read_only(root, videos)
    assert [track.source_id for track in video.record.objects] == ["2", "5"]
    assert [(f.code, f.message, f.file, f.pointer) for f in video.findings] == [
        (
            "W137",
            "003234408d: id 5 (4 px) is not among 2; kept",
            "valid/meta.json",
            "/videos/003234408d/objects",
        )
    ]


def test_read_declared_object_that_is_never_visible_is_left_out_with_a_finding(root, videos):
    write_declared(root, "2", "5", "9")
    video = read_only(root, videos)
    assert [track.source_id for track in video.record.objects] == ["2", "5"]
    assert [(f.code, f.message, f.file, f.pointer) for f in video.findings] == [
        (
            "W138",
            "003234408d: declared object 9 is never visible, left out",
            "valid/meta.json",
            "/videos/003234408d/objects/9",
        )
    ]
    assert json.loads(video.record.extra) == {"left_out": {"9": {"category": "dog", "frames": []}}}


def test_read_declared_category_and_frames_stay_with_the_object(root, videos):
    write_declared(root, "2", "5")
    extras = [json.loads(track.extra) for track in read_only(root, videos).record.objects]
    assert extras == [{"category": "dog", "frames": []}] * 2


def test_read_object_without_expression_is_flagged(root, videos):
    (finding,) = validate(read_only(root, videos)).findings
    assert (finding.code, finding.message) == ("W142", "003234408d: 1 of 2 objects: 5")


def test_read_label_without_a_frame_is_flagged(root, videos):
    videos["003234408d"]["frames"].pop()
    (finding,) = read_only(root, videos).findings
    assert (finding.code, finding.message) == ("W152", "003234408d: 00010.png has no image, left out")
    assert finding.file == "valid/Annotations/003234408d/00010.png"


def test_read_group_rate_and_completeness_are_those_of_youtube_vos(root, videos):
    record = read_only(root, videos).record
    assert (record.group, record.frames_per_second) == ("ytvos:003234408d", 6.0)
    assert record.completeness == Completeness(is_partial=True)
    assert record.prompts == ()


def test_read_unknown_fields_are_kept(root, videos):
    videos["003234408d"]["source"] = "a"
    videos["003234408d"]["expressions"]["2"]["annotator"] = 4
    assert json.loads(read_only(root, videos).record.extra) == {
        "source": "a",
        "expressions": {"2": {"annotator": 4}},
    }


def test_read_test_split_keeps_the_text(root, videos):
    entry = {"frames": ["00000"], "expressions": {"0": {"exp": "a dog"}}}
    write(root, {"003234408d": entry}, "test")
    (root / "test").symlink_to(root / "valid")
    (item,) = SOURCE.scan(root, "test")
    record = validate(SOURCE.read(root, "test", item)).record
    assert (record.ground_truth, [e.text for e in record.expressions]) == ("none", ["a dog"])


def test_read_error_names_file_and_place(root, videos):
    videos["003234408d"]["expressions"]["4"] = {"exp": "a cat", "obj_id": "7"}
    with pytest.raises(ItemError) as caught:
        read_only(root, videos)
    assert caught.value.file == "meta_expressions/valid/meta_expressions.json"
    assert caught.value.pointer == "/videos/003234408d/expressions/4/obj_id"


def test_read_no_png_at_all_is_e151(root, videos):
    for stem in FRAMES:
        (root / f"valid/Annotations/003234408d/{stem}.png").unlink()
    expected = "003234408d: 3 frames, 0 of them with a PNG in Annotations"
    assert rejection(root, videos) == ("E151", expected)


def test_read_rgb_label_is_e130(root, videos):
    Image.new("RGB", (8, 8)).save(root / "valid/Annotations/003234408d/00005.png")
    assert rejection(root, videos)[0] == "E130"


def test_read_missing_frame_is_e101(root, videos):
    (root / "valid/JPEGImages/003234408d/00005.jpg").unlink()
    expected = "003234408d/00005.jpg: 003234408d/00005.jpg not found; unpack the images completely"
    assert rejection(root, videos) == ("E101", expected)


def test_read_no_frames_is_e153(root, videos):
    videos["003234408d"]["frames"] = []
    assert rejection(root, videos) == ("E153", "003234408d: the expression file lists no frames")


def test_read_unsafe_frame_name_is_e190(root, videos):
    videos["003234408d"]["frames"][0] = "../../../x"
    assert rejection(root, videos) == ("E190", "003234408d: '../../../x'; expected a path inside the dataset")


@pytest.mark.parametrize("text", [None, 3, ["a"]])
def test_read_expression_that_is_no_text_is_e100(root, videos, text):
    videos["003234408d"]["expressions"]["0"]["exp"] = text
    expected = f'003234408d: expression "0" is {type(text).__name__}, expected text'
    assert rejection(root, videos) == ("E100", expected)


@pytest.mark.parametrize("video", [None, 3, [], {"frames": ["00000"]}, {"expressions": {}, "frames": 4}])
def test_read_malformed_video_is_e100(root, video):
    assert rejection(root, {"003234408d": video})[0] == "E100"


def test_scan_missing_file_raises(root):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: meta_expressions/train/meta_expressions.json not found; expected the "
        "Refer-YouTube-VOS expressions; unzip meta_expressions.zip there"
    )


def test_scan_malformed_meta_raises(root, videos):
    write(root, videos)
    (root / "valid/meta.json").write_text('{"videos": {"a": {}}}')
    with pytest.raises(SourceError, match=r"valid/meta.json is malformed \(KeyError: 'objects'\); expected"):
        list(SOURCE.scan(root, "val"))


def test_scan_videos_as_a_list_raises(root):
    write(root, [])
    with pytest.raises(SourceError, match="has videos of type list; expected an object by video name"):
        list(SOURCE.scan(root, "val"))


def test_scan_real_expression_file_lists_its_videos():
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    root = Path(samples) / "ytbvos"
    official = json.loads((root / "meta_expressions/valid/meta_expressions.json").read_bytes())["videos"]
    items = list(SOURCE.scan(root, "val"))
    assert {item.item_id: item.num_frames for item in items} == {
        name: len(video["frames"]) for name, video in official.items()
    }
