"""Official files -> shard -> official files: what video object segmentation publishes comes back.

Label images are compared by pixel, texts by character, ``meta.json`` by value, frames by byte.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.errors import ItemError
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.sources.davis_text import TEXT_SETS
from preprocessing.worlds import WorldConfig
from univs.schema import annotation_to_json, meta_to_json, record_from_json

CONFIG = MiniatureConfig(
    train_videos=3,
    val_videos=6,
    world=WorldConfig(height=48, width=64, num_frames=8, min_objects=3, visitor_rate=1.0),
)
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


def paint(record, index, values=None):
    """Paint one frame as its label PNG has it; ``values`` maps source ids to pixel values."""
    canvas = np.zeros((record.height, record.width), dtype=np.uint8)
    for track in record.objects:
        if track.rles[index] is not None:
            value = int(track.source_id)
            canvas[decode(track.rles[index], record)] = (values or {}).get(value, value)
    for region in record.regions:
        if region.rles[index] is not None:
            canvas[decode(region.rles[index], record)] = 255
    return canvas


def assert_labels_equal(record, folder, values=None):
    """Compare every frame with its PNG, and those without one with not being labelled."""
    stems = {path.stem for path in folder.iterdir()}
    assert {frame.stem for frame in record.frames if frame.labelled} == stems
    for index, frame in enumerate(record.frames):
        if frame.labelled:
            with Image.open(folder / f"{frame.stem}.png") as image:
                np.testing.assert_array_equal(paint(record, index, values), np.asarray(image))


LABELS = {
    "ytvos_2018": "{folder}/Annotations",
    "ytvos_2019": "{folder}/Annotations",
    "refytvos": "{folder}/Annotations",
    "mose": "{folder}/Annotations",
    "davis_2016": "Annotations/480p",
    "davis_2017": "Annotations/480p",
    "refdavis": "Annotations/480p",
}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", LABELS)
def test_label_images_of_miniatures_come_back(miniatures, packed_items, name, split):
    root = miniatures(name)
    labels = root / LABELS[name].format(folder=FOLDERS[split])
    values = {1: 255} if name == "davis_2016" else None
    for item_id, item in packed_items(require_source(name), root, split).items():
        assert_labels_equal(item.record, labels / item_id, values)
        images = Path(str(labels).replace("Annotations", "JPEGImages")) / item_id
        for frame, content in zip(item.record.frames, item.frame_bytes, strict=True):
            assert (images / frame.name).read_bytes() == content


@pytest.mark.parametrize("name", ["ytvos_2018", "ytvos_2019", "mose"])
def test_first_masks_of_a_public_validation_set_come_back(miniatures, packed_records, tmp_path, name):
    """Published as on the server: PNGs only of frames in which some object first appears."""
    source, full = require_source(name), miniatures(name)
    folder = tmp_path / "valid"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").symlink_to(full / "valid/JPEGImages")
    if name != "mose":
        (folder / "meta.json").symlink_to(full / "valid/meta.json")
    shown = packed_records(source, full, "val")
    has_newcomer = any(prompt.frame_index for record in shown.values() for prompt in record.prompts)
    assert has_newcomer == (name != "mose")
    for item_id, record in shown.items():
        (folder / "Annotations" / item_id).mkdir()
        for frame in {prompt.frame_index for prompt in record.prompts}:
            label = f"Annotations/{item_id}/{record.frames[frame].stem}.png"
            (folder / label).symlink_to(full / "valid" / label)
    for item_id, record in packed_records(source, tmp_path, "val").items():
        assert record.ground_truth == "first_frame"
        assert not any("A" in track.states for track in record.objects)
        assert_labels_equal(record, folder / "Annotations" / item_id)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", ["ytvos_2018", "refytvos"])
def test_meta_json_of_miniatures_comes_back(miniatures, packed_records, name, split):
    root = miniatures(name)
    videos = {}
    for item_id, record in packed_records(require_source(name), root, split).items():
        objects = {track.source_id: extra_of(track) for track in record.objects}
        videos[item_id] = {"objects": {**objects, **extra_of(record).get("left_out", {})}}
    assert {"videos": videos} == load(root / FOLDERS[split] / "meta.json")


def expressions_body(records):
    videos = {}
    for item_id, record in records.items():
        source_ids = {track.object_id: track.source_id for track in record.objects}
        videos[item_id] = {
            "expressions": {
                e.expression_id: {
                    "exp": e.text,
                    **({"obj_id": source_ids[i]} if (i := sum(e.object_ids)) else {}),
                }
                for e in record.expressions
            },
            "frames": [frame.stem for frame in record.frames],
        }
    return {"videos": videos}


@pytest.mark.parametrize("split", ["train", "val"])
def test_expressions_of_the_miniature_come_back(miniatures, packed_records, split):
    root = miniatures("refytvos")
    records = packed_records(require_source("refytvos"), root, split)
    assert expressions_body(records) == load(
        root / f"meta_expressions/{FOLDERS[split]}/meta_expressions.json"
    )


@needs_samples
def test_real_expressions_come_back(samples, tmp_path):
    """Half of the real validation list: the texts are real, the pictures only lend their size."""
    source = require_source("refytvos")
    (tmp_path / "meta_expressions").symlink_to(samples / "ytbvos/meta_expressions")
    official = load(tmp_path / "meta_expressions/valid/meta_expressions.json")
    for name, video in official["videos"].items():
        path = tmp_path / f"valid/JPEGImages/{name}/{video['frames'][0]}.jpg"
        path.parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(path)
    records = {item.item_id: stored(source, tmp_path, "val", item) for item in source.scan(tmp_path, "val")}
    assert expressions_body(records) == official
    assert {record.ground_truth for record in records.values()} == {"none"}


@needs_samples
def test_real_labels_of_another_width_are_rejected(samples, tmp_path):
    (tmp_path / "valid").symlink_to(samples / "vos_cutie_judo")
    source = require_source("mose")
    (item,) = source.scan(tmp_path, "val")
    with pytest.raises(ItemError) as caught:
        source.read(tmp_path, "val", item)
    assert (caught.value.code, caught.value.message) == (
        "E131",
        "judo/00005.png: label image 853x480; expected 854x480 (w x h)",
    )
    assert caught.value.file == "valid/Annotations/judo"


# DAVIS


def text_files(records):
    """Write the lines of Ref-DAVIS17 back: content by file name."""
    lines = defaultdict(dict)
    for item_id, record in records.items():
        source_ids = {track.object_id: track.source_id for track in record.objects}
        misspelt = extra_of(record).get("misspelt", {})
        for e in record.expressions:
            number = int(e.expression_id.rpartition("-")[2])
            name = misspelt.get(e.expression_id, item_id)
            lines[TEXT_SETS[e.origin]][number] = f'{name} {source_ids[e.object_ids[0]]} "{e.text}"\n'
    return {file: "".join(line for _, line in sorted(rows.items())) for file, rows in lines.items()}


def test_ref_davis_texts_of_the_miniature_come_back(miniatures, packed_records):
    source, root = require_source("refdavis"), miniatures("refdavis")
    records = {k: v for split in ("train", "val") for k, v in packed_records(source, root, split).items()}
    official = {path.name: path.read_text() for path in (root / "davis_text_annotations").iterdir()}
    assert text_files(records) == official


@needs_samples
def test_real_ref_davis_text_comes_back(samples, tmp_path):
    """Real lines; label images are drawn so that every object they name is there."""
    real = samples / "ref-davis/davis_text_annotations/RECONSTRUCTED_Davis17_annot1_full_video.txt"
    (tmp_path / "davis_text_annotations").mkdir()
    for origin, file in TEXT_SETS.items():
        content = real.read_bytes() if origin == "annot1-full" else b""
        (tmp_path / "davis_text_annotations" / file).write_bytes(content)
    objects = defaultdict(int)
    for line in real.read_text().splitlines():
        name, number = line.split()[:2]
        objects[name] = max(objects[name], int(number))
    for name, count in objects.items():
        for folder in ("JPEGImages", "Annotations"):
            (tmp_path / folder / "480p" / name).mkdir(parents=True)
        Image.new("RGB", (count + 1, 1)).save(tmp_path / f"JPEGImages/480p/{name}/00000.jpg")
        labels = Image.fromarray(np.arange(count + 1, dtype=np.uint8)[None])
        labels.save(tmp_path / f"Annotations/480p/{name}/00000.png")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("\n".join(objects))
    source = require_source("refdavis")
    records = {item.item_id: stored(source, tmp_path, "val", item) for item in source.scan(tmp_path, "val")}
    assert text_files(records) == {"Davis17_annot1_full_video.txt": real.read_text()}


def davis_root(samples, tmp_path, year):
    """Give a real sample the list of sequences that it comes without."""
    official = samples / f"davis{year}/DAVIS"
    for folder in official.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    names = sorted(path.name for path in (official / "JPEGImages/480p").iterdir())
    (tmp_path / f"ImageSets/{year}").mkdir(parents=True)
    (tmp_path / f"ImageSets/{year}/val.txt").write_text("\n".join(names))
    return tmp_path


@needs_samples
@pytest.mark.parametrize("year", [2016, 2017])
def test_real_davis_comes_back(samples, packed_items, tmp_path, year):
    root = davis_root(samples, tmp_path, year)
    items = packed_items(require_source(f"davis_{year}"), root, "val")
    assert items
    for item_id, item in items.items():
        assert_labels_equal(
            item.record, root / "Annotations/480p" / item_id, {1: 255} if year == 2016 else None
        )
        for frame, content in zip(item.record.frames, item.frame_bytes, strict=True):
            assert (root / "JPEGImages/480p" / item_id / frame.name).read_bytes() == content


@needs_samples
def test_real_scribbles_come_back(samples, packed_records, tmp_path):
    root = davis_root(samples, tmp_path, 2017)
    num_strokes = 0
    for item_id, record in packed_records(require_source("davis_2017"), root, "val").items():
        source_ids = {0: 0, **{track.object_id: int(track.source_id) for track in record.objects}}
        strokes = iter([prompt for prompt in record.prompts if prompt.kind == "scribble"])
        scale = np.array([record.width - 1, record.height - 1])
        for file in sorted((root / "Scribbles" / item_id).iterdir()):
            official = load(file)
            described = extra_of(record)["scribbles"][file.name]
            others = iter(described.pop("strokes"))
            assert described == {name: value for name, value in official.items() if name != "scribbles"}
            for index, frame in enumerate(official["scribbles"]):
                for stroke in frame:
                    prompt = next(strokes)
                    path = np.reshape(prompt.coordinates, (-1, 2)) / scale
                    np.testing.assert_allclose(path, stroke.pop("path"), rtol=1e-15)
                    assert (prompt.frame_index, source_ids[prompt.object_id]) == (
                        index,
                        stroke.pop("object_id"),
                    )
                    assert next(others) == stroke
                    num_strokes += 1
        assert next(strokes, None) is None
    assert num_strokes == 4


@needs_samples
@pytest.mark.parametrize("name", ["mose", "ytvos_2019"])
def test_real_first_masks_come_back(samples, tmp_path, name):
    """A real 480p video with labels on some frames; those drawn one pixel too narrow are left out."""
    official = samples / "vos_cutie_judo"
    (tmp_path / "valid/Annotations/judo").mkdir(parents=True)
    (tmp_path / "valid/JPEGImages").symlink_to(official / "JPEGImages")
    with Image.open(official / "JPEGImages/judo/00000.jpg") as image:
        size = image.size
    for path in (official / "Annotations/judo").iterdir():
        with Image.open(path) as image:
            if image.size == size:
                (tmp_path / "valid/Annotations/judo" / path.name).symlink_to(path)
    objects = {str(i): {"category": "person", "frames": []} for i in range(1, 5)}
    (tmp_path / "valid/meta.json").write_text(json.dumps({"videos": {"judo": {"objects": objects}}}))
    source = require_source(name)
    (item,) = source.scan(tmp_path, "val")
    record = stored(source, tmp_path, "val", item)
    assert (record.num_frames, record.ground_truth) == (16, "first_frame")
    assert record.objects
    assert_labels_equal(record, tmp_path / "valid/Annotations/judo")
