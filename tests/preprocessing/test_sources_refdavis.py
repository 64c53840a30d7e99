import json

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, MissingFileError, SourceError
from preprocessing.sources.catalog import require_source
from preprocessing.sources.davis_text import TEXT_SETS
from preprocessing.validate import validate
from univs.schema import Expression

SOURCE = require_source("refdavis")
LABELS = np.array([[[0, 1, 1, 255], [0, 0, 3, 3]], [[0, 0, 0, 0], [3, 3, 3, 0]]], np.uint8)


def save_labels(folder):
    folder.mkdir(parents=True)
    for index, labels in enumerate(LABELS):
        image = Image.fromarray(labels)
        image.putpalette(list(range(256)) * 3)
        image.save(folder / f"{index:05d}.png")


@pytest.fixture
def root(tmp_path):
    for sequence in ("bear", "classic-car"):
        (tmp_path / "JPEGImages/480p" / sequence).mkdir(parents=True)
        save_labels(tmp_path / "Annotations/480p" / sequence)
        for index in range(2):
            Image.new("RGB", (4, 2)).save(tmp_path / f"JPEGImages/480p/{sequence}/{index:05d}.jpg")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("bear\n")
    (tmp_path / "ImageSets/2017/train.txt").write_text("classic-car\n")
    write_texts(tmp_path, b'bear 1 "a bear"\nclasic-car 3 "a car"\n')
    return tmp_path


def write_texts(root, first, *others):
    (root / "davis_text_annotations").mkdir(exist_ok=True)
    contents = [first, *others, *[b""] * 4][:4]
    for file, content in zip(TEXT_SETS.values(), contents, strict=True):
        (root / "davis_text_annotations" / file).write_bytes(content)


def read_only(root, split="val"):
    (item,) = SOURCE.scan(root, split)
    return SOURCE.read(root, split, item)


def rejection(root, split="val", name="bear"):
    items = {item.item_id: item for item in SOURCE.scan(root, split)}
    with pytest.raises(ItemError) as caught:
        validate(SOURCE.read(root, split, items[name]))
    return caught.value.code, caught.value.message, caught.value.file, caught.value.pointer


def test_read_expressions_of_all_four_sets(root):
    write_texts(
        root,
        b'bear 1 "a bear"\nbear 3 "2nd  one"\n',
        b'bear 1 "a bear walking"\n',
        b'\nbear 3 "it"',
        b"bear 3 \"a 'b'\"\r\n",
    )
    record = validate(read_only(root)).record
    assert record.expressions == (
        Expression(expression_id="annot1-first-1", text="a bear", object_ids=(1,), origin="annot1-first"),
        Expression(expression_id="annot1-first-2", text="2nd  one", object_ids=(2,), origin="annot1-first"),
        Expression(
            expression_id="annot1-full-1", text="a bear walking", object_ids=(1,), origin="annot1-full"
        ),
        Expression(expression_id="annot2-first-2", text="it", object_ids=(2,), origin="annot2-first"),
        Expression(expression_id="annot2-full-1", text="a 'b'", object_ids=(2,), origin="annot2-full"),
    )
    assert [(t.source_id, t.states) for t in record.objects] == [("1", "VA"), ("3", "VV")]
    assert [region.kind for region in record.regions] == ["void"]
    assert (record.group, record.ground_truth, record.prompts) == ("davis:bear", "full", ())


def test_read_misspelt_sequence_is_found_and_its_spelling_kept(root):
    record = read_only(root, "train").record
    assert (record.item_id, record.expressions[0].text) == ("classic-car", "a car")
    assert json.loads(record.extra) == {
        "labels": "Annotations/480p",
        "misspelt": {"annot1-first-2": "clasic-car"},
    }


@pytest.mark.parametrize(
    ("written", "name"),
    [("clasic-car", "classic-car"), ("dog-scale", "dogs-scale"), ("motor-bike", "motorbike"), ("dog", "dog")],
)
def test_scan_maps_the_three_misspellings(root, written, name):
    (root / "ImageSets/2017/val.txt").write_text(f"{name}\n")
    (root / "ImageSets/2017/train.txt").unlink()
    write_texts(root, f'{written} 1 "a"\n'.encode())
    (item,) = SOURCE.scan(root, "val")
    assert item.item_id == name
    assert [line["text"] for line in json.loads(item.payload)["lines"]] == ["a"]


def test_read_prefers_the_labels_that_the_benchmark_scores_against(root):
    save_labels(root / "Annotations_unsupervised/480p/bear")
    (root / "Annotations_unsupervised/480p/bear/00001.png").unlink()
    assert rejection(root)[:2] == ("E151", "bear: 2 jpg, 1 png; frame 00001 has no label file")


def test_read_davis_tree_inside_the_folder(root):
    (root / "DAVIS").mkdir()
    for folder in ("JPEGImages", "Annotations", "ImageSets"):
        (root / folder).rename(root / "DAVIS" / folder)
    video = read_only(root)
    assert validate(video).record.num_frames == 2
    assert video.frame_paths[0] == root / "DAVIS/JPEGImages/480p/bear/00000.jpg"


def test_read_latin_1_text_is_decoded_and_flagged(root):
    write_texts(root, 'bear 1 "a caf\u00e9"\n'.encode(), b"", 'bear 3 "ch\u00e2teau"\n'.encode("latin-1"))
    video = read_only(root)
    assert [e.text for e in video.record.expressions] == ["a caf\u00e9", "ch\u00e2teau"]
    (finding,) = video.findings
    assert (finding.code, finding.message) == (
        "W143",
        'bear: "ch\u00e2teau" is not valid UTF-8, read as Latin-1',
    )
    assert (finding.file, finding.pointer) == ("davis_text_annotations/Davis17_annot2.txt", "line 1")


@pytest.mark.parametrize("text", ['"a', 'a"', "a", '"'])
def test_read_text_without_both_quotes_stays_as_written(root, text):
    write_texts(root, f"bear 1 {text}\n".encode())
    assert [e.text for e in read_only(root).record.expressions] == [text]


def test_read_object_without_expression_is_flagged(root):
    assert [(f.code, f.message) for f in validate(read_only(root)).findings] == [
        ("W142", "bear: 1 of 2 objects: 3")
    ]


def test_read_expression_of_missing_object_is_e140(root):
    write_texts(root, b"", b'\nbear 2 "a wolf"\n')
    assert rejection(root) == (
        "E140",
        'bear: expression "a wolf" is of object 2, objects 1, 3',
        "davis_text_annotations/Davis17_annot1_full_video.txt",
        "line 2",
    )


def test_read_sequence_that_no_list_names_is_e122(root):
    write_texts(root, b'bear 1 "a"\nbaer 1 "b"\nbaer 2 "c"\n')
    assert rejection(root, name="baer") == (
        "E122",
        "baer: 2 expressions of a sequence that ImageSets/2017 does not list",
        "davis_text_annotations/Davis17_annot1.txt",
        "line 2",
    )


def test_scan_without_the_other_list_takes_unknown_sequences_for_its(root):
    (root / "ImageSets/2017/train.txt").unlink()
    assert [item.item_id for item in SOURCE.scan(root, "val")] == ["bear"]


def test_read_listed_sequence_without_folder_is_e153(root):
    (root / "ImageSets/2017/val.txt").write_text("bear\ngone\n")
    assert rejection(root, name="gone")[:2] == (
        "E153",
        "gone: no frames on disk; check the split list and unpack the images",
    )


@pytest.mark.parametrize("line", ["bear", "bear 1", 'bear one "a"', '"a bear"'])
def test_scan_malformed_line_raises(root, line):
    write_texts(root, f'bear 1 "a"\n{line}\n'.encode())
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "val"))
    assert str(caught.value) == (
        f"--source {root}: davis_text_annotations/Davis17_annot1.txt line 2 is {line!r}; expected sequence "
        'object "expression"; take the file from the Ref-DAVIS17 archive again'
    )


def test_scan_missing_text_file_raises(root):
    (root / "davis_text_annotations/Davis17_annot2.txt").unlink()
    with pytest.raises(MissingFileError) as caught:
        list(SOURCE.scan(root, "val"))
    assert str(caught.value) == (
        f"--source {root}: davis_text_annotations/Davis17_annot2.txt not found; expected the expressions of "
        "Ref-DAVIS17; unpack davis_text_annotations there"
    )
