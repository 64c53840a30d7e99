import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from univs.draw import palette
from univs.evaluation.submissions.files import zip_submission
from univs.evaluation.submissions.maps import (
    write_ade20k_map,
    write_coco_image,
    write_coco_index,
    write_semantic_maps,
    write_vipseg_index,
    write_vipseg_video,
)
from univs.evaluation.submissions.masks import (
    write_expression_masks,
    write_object_masks,
    youtube_vos_palette,
)
from univs.evaluation.submissions.tracks import (
    burst_of_objects,
    burst_of_tracks,
    write_burst_results,
    write_coco_results,
    write_ytvis_results,
)
from univs.labels import Category, LabelSpace
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)

LABELS = LabelSpace(
    name="small",
    categories=(
        Category(category_id=4, name="cat", is_thing=True),
        Category(category_id=9, name="grass", is_thing=False),
    ),
)
STEMS = ("00000", "00005")


def _panoptic(video_id="seq"):
    maps = np.zeros((2, 6, 8), np.int32)
    maps[:, 1:4, 2:7] = 70001
    maps[0, 4:] = 2
    segments = (Segment(segment_id=70001, label=0), Segment(segment_id=2, label=1))
    return PanopticVideo(video_id=video_id, maps=maps, segments=segments)


def _objects():
    masks = np.random.default_rng(0).random((2, 2, 6, 8)) < 0.4
    return ObjectVideo(video_id="seq", object_ids=("3", "1"), masks=masks, frame_names=STEMS)


def _ids(path):
    pixels = np.asarray(Image.open(path)).astype(np.int64)
    assert pixels.shape[2] == 3
    return pixels @ np.asarray((1, 256, 65536))


def _json(path):
    return json.loads(path.read_text())


def _files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_ytvis_results_read_back_as_the_same_masks(tmp_path):
    mask = np.zeros((6, 8), np.uint8, order="F")
    mask[2:5, 1:7] = 1
    rle = coco_mask.encode(mask)["counts"].decode()
    track = InstanceTrack(label=0, score=0.25, rles=(rle, None))
    videos = [InstanceVideo(video_id="12", height=6, width=8, tracks=(track,))]
    write_ytvis_results(tmp_path / "deep/results.json", videos, LABELS)
    (row,) = _json(tmp_path / "deep/results.json")
    assert (row["video_id"], row["category_id"], row["score"]) == (12, 4, 0.25)
    assert row["segmentations"][1] is None
    assert (coco_mask.decode(row["segmentations"][0]) == mask).all()


def test_ytvis_results_take_official_numbers_of_named_videos(tmp_path):
    track = InstanceTrack(label=0, score=1.0, rles=(None,))
    videos = [InstanceVideo(video_id="00f88", height=6, width=8, tracks=(track,))]
    write_ytvis_results(tmp_path / "results.json", videos, LABELS, {"00f88": 7})
    assert _json(tmp_path / "results.json")[0]["video_id"] == 7
    with pytest.raises(ValueError, match="official number"):
        write_ytvis_results(tmp_path / "other.json", videos, LABELS)
    assert _files(tmp_path) == ["results.json"]


def test_object_masks_are_palette_pngs_of_official_ids(tmp_path):
    video = _objects()
    write_object_masks(tmp_path, video)
    assert _files(tmp_path) == ["seq/00000.png", "seq/00005.png"]
    for t, name in enumerate(STEMS):
        image = Image.open(tmp_path / f"seq/{name}.png")
        assert image.mode == "P"
        assert image.getpalette()[:12] == palette()[:4].ravel().tolist()
        first, second = video.masks[:, t]
        assert (np.asarray(image) == np.where(first, 3, np.where(second, 1, 0))).all()


@pytest.mark.parametrize("name", ["cat", "0", "256"])
def test_object_masks_of_an_id_that_is_no_pixel_value_raise(tmp_path, name):
    with pytest.raises(ValueError, match=r"1\.\.255"):
        write_object_masks(tmp_path, replace(_objects(), object_ids=("1", name)))


def test_expression_masks_are_one_black_and_white_tree_per_expression(tmp_path):
    video = _objects()
    write_expression_masks(tmp_path, video)
    assert len(_files(tmp_path)) == 4
    for n, name in enumerate(video.object_ids):
        for t, stem in enumerate(STEMS):
            pixels = np.asarray(Image.open(tmp_path / f"Annotations/seq/{name}/{stem}.png"))
            assert pixels.dtype == np.uint8
            assert (pixels == 255 * video.masks[n, t]).all()


def test_vipseg_files_read_back_as_the_same_video(tmp_path):
    video = _panoptic()
    other = write_vipseg_video(tmp_path, replace(video, video_id="later"), STEMS, LABELS)
    entry = write_vipseg_video(tmp_path, video, STEMS, LABELS)
    write_vipseg_index(tmp_path, [entry, other])
    first, second = _json(tmp_path / "pred.json")["annotations"]
    assert (first["video_id"], second["video_id"]) == ("later", "seq")
    for t, frame in enumerate(second["annotations"]):
        assert (_ids(tmp_path / "pan_pred/seq" / frame["file_name"]) == video.maps[t]).all()
    assert [frame["file_name"] for frame in second["annotations"]] == ["00000.png", "00005.png"]
    assert second["annotations"][0]["segments_info"] == [
        {"id": 70001, "category_id": 4, "iscrowd": 0, "area": 15, "bbox": [2, 1, 5, 3]},
        {"id": 2, "category_id": 9, "iscrowd": 0, "area": 16, "bbox": [0, 4, 8, 2]},
    ]
    assert [info["id"] for info in second["annotations"][1]["segments_info"]] == [70001]


def test_semantic_maps_hold_labels_counted_from_zero(tmp_path):
    labels = np.random.default_rng(0).integers(0, 124, (2, 6, 8)).astype(np.int16)
    write_semantic_maps(tmp_path, SemanticVideo(video_id="seq", labels=labels), STEMS)
    for t, stem in enumerate(STEMS):
        image = Image.open(tmp_path / f"seq/{stem}.png")
        assert image.mode == "L"
        assert (np.asarray(image) == labels[t]).all()


def test_coco_files_read_back_as_the_same_image(tmp_path):
    image = replace(_panoptic("139"), maps=_panoptic().maps[:1])
    write_coco_index(tmp_path, [write_coco_image(tmp_path, image, LABELS)])
    (row,) = _json(tmp_path / "panoptic.json")["annotations"]
    assert (row["image_id"], row["file_name"]) == (139, "000000000139.png")
    assert {info["id"]: info["category_id"] for info in row["segments_info"]} == {70001: 4, 2: 9}
    assert (_ids(tmp_path / "panoptic" / row["file_name"]) == image.maps[0]).all()


def test_frame_names_that_do_not_fit_raise_and_write_nothing(tmp_path):
    with pytest.raises(ValueError, match="1 frame names for 2 frames"):
        write_vipseg_video(tmp_path, _panoptic(), STEMS[:1], LABELS)
    video = SemanticVideo(video_id="seq", labels=np.zeros((2, 4, 4), np.int16))
    with pytest.raises(ValueError, match="3 frame names for 2 frames"):
        write_semantic_maps(tmp_path, video, (*STEMS, "x"))
    assert _files(tmp_path) == []


@pytest.mark.parametrize("video_id", ["../up", "a/b", "..", ""])
def test_names_from_data_never_leave_the_folder(tmp_path, video_id):
    root = tmp_path / "root"
    with pytest.raises(ValueError, match="plain name"):
        write_object_masks(root, replace(_objects(), video_id=video_id))
    assert _files(tmp_path) == []


def test_zip_holds_every_file_and_is_the_same_every_time(tmp_path):
    write_object_masks(tmp_path / "tree", _objects())
    zip_submission(tmp_path / "a.zip", tmp_path / "tree")
    zip_submission(tmp_path / "b.zip", tmp_path / "tree")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["seq/00000.png", "seq/00005.png"]
        assert archive.read("seq/00000.png") == (tmp_path / "tree/seq/00000.png").read_bytes()


def test_object_masks_carry_the_palette_they_are_given(tmp_path):
    write_object_masks(tmp_path, _objects(), youtube_vos_palette())
    colors = Image.open(tmp_path / "seq/00000.png").getpalette()
    assert colors[:6] == [0, 0, 0, 0xEC, 0x5F, 0x67]
    assert colors[3 * 10 : 3 * 12] == [0x65, 0x73, 0x7E, 11, 11, 11]


def test_ade20k_map_holds_classes_counted_from_one(tmp_path):
    labels = np.random.default_rng(0).integers(0, 150, (1, 6, 8)).astype(np.int16)
    write_ade20k_map(tmp_path, SemanticVideo(video_id="x", labels=labels), "ADE_test_00000001")
    pixels = np.asarray(Image.open(tmp_path / "ADE_test_00000001.png"))
    assert (pixels == labels[0] + 1).all()


@pytest.mark.parametrize("value", [-1, 256])
def test_class_that_does_not_fit_a_png_is_refused(tmp_path, value):
    video = SemanticVideo(video_id="seq", labels=np.full((1, 4, 4), value, np.int16))
    with pytest.raises(ValueError, match=rf"^video 'seq': classes {value}..{value}, expected 0..255"):
        write_semantic_maps(tmp_path, video, STEMS[:1])
    assert _files(tmp_path) == []


def test_coco_results_read_back_as_the_same_masks(tmp_path):
    mask = np.random.default_rng(0).random((6, 8)) < 0.4
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    tracks = (InstanceTrack(label=1, score=0.5, rles=(rle,)), InstanceTrack(label=0, score=0.1, rles=(None,)))
    image = InstanceVideo(video_id="000000000139", height=6, width=8, tracks=tracks)
    write_coco_results(tmp_path / "results.json", [image], LABELS)
    (row,) = _json(tmp_path / "results.json")
    assert (row["image_id"], row["category_id"], row["score"]) == (139, 9, 0.5)
    assert (coco_mask.decode(row["segmentation"]) == mask).all()


def test_burst_results_hold_masks_by_track_and_frame(tmp_path):
    objects = replace(_objects(), video_id="LaSOT/cat-1", frame_names=("a.jpg", "b.jpg"))
    mask = coco_mask.encode(np.asfortranarray(objects.masks[0, 0], np.uint8))["counts"].decode()
    track = InstanceTrack(label=1, score=0.25, rles=(None, mask))
    found = InstanceVideo(video_id="AVA/x", height=6, width=8, tracks=(track,))
    sequences = [
        burst_of_objects(objects, objects.frame_names, {"3": 12, "1": 81}),
        burst_of_tracks(found, ("a.jpg", "b.jpg"), LABELS),
    ]
    write_burst_results(tmp_path / "results.json", sequences, "test")
    body = _json(tmp_path / "results.json")
    assert body["split"] == "test"
    first, second = body["sequences"]
    assert (first["dataset"], first["seq_name"], first["track_category_ids"]) == ("AVA", "x", {"1": 9})
    assert first["segmentations"] == [{}, {"1": {"rle": mask, "score": 0.25}}]
    assert second["track_category_ids"] == {"3": 12, "1": 81}
    for t, frame in enumerate(second["segmentations"]):
        for n, name in enumerate(objects.object_ids):
            decoded = coco_mask.decode({"size": [6, 8], "counts": frame[name]["rle"].encode()})
            assert (decoded == objects.masks[n, t]).all()


def test_failed_write_leaves_no_file(tmp_path):
    track = InstanceTrack(label=0, score=float("nan"), rles=(None,))
    video = InstanceVideo(video_id="1", height=6, width=8, tracks=(track,))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_ytvis_results(tmp_path / "results.json", [video], LABELS)
    assert _files(tmp_path) == []
