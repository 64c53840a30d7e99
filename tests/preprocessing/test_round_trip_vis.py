"""Official JSON -> shard -> official JSON: YouTube-VIS, OVIS and BURST give back what was published.

What is written back is compared as a whole with what lies on disk: JSON by value, masks by pixel, frames by
byte.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.worlds import WorldConfig
from univs.schema import annotation_to_json, meta_to_json, record_from_json

CONFIG = MiniatureConfig(
    train_videos=3, val_videos=2, world=WorldConfig(height=48, width=64, num_frames=6, visitor_rate=1.0)
)
VIS_FILES = {
    "ytvis_2019": lambda folder: (f"{folder}.json", f"{folder}/JPEGImages"),
    "ytvis_2021": lambda folder: (f"{folder}/instances.json", f"{folder}/JPEGImages"),
    "ytvis_2022": lambda folder: (f"{folder}/instances.json", f"{folder}/JPEGImages"),
    "ovis": lambda folder: (f"annotations_{folder}.json", folder),
}
VIS_CASES = [
    (name, split)
    for name in VIS_FILES
    for split in ("train", "val")
    if (name, split) != ("ytvis_2022", "train")
]
FOLDERS = {"train": "train", "val": "valid"}
needs_samples = pytest.mark.skipif(
    "UNIVS_SAMPLES_DIR" not in os.environ, reason="needs UNIVS_SAMPLES_DIR: real samples"
)


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    root = tmp_path_factory.mktemp("miniatures")

    def get(name):
        return build(root, CONFIG, [name])[name]

    return get


@pytest.fixture
def samples():
    return Path(os.environ["UNIVS_SAMPLES_DIR"])


def load(path):
    return json.loads(Path(path).read_bytes())


def extra_of(part):
    return json.loads(part.extra or "{}")


def decode(counts, record):
    rle = {"size": [record.height, record.width], "counts": counts.encode()}
    return coco_mask.decode(rle).astype(np.bool_)


def stored(source, root, split, item):
    """Give a record as a shard holds it, without its frames."""
    record = source.read(root, split, item).record
    return record_from_json(meta_to_json(record), annotation_to_json(record))


def decode_official(segmentation, height, width):
    """Decode run lengths of either form, or polygons, with the COCO API alone."""
    if isinstance(segmentation, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation).astype(np.bool_)


def tight_box(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


def vis_video(record):
    extra = {name: value for name, value in extra_of(record).items() if name != "left_out"}
    return {
        "id": int(record.item_id),
        "width": record.width,
        "height": record.height,
        "length": record.num_frames,
        "file_names": [frame.name for frame in record.frames],
        **extra,
    }


def vis_track(record, track):
    masks = [None if rle is None else decode(rle, record) for rle in track.rles]
    return masks, {
        "id": int(track.source_id),
        "video_id": int(record.item_id),
        "category_id": track.category_id,
        "iscrowd": int(track.is_crowd),
        "width": record.width,
        "height": record.height,
        "length": record.num_frames,
        "bboxes": [None if box is None else list(box) for box in track.boxes]
        or [None if mask is None else tight_box(mask) for mask in masks],
        "areas": list(track.areas) or [None if mask is None else mask.sum() for mask in masks],
        **extra_of(track),
    }


def assert_vis_equal(records, official):
    """Compare videos and tracks with the official body; fields it leaves out are not asked for."""
    videos = {str(video["id"]): video for video in official["videos"]}
    assert records.keys() == videos.keys()
    annotations = {entry["id"]: entry for entry in official["annotations"]}
    for item_id, record in records.items():
        rebuilt = vis_video(record)
        assert rebuilt == {name: videos[item_id].get(name, value) for name, value in rebuilt.items()}
        assert videos[item_id].keys() <= rebuilt.keys()
        for entry in extra_of(record).get("left_out", []):
            assert entry == annotations.pop(entry["id"])
        for track in record.objects:
            masks, rebuilt = vis_track(record, track)
            entry = annotations.pop(rebuilt["id"])
            official_masks = entry.pop("segmentations")
            assert rebuilt == {name: entry.get(name, value) for name, value in rebuilt.items()}
            assert entry.keys() <= rebuilt.keys()
            for mask, segmentation in zip(masks, official_masks, strict=True):
                assert (mask is None) == (segmentation is None)
                if mask is not None:
                    expected = decode_official(segmentation, record.height, record.width)
                    np.testing.assert_array_equal(mask, expected)
    assert not annotations


@pytest.mark.parametrize(("name", "split"), VIS_CASES)
def test_vis_miniature_comes_back(miniatures, packed_items, name, split):
    source, root = require_source(name), miniatures(name)
    items = packed_items(source, root, split)
    annotation, images = VIS_FILES[name](FOLDERS[split])
    official = load(root / annotation)
    assert_vis_equal({item_id: item.record for item_id, item in items.items()}, official)
    for item in items.values():
        for frame, content in zip(item.record.frames, item.frame_bytes, strict=True):
            assert (root / images / frame.name).read_bytes() == content
    space = source.label_space(root)
    assert [(c["id"], c["name"]) for c in official["categories"]] == [
        (c.category_id, c.name) for c in space.categories
    ]


def vis_records(tmp_path, body, name="ytvis_2021"):
    source = require_source(name)
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid/instances.json").write_text(json.dumps(body))
    return {item.item_id: stored(source, tmp_path, "val", item) for item in source.scan(tmp_path, "val")}


@needs_samples
def test_real_vis_fragment_comes_back(samples, tmp_path):
    """One real annotated frame of a YouTube-VIS video, as the mmtracking tests keep it."""
    fragment = load(samples / "ytvis_fragment_mmtracking/ann.json")
    image, annotation = fragment["images"][0], fragment["annotations"][0]
    size = {"width": image["width"], "height": image["height"]}
    body = {
        "videos": [{"id": 1, **size, "length": 1, "file_names": [image["file_name"]]}],
        "categories": fragment["categories"],
        "annotations": [
            {
                **{name: annotation[name] for name in ("id", "video_id", "category_id", "instance_id")},
                "segmentations": [annotation["segmentation"]],
                "bboxes": [annotation["bbox"]],
                "areas": [annotation.get("area")],
            }
        ],
    }
    records = vis_records(tmp_path, body)
    (record,) = records.values()
    assert (record.group, len(record.objects)) == ("ytvos:0043f083b5", 1)
    assert_vis_equal(records, body)


@needs_samples
def test_real_long_compressed_tracks_come_back(samples, tmp_path):
    """Predicted tracks of a whole video with boxes and areas; empty masks there mean not visible."""
    tracks = load(samples / "ytvis_style_saco_veval/saco_veval_sav_test_pred.json")[:3]
    height, width = tracks[0]["segmentations"][0]["size"]
    for number, track in enumerate(tracks, start=1):
        track["segmentations"] = track["segmentations"][:60]
        shown = [coco_mask.area(rle) > 0 for rle in track["segmentations"]]
        for field in ("segmentations", "bboxes", "areas"):
            track[field] = [v if seen else None for v, seen in zip(track[field][:60], shown, strict=True)]
        track["id"] = number
    names = [f"sav/{index:05d}.jpg" for index in range(60)]
    categories = sorted({track["category_id"] for track in tracks})
    body = {
        "videos": [{"id": 0, "width": width, "height": height, "length": 60, "file_names": names}],
        "categories": [{"id": i, "name": f"class {i}"} for i in categories],
        "annotations": tracks,
    }
    records = vis_records(tmp_path, body)
    assert sum(len(record.objects) for record in records.values()) + len(
        extra_of(records["0"]).get("left_out", [])
    ) == len(tracks)
    assert_vis_equal(records, body)


@needs_samples
@pytest.mark.parametrize(
    ("name", "table", "place"),
    [
        ("ytvis_2019", "ytvis2019_categories_40.json", "valid.json"),
        ("ytvis_2021", "ytvis2021_categories_40.json", "valid.json"),
        ("ovis", "ovis_categories_25.json", "annotations_valid.json"),
    ],
)
def test_real_vis_categories_come_back(samples, tmp_path, name, table, place):
    categories = load(samples / "categories" / table)
    (tmp_path / place).write_text(json.dumps({"videos": [], "categories": categories}))
    space = require_source(name).label_space(tmp_path)
    assert [(c.category_id, c.name) for c in space.categories] == [(c["id"], c["name"]) for c in categories]


# BURST


def burst_sequence(record):
    extra = {name: value for name, value in extra_of(record).items() if name != "left_out"}
    dataset, name = record.item_id.split("/")
    annotated = [frame.name for frame in record.frames]
    segmentations = [{} for _ in record.frames]
    for track in record.objects:
        fields = extra_of(track)
        for index, rle in enumerate(track.rles):
            if rle is not None:
                others = {name: values[index] for name, values in fields.items()}
                segmentations[index][track.source_id] = {
                    "rle": rle,
                    **{name: value for name, value in others.items() if value is not None},
                }
    return {
        "seq_name": name,
        "dataset": dataset,
        "width": record.width,
        "height": record.height,
        "all_image_paths": annotated,
        "annotated_image_paths": annotated,
        "neg_category_ids": list(record.completeness.negative_category_ids),
        "not_exhaustive_category_ids": list(record.completeness.not_exhaustive_category_ids),
        "track_category_ids": {
            **{track.source_id: track.category_id for track in record.objects},
            **extra_of(record).get("left_out", {}),
        },
        "segmentations": segmentations,
        **extra,
    }


def first_frames(record):
    """Write the prompts back into the masks that they stand beside."""
    rebuilt = burst_sequence(record)
    kept = [{} for _ in record.frames]
    fields = {"mask": None, "box": "bbox", "point": "point"}
    for prompt in record.prompts:
        source_id = record.objects[prompt.object_id - 1].source_id
        body = rebuilt["segmentations"][prompt.frame_index][source_id]
        kept[prompt.frame_index][source_id] = body
        if fields[prompt.kind]:
            body[fields[prompt.kind]] = list(prompt.coordinates)
    return {**rebuilt, "segmentations": kept}


@pytest.mark.parametrize("split", ["train", "val"])
def test_burst_miniature_comes_back(miniatures, packed_items, split):
    source, root = require_source("burst"), miniatures("burst")
    items = packed_items(source, root, split)
    official = {f"{s['dataset']}/{s['seq_name']}": s for s in load_burst(root, split, "all_classes")}
    assert {item_id: burst_sequence(item.record) for item_id, item in items.items()} == official
    for item_id, item in items.items():
        for frame, content in zip(item.record.frames, item.frame_bytes, strict=True):
            assert (root / "frames" / split / item_id / frame.name).read_bytes() == content


def test_burst_first_frame_annotations_come_back(miniatures, packed_records):
    source, root = require_source("burst"), miniatures("burst")
    rebuilt = [first_frames(record) for record in packed_records(source, root, "val").values()]
    official = load_burst(root, "val", "first_frame_annotations")
    assert sorted(rebuilt, key=lambda s: s["id"]) == official
    assert all(any(frames) for frames in (s["segmentations"] for s in official))


def load_burst(root, split, name):
    return load(root / f"annotations/{split}/{name}.json")["sequences"]
