import json

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.masks import decode_mask, encode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate

SOURCE = require_source("ytvis_2021")
HEIGHT, WIDTH = 4, 6
SQUARE = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
SQUARE[1:3, 2:5] = True


def uncompressed(mask):
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


@pytest.fixture
def body():
    track = {
        "id": 5,
        "video_id": 12,
        "category_id": 26,
        "iscrowd": 0,
        "segmentations": [
            uncompressed(SQUARE),
            None,
            {"size": [HEIGHT, WIDTH], "counts": encode_mask(~SQUARE)},
        ],
    }
    names = [f"0043f083b5/{5 * index:05d}.jpg" for index in range(3)]
    return {
        "videos": [{"id": 12, "height": HEIGHT, "width": WIDTH, "length": 3, "file_names": names}],
        "annotations": [track],
        "categories": [{"id": 26, "name": "person"}, {"id": 1, "name": "airplane"}],
    }


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "valid" / "JPEGImages" / "0043f083b5"
    folder.mkdir(parents=True)
    for index in range(3):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{5 * index:05d}.jpg")
    return tmp_path


def read_only(root, body):
    (root / "valid" / "instances.json").write_text(json.dumps(body))
    (item,) = SOURCE.scan(root, "val")
    return SOURCE.read(root, "val", item)


def rejection(root, body):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root, body))
    return caught.value.code, caught.value.message


def source_error(root, body):
    with pytest.raises(SourceError) as caught:
        read_only(root, body)
    return str(caught.value)


def test_read_video_null_is_absent_and_masks_are_exact(root, body):
    record = validate(read_only(root, body)).record
    (track,) = record.objects
    assert (track.source_id, track.category_id, track.states) == ("5", 26, "VAV")
    np.testing.assert_array_equal(decode_mask(track.rles[0], HEIGHT, WIDTH), SQUARE)
    np.testing.assert_array_equal(decode_mask(track.rles[2], HEIGHT, WIDTH), ~SQUARE)
    assert record.item_id == "12"
    assert [frame.name for frame in record.frames] == [f"0043f083b5/{i:05d}.jpg" for i in (0, 5, 10)]
    assert record.ground_truth == "full"


def test_read_polygons_fills_them(root, body):
    body["annotations"][0]["segmentations"][0] = [[2, 1, 5, 1, 5, 3, 2, 3]]
    track = read_only(root, body).record.objects[0]
    np.testing.assert_array_equal(decode_mask(track.rles[0], HEIGHT, WIDTH), SQUARE)


@pytest.mark.parametrize("absent", ["null", "missing"])
def test_read_video_of_a_server_split_has_no_ground_truth(root, body, absent):
    body["annotations"] = None
    if absent == "missing":
        del body["annotations"]
    record = validate(read_only(root, body)).record
    assert (record.ground_truth, record.objects) == ("none", ())
    assert not any(frame.labelled for frame in record.frames)


def test_read_video_without_objects_in_an_annotated_split_has_full_ground_truth(root, body):
    record = read_only(root, {**body, "annotations": []}).record
    assert (record.ground_truth, record.objects) == ("full", ())


def test_read_track_that_is_never_visible_is_left_out_with_a_finding(root, body):
    never = {**body["annotations"][0], "id": 4, "segmentations": [None] * 3}
    body["annotations"].append(never)
    video = read_only(root, body)
    assert [(track.object_id, track.source_id) for track in video.record.objects] == [(1, "5")]
    assert video.findings == (
        Finding(
            code="W138",
            message="12: annotation 4 is never visible, left out",
            file="valid/instances.json",
            pointer="/annotations/1",
        ),
    )
    assert json.loads(video.record.extra) == {"left_out": [never]}


def test_read_official_boxes_and_areas_of_the_masks_are_not_stored(root, body):
    body["annotations"][0].update(bboxes=[[2, 1, 3, 2], None, [0, 0, 6, 4]], areas=[6, None, 18])
    (track,) = read_only(root, body).record.objects
    assert (track.boxes, track.areas) == ((), ())


def test_read_official_boxes_and_areas_that_differ_are_stored_verbatim(root, body):
    body["annotations"][0].update(bboxes=[[2, 1, 3, 2], None, [0.0, 0.5, 6, 4]], areas=[6, None, 24.5])
    (track,) = read_only(root, body).record.objects
    assert track.boxes == ((2, 1, 3, 2), None, (0.0, 0.5, 6, 4))
    assert track.areas == (6, None, 24.5)


def test_read_box_without_a_mask_is_unknown_not_absent(root, body):
    body["annotations"][0]["bboxes"] = [[2, 1, 3, 2], [0, 0, 2, 2], [0, 0, 6, 4]]
    (track,) = validate(read_only(root, body)).record.objects
    assert (track.states, track.boxes[1]) == ("VUV", (0, 0, 2, 2))


def test_read_empty_box_without_a_mask_is_absent(root, body):
    body["annotations"][0]["bboxes"] = [[2, 1, 3, 2], [0, 0, 0, 0], [0, 0, 6, 4]]
    assert read_only(root, body).record.objects[0].states == "VAV"


@pytest.mark.parametrize("field", ["bboxes", "areas"])
def test_read_list_of_another_length_is_e110(root, body, field):
    body["annotations"][0][field] = [None, None]
    assert rejection(root, body) == ("E110", f"12: annotation 5: {field} has 2 entries, expected 3")


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, "4"], 7, [1, 2, 3, True]])
def test_read_malformed_box_is_e100(root, body, box):
    body["annotations"][0]["bboxes"] = [box, None, None]
    assert rejection(root, body)[0] == "E100"


def test_read_unknown_fields_are_kept(root, body):
    body["videos"][0].update(license=1, date_captured="2019", flickr_url="")
    body["annotations"][0].update(occlusion=["none", None, "severe"], height=HEIGHT, width=7)
    record = read_only(root, body).record
    assert json.loads(record.extra) == {"license": 1, "date_captured": "2019", "flickr_url": ""}
    assert json.loads(record.objects[0].extra) == {"occlusion": ["none", None, "severe"], "width": 7}


def test_read_group_is_the_folder_whatever_the_number(root, body):
    record = read_only(root, body).record
    assert (record.item_id, record.group, record.frames_per_second) == ("12", "ytvos:0043f083b5", 6.0)


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"segmentations": [None]}, "E110", "/annotations/0/segmentations"),
        (
            {"segmentations": [None, {"size": [6, 4], "counts": [24]}, None]},
            "E111",
            "/annotations/0/segmentations/1",
        ),
        ({"category_id": 3}, "E123", "/annotations/0/category_id"),
    ],
)
def test_read_error_names_file_and_place(root, body, changes, code, pointer):
    body["annotations"][0].update(changes)
    with pytest.raises(ItemError) as caught:
        read_only(root, body)
    assert (caught.value.code, caught.value.file, caught.value.pointer) == (
        code,
        "valid/instances.json",
        pointer,
    )


FORMS = [
    ("ytvis_2019", "val", "valid.json", "valid/JPEGImages"),
    ("ytvis_2019", "test", "test/instances.json", "test/JPEGImages"),
    ("ytvis_2021", "train", "train.json", "train/JPEGImages"),
    ("ytvis_2021", "test", "test/instances.json", "test/JPEGImages"),
    ("ytvis_2022", "val", "valid/instances.json", "valid/JPEGImages"),
    ("ytvis_2022", "val", "valid22.json", "valid22/JPEGImages"),
    ("ovis", "train", "annotations_train.json", "train"),
    ("ovis", "test", "annotations_test.json", "test"),
]


@pytest.mark.parametrize(("name", "split", "annotation", "images"), FORMS)
def test_read_every_form_of_every_release(tmp_path, body, name, split, annotation, images):
    source = require_source(name)
    (tmp_path / annotation).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / annotation).write_text(json.dumps(body))
    (item,) = source.scan(tmp_path, split)
    video = source.read(tmp_path, split, item)
    assert video.frame_paths[1] == tmp_path / images / "0043f083b5/00005.jpg"
    assert (video.record.dataset, video.record.split) == (name, split)
    assert video.record.label_space == source.label_space(tmp_path).name == source.spec.label_space_name


def test_read_2022_prefers_its_own_folder_to_that_of_2021(tmp_path, body):
    source = require_source("ytvis_2022")
    for folder in ("valid", "valid22"):
        (tmp_path / folder).mkdir()
        content = {**body, "videos": [{**body["videos"][0], "source": folder}]}
        (tmp_path / folder / "instances.json").write_text(json.dumps(content))
    (item,) = source.scan(tmp_path, "val")
    assert json.loads(source.read(tmp_path, "val", item).record.extra) == {"source": "valid22"}


def test_ovis_groups_are_its_own(tmp_path, body):
    source = require_source("ovis")
    (tmp_path / "annotations_valid.json").write_text(json.dumps(body))
    (item,) = source.scan(tmp_path, "val")
    record = source.read(tmp_path, "val", item).record
    assert (record.group, record.frames_per_second) == ("ovis:0043f083b5", None)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ytvis_2019", {"train": 2238, "val": 302, "test": 343}),
        ("ytvis_2021", {"train": 2985, "val": 421, "test": 453}),
        ("ovis", {"train": 607, "val": 140, "test": 154}),
    ],
)
def test_official_counts_are_those_of_the_releases(name, counts):
    assert {split: c.num_items for split, c in require_source(name).spec.counts.items()} == counts


def test_label_space_is_sorted_by_id(root, body):
    read_only(root, body)
    space = SOURCE.label_space(root)
    assert (space.names, space.label_of) == (("airplane", "person"), {1: 0, 26: 1})


def test_read_list_length_mismatch_is_e110(root, body):
    body["annotations"][0]["segmentations"].pop()
    expected = "12: annotation 5: segmentations has 2 entries, file_names=3"
    assert rejection(root, body) == ("E110", expected)


def test_read_stated_length_mismatch_is_e110(root, body):
    body["videos"][0]["length"] = 4
    assert rejection(root, body) == ("E110", "12: file_names has 3 entries, length=4")


def test_read_transposed_rle_is_e111(root, body):
    body["annotations"][0]["segmentations"][0]["size"] = [WIDTH, HEIGHT]
    expected = "12: annotation 5 frame 0: rle.size [6, 4], expected [4, 6]; looks transposed"
    assert rejection(root, body) == ("E111", expected)


def test_read_runs_that_do_not_sum_up_is_e112(root, body):
    body["annotations"][0]["segmentations"][0]["counts"] = [3, 4]
    expected = "12: annotation 5 frame 0: runs sum to 7, expected 4 x 6 = 24"
    assert rejection(root, body) == ("E112", expected)


def test_read_empty_mask_is_e113(root, body):
    body["annotations"][0]["segmentations"][0]["counts"] = [24]
    assert rejection(root, body) == ("E113", "12: annotation 5 frame 0: area 0")


@pytest.mark.parametrize("polygons", [[[1, 1, 2, 2]], [], ["abcdef"], [[[1, 2], [3, 4]]]])
def test_read_malformed_polygon_is_e117(root, body, polygons):
    body["annotations"][0]["segmentations"][0] = polygons
    assert rejection(root, body)[0] == "E117"


def test_read_track_of_unknown_video_is_e122(root, body):
    (root / "valid" / "instances.json").write_text(json.dumps({**body, "videos": []}))
    (item,) = SOURCE.scan(root, "val")
    with pytest.raises(ItemError, match="^E122 .*: 12: annotations of a video_id that videos"):
        SOURCE.read(root, "val", item)


@pytest.mark.parametrize("category_id", [41, "26", None, [26]])
def test_read_unknown_category_is_e123(root, body, category_id):
    body["annotations"][0]["category_id"] = category_id
    assert rejection(root, body) == ("E123", f"12: category_id {category_id} not in categories[]")


def test_read_file_name_outside_the_dataset_is_e190(root, body):
    body["videos"][0]["file_names"][1] = "../../x.jpg"
    assert rejection(root, body) == ("E190", "12: '../../x.jpg'; expected a path inside the dataset")


def test_read_missing_frame_is_e101(root, body):
    (root / "valid/JPEGImages/0043f083b5/00005.jpg").unlink()
    expected = "12/00005.jpg: 0043f083b5/00005.jpg not found; unpack the images completely"
    assert rejection(root, body) == ("E101", expected)


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"segmentations": None}, "TypeError: "), ({"segmentations": [1, 2, 3]}, "TypeError: ")],
)
def test_read_malformed_track_is_e100(root, body, changes, found):
    body["annotations"][0].update(changes)
    code, message = rejection(root, body)
    assert (code, message[: len(found) + 4]) == ("E100", f"12: {found}")


def test_scan_missing_file_raises(root):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: train/instances.json not found; expected the YouTube-VIS 2021 annotations; "
        "unpack the 2021 archives of train and valid there"
    )


def test_scan_repeated_annotation_id_raises(root, body):
    body["annotations"] *= 2
    assert "has a malformed entry (DuplicateIdError: id 5 twice)" in source_error(root, body)


def test_scan_malformed_categories_raises(root, body):
    body["categories"] = [{"id": 1}]
    assert "has malformed categories (KeyError: 'name')" in source_error(root, body)


def test_scan_categories_of_the_other_year_raise(root, body):
    read_only(root, body)
    (root / "train").mkdir()
    other = {**body, "categories": [{"id": 1, "name": "a longer name makes the larger of the two files" * 9}]}
    (root / "train" / "instances.json").write_text(json.dumps(other))
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: train/instances.json has categories that differ from the other split's; expected "
        "the YouTube-VIS 2021 annotations; unpack the 2021 archives of train and valid there"
    )
