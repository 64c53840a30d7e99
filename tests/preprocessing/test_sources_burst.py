import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask, encode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate
from univs.label_spaces import builtin_spaces
from univs.schema import Completeness, OfficialPrompt

SOURCE = require_source("burst")
HEIGHT, WIDTH = 4, 6
NAME = "YFCC100M/v_25685519"
SQUARE = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
SQUARE[1:3, 2:5] = True


def mask_of(mask, **fields):
    return {"rle": encode_mask(mask), "is_gt": True, **fields}


@pytest.fixture
def sequence():
    names = [f"frame{index:04d}.jpg" for index in range(1, 62, 10)]
    return {
        "id": 7,
        "seq_name": "v_25685519",
        "dataset": "YFCC100M",
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 30,
        "all_image_paths": names,
        "annotated_image_paths": names[::3],
        "neg_category_ids": [35],
        "not_exhaustive_category_ids": [805, 4],
        "track_category_ids": {"10": 805, "2": 4},
        "segmentations": [
            {"2": mask_of(SQUARE)},
            {"10": mask_of(~SQUARE, is_gt=False, score=0.5), "2": mask_of(SQUARE)},
            {"10": mask_of(SQUARE, is_gt=False, score=0.25)},
        ],
    }


@pytest.fixture(params=["val", "train"])
def split(request):
    return request.param


@pytest.fixture
def root(tmp_path, split):
    folder = tmp_path / "frames" / split / NAME
    folder.mkdir(parents=True)
    for index in range(1, 62, 10):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"frame{index:04d}.jpg")
    return tmp_path


CATEGORIES = [{"id": 805, "name": "person"}, {"id": 4, "name": "airplane"}, {"id": 35, "name": "apple"}]


def write(root, split, sequences, name="all_classes.json", place="annotations"):
    (root / place / split).mkdir(parents=True, exist_ok=True)
    body = {"sequences": sequences, "categories": CATEGORIES, "split": split}
    (root / place / split / name).write_text(json.dumps(body))


def read_only(root, split, sequence):
    write(root, split, [sequence])
    (item,) = SOURCE.scan(root, split)
    return SOURCE.read(root, split, item)


def rejection(root, split, sequence):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root, split, sequence))
    return caught.value.code, caught.value.message, caught.value.pointer


only_val = pytest.mark.parametrize("split", ["val"], indirect=True)


def test_read_tracks_are_sorted_by_number_and_masks_exact(root, split, sequence):
    record = validate(read_only(root, split, sequence)).record
    assert [(t.object_id, t.source_id, t.category_id) for t in record.objects] == [
        (1, "2", 4),
        (2, "10", 805),
    ]
    np.testing.assert_array_equal(decode_mask(record.objects[1].rles[1], HEIGHT, WIDTH), ~SQUARE)
    assert (record.item_id, record.group, record.label_space) == (NAME, f"tao:{NAME}", "burst")
    assert [frame.name for frame in record.frames] == ["frame0001.jpg", "frame0031.jpg", "frame0061.jpg"]


def test_read_missing_track_is_absent_in_val_and_unknown_in_train(root, split, sequence):
    record = read_only(root, split, sequence).record
    expected = {"val": ["VVA", "AVV"], "train": ["VVU", "UVV"]}[split]
    assert [track.states for track in record.objects] == expected


@only_val
def test_read_federated_completeness_and_rate(root, split, sequence):
    record = read_only(root, split, sequence).record
    assert record.completeness == Completeness(
        is_federated=True, negative_category_ids=(35,), not_exhaustive_category_ids=(805, 4)
    )
    assert record.frames_per_second == 10.0


@only_val
def test_read_unevenly_annotated_frames_have_no_rate(root, split, sequence):
    sequence["all_image_paths"].remove("frame0021.jpg")
    assert read_only(root, split, sequence).record.frames_per_second is None


@only_val
def test_read_other_fields_are_kept(root, split, sequence):
    record = read_only(root, split, sequence).record
    assert json.loads(record.extra) == {"id": 7, "fps": 30, "all_image_paths": sequence["all_image_paths"]}
    assert [json.loads(track.extra) for track in record.objects] == [
        {"is_gt": [True, True, None]},
        {"is_gt": [None, False, False], "score": [None, 0.5, 0.25]},
    ]


@only_val
def test_read_first_frame_annotations_become_prompts(root, split, sequence):
    first = {
        **sequence,
        "segmentations": [
            {"2": {**mask_of(SQUARE), "bbox": [2, 1, 3, 2], "point": [3, 1]}},
            {"10": {**mask_of(~SQUARE), "bbox": [0, 0, 6, 4], "point": [0, 0]}},
            {},
        ],
    }
    write(root, split, [first], "first_frame_annotations.json")
    record = validate(read_only(root, split, sequence)).record
    assert record.prompts == (
        OfficialPrompt(kind="mask", object_id=1, frame_index=0),
        OfficialPrompt(kind="box", object_id=1, frame_index=0, coordinates=(2, 1, 3, 2)),
        OfficialPrompt(kind="point", object_id=1, frame_index=0, coordinates=(3, 1)),
        OfficialPrompt(kind="mask", object_id=2, frame_index=1),
        OfficialPrompt(kind="box", object_id=2, frame_index=1, coordinates=(0, 0, 6, 4)),
        OfficialPrompt(kind="point", object_id=2, frame_index=1, coordinates=(0, 0)),
    )


@only_val
@pytest.mark.parametrize(("row", "track"), [(2, "2"), (0, "10"), (1, "3")])
def test_read_first_frame_of_another_mask_is_e144(root, split, sequence, row, track):
    frames = [{}, {}, {}]
    frames[row] = {track: mask_of(SQUARE)}
    write(root, split, [{**sequence, "segmentations": frames}], "first_frame_annotations.json")
    name = sequence["annotated_image_paths"][row]
    assert rejection(root, split, sequence) == (
        "E144",
        f"{NAME}: first-frame mask of track {track} in {name} is not its mask there",
        f"/sequences/0/segmentations/{row}/{track}/rle",
    )


@only_val
def test_read_withdrawn_clip_is_e101(root, split, sequence):
    sequence["seq_name"] = "gone"
    assert rejection(root, split, sequence)[:2] == (
        "E101",
        "YFCC100M/gone: no folder frames/val/YFCC100M/gone; its source has withdrawn the clip, or it is not "
        "unpacked",
    )


@only_val
def test_read_track_that_is_never_visible_is_left_out_with_a_finding(root, split, sequence):
    sequence["track_category_ids"]["3"] = 35
    video = read_only(root, split, sequence)
    assert [track.source_id for track in video.record.objects] == ["2", "10"]
    (finding,) = video.findings
    assert (finding.code, finding.message) == ("W138", f"{NAME}: track 3 is never visible, left out")
    assert (finding.file, finding.pointer) == (
        "annotations/val/all_classes.json",
        "/sequences/0/track_category_ids/3",
    )
    assert json.loads(video.record.extra)["left_out"] == {"3": 35}


@only_val
def test_read_masks_of_another_number_of_frames_is_e110(root, split, sequence):
    sequence["segmentations"].pop()
    assert rejection(root, split, sequence) == (
        "E110",
        f"{NAME}: segmentations has 2 entries, annotated_image_paths=3",
        "/sequences/0/segmentations",
    )


@only_val
def test_read_mask_of_an_unlisted_track_is_e122(root, split, sequence):
    sequence["segmentations"][1]["4"] = mask_of(SQUARE)
    assert rejection(root, split, sequence) == (
        "E122",
        f"{NAME}: frame 1 has track 4, which track_category_ids does not list",
        "/sequences/0/segmentations/1/4",
    )


@only_val
@pytest.mark.parametrize("category_id", [36, "4", None])
def test_read_unknown_category_is_e123(root, split, sequence, category_id):
    sequence["track_category_ids"]["2"] = category_id
    assert rejection(root, split, sequence) == (
        "E123",
        f"{NAME}: track 2 has category_id {category_id}, not in categories[]",
        "/sequences/0/track_category_ids/2",
    )


@only_val
@pytest.mark.parametrize(
    ("rle", "code", "found"),
    [
        (None, "E112", "rle is NoneType, expected text"),
        (encode_mask(SQUARE[:, :-1]), "E112", "runs sum to 20, expected 4 x 6 = 24"),
        (encode_mask(np.zeros_like(SQUARE)), "E113", "area 0"),
    ],
)
def test_read_bad_mask_is_rejected_with_its_place(root, split, sequence, rle, code, found):
    sequence["segmentations"][2]["10"]["rle"] = rle
    assert rejection(root, split, sequence) == (
        code,
        f"{NAME}: track 10 frame 2: {found}",
        "/sequences/0/segmentations/2/10/rle",
    )


@only_val
@pytest.mark.parametrize("field", ["segmentations", "width", "fps", "neg_category_ids", "track_category_ids"])
def test_read_missing_field_is_e100(root, split, sequence, field):
    del sequence[field]
    assert rejection(root, split, sequence)[:2] == ("E100", f"{NAME}: KeyError: '{field}'")


@only_val
def test_read_unsafe_names_are_e190(root, split, sequence):
    sequence["annotated_image_paths"][0] = "../../../x.jpg"
    assert rejection(root, split, sequence)[:2] == (
        "E190",
        f"{NAME}: '../../../x.jpg'; expected a path inside the dataset",
    )
    sequence["dataset"] = "../.."
    assert rejection(root, split, sequence)[0] == "E190"


@only_val
def test_scan_annotations_beside_the_frames(root, split, sequence):
    write(root, split, [sequence], place="")
    assert [item.item_id for item in SOURCE.scan(root, split)] == [NAME]


@only_val
def test_scan_repeated_sequence_raises(root, split, sequence):
    write(root, split, [sequence, sequence])
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, split))
    assert str(caught.value) == (
        f"--source {root}: annotations/val/all_classes.json has a malformed entry (DuplicateIdError: "
        f"sequence {NAME} twice); expected the BURST annotations; unpack BURST's annotations.zip in "
        "annotations/"
    )


@only_val
def test_scan_missing_annotations_raises(root, split):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, split))
    assert str(caught.value) == (
        f"--source {root}: annotations/val/all_classes.json not found; expected the BURST annotations; "
        "unpack BURST's annotations.zip in annotations/"
    )


@pytest.mark.skipif("UNIVS_SAMPLES_DIR" not in os.environ, reason="needs UNIVS_SAMPLES_DIR: real samples")
@pytest.mark.parametrize(
    ("table", "size"), [("burst_categories_482.json", 482), ("tao_burst_categories.json", 1230)]
)
def test_label_space_of_the_real_categories(tmp_path, table, size):
    path = Path(os.environ["UNIVS_SAMPLES_DIR"]) / "categories" / table
    categories = json.loads(path.read_bytes())
    (tmp_path / "annotations/val").mkdir(parents=True)
    body = {"sequences": [], "categories": categories, "split": "val"}
    (tmp_path / "annotations/val/all_classes.json").write_text(json.dumps(body))
    space = SOURCE.label_space(tmp_path)
    assert len(space.names) == size
    assert dict(zip(space.label_of, space.names, strict=True)) == {c["id"]: c["name"] for c in categories}
    lvis_v1 = builtin_spaces()["lvis"].labels
    shared = space.label_of.keys() & lvis_v1.label_of.keys()
    differing = [i for i in shared if space.names[space.label_of[i]] != lvis_v1.names[lvis_v1.label_of[i]]]
    assert differing  # the ids are those of LVIS v0.5, never to be read with the table of v1
