"""Class maps and panoptic maps: VSPW, ADE20K, VIPSeg and COCO panoptic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from univs.evaluation.official.files import field_of, name_some, read_json
from univs.evaluation.submission_checks.archive import Archive
from univs.evaluation.submission_checks.inputs import (
    Inputs,
    find_file,
    find_folder,
    list_stems,
    picture_size,
    read_categories,
    read_list,
    read_rows,
)
from univs.evaluation.submission_checks.rows import integer_of, member_of
from univs.evaluation.submission_checks.trees import Group, PictureCheck, check_classes, check_tree

_ADE20K_CLASSES = 150
_LISTS = ("test", "val")
_COCO_FILES = tuple(
    f"{folder}{name}"
    for folder in ("", "annotations/")
    for name in ("image_info_*.json", "panoptic_val*.json")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Panoptic:
    """What a panoptic JSON says: group by group, the ids listed for each picture."""

    ids: Mapping[tuple[str, str], frozenset[int]]
    """By folder and stem."""


def check_vspw(archive: Archive, inputs: Inputs) -> str:
    """Check ``<video>/<frame>.png``, classes counted from 0."""
    root = inputs.root
    table = root / "label_num_dic_final.json"
    numbers = [int(number) for number in read_json(table).values()]
    num_classes = sum(0 < number < 255 for number in numbers)
    groups = [
        _video(root / "data" / name / "origin", name, "")
        for name in read_list(root, "{}.txt", _LISTS, inputs.split)
    ]
    num = check_tree(archive, groups, "<video>/<frame>.png", check_classes(0, num_classes - 1))
    return f"{len(groups)} videos, {num} maps"


def check_ade20k(archive: Archive, inputs: Inputs) -> str:
    """Check ``<image>.png`` at the top, classes 1..150 and 0 for none."""
    folder = find_folder(inputs.root, "testing", "images/testing", "images/validation", "images")
    stems = list_stems(folder)
    sizes = tuple(picture_size(folder / f"{stem}.jpg") for stem in stems)
    group = Group(folder="", title="the split", stems=stems, sizes=sizes)
    num = check_tree(archive, [group], "<image>.png", check_classes(0, _ADE20K_CLASSES))
    return f"{num} maps"


def check_vipseg(archive: Archive, inputs: Inputs) -> str:
    """Check ``pred.json`` and ``pan_pred/<video>/<frame>.png``."""
    root = inputs.root
    images = find_folder(root, "imgs", "images", "VIPSeg_720P/images")
    groups = [
        _video(images / name, name, "pan_pred/") for name in read_list(root, "{}.txt", _LISTS, inputs.split)
    ]
    table = find_file(root, ["panoVIPSeg_categories.json"], "table of categories")
    categories = read_categories(read_json(table), table)
    listed = _vipseg_ids(archive, groups, categories)
    layout = "pred.json and pan_pred/<video>/<frame>.png"
    num = check_tree(archive, groups, layout, _check_segments(listed), ["pred.json"])
    return f"{len(groups)} videos, {num} maps"


def check_coco_panoptic(archive: Archive, inputs: Inputs) -> str:
    """Check ``NAME.json`` at the top and ``NAME/<image>.png``."""
    path = find_file(inputs.root, _COCO_FILES, "JSON that lists the images")
    body, images = read_rows(path, "images")
    tables = [
        path.parent / "panoptic_coco_categories.json",
        path.parent.parent / "panoptic_coco_categories.json",
    ]
    table = next((found for found in tables if found.is_file()), path)
    categories = read_categories(body if table == path else read_json(table), table)
    index = _top_json(archive)
    group = _image_group(images, PurePosixPath(index).stem, path)
    listed = _coco_ids(archive, index, images, group, categories)
    layout = f"{index} and {group.folder}/<image>.png"
    num = check_tree(archive, [group], layout, _check_segments(listed), [index])
    return f"{num} images"


def _video(images: Path, name: str, prefix: str) -> Group:
    stems = list_stems(images)
    size = picture_size(images / f"{stems[0]}.jpg")
    return Group(folder=f"{prefix}{name}", title=f"video {name!r}", stems=stems, sizes=(size,))


def _image_group(images: Sequence[Any], folder: str, path: Path) -> Group:
    where = f"{path}: an image"
    rows = sorted(images, key=lambda row: str(field_of(row, "file_name", str, where)))
    return Group(
        folder=folder,
        title="the split",
        stems=tuple(PurePosixPath(row["file_name"]).stem for row in rows),
        sizes=tuple((integer_of(row, "height", where), integer_of(row, "width", where)) for row in rows),
    )


def _top_json(archive: Archive) -> str:
    found = [name for name in archive.names if "/" not in name and name.endswith(".json")]
    if len(found) != 1:
        raise ValueError(
            f"{archive.path}: {len(found)} JSON files at the top, expected one NAME.json and NAME/<image>.png"
        )
    return found[0]


def _vipseg_ids(archive: Archive, groups: Sequence[Group], categories: frozenset[int]) -> _Panoptic:
    if "pred.json" not in archive.names:
        raise ValueError(f"{archive.path}: no pred.json at the top, expected it beside pan_pred/")
    where = f"{archive.path}: pred.json"
    rows = field_of(archive.read_json("pred.json"), "annotations", list, where)
    videos = {field_of(row, "video_id", str, f"{where}: annotations[{n}]"): row for n, row in enumerate(rows)}
    ids = {}
    for group in groups:
        name = PurePosixPath(group.folder).name
        if name not in videos:
            raise ValueError(f"{where}: no video {name!r}, expected all {len(groups)}")
        frames = field_of(videos[name], "annotations", list, f"{where}: video {name!r}")
        listed = {PurePosixPath(field_of(f, "file_name", str, f"{where}: {name!r}")).stem: f for f in frames}
        for stem in group.stems:
            if stem not in listed:
                raise ValueError(
                    f"{where}: video {name!r} lists no frame {stem!r}, expected all of its frames"
                )
            ids[group.folder, stem] = _listed(listed[stem], categories, f"{where}: {name}/{stem}")
    return _Panoptic(ids=ids)


def _coco_ids(
    archive: Archive, index: str, images: Sequence[Any], group: Group, categories: frozenset[int]
) -> _Panoptic:
    where = f"{archive.path}: {index}"
    stem_of = {integer_of(row, "id", "an image"): PurePosixPath(row["file_name"]).stem for row in images}
    ids: dict[tuple[str, str], frozenset[int]] = {}
    for n, row in enumerate(field_of(archive.read_json(index), "annotations", list, where)):
        here = f"{where}: annotations[{n}]"
        number = member_of(row, "image_id", stem_of, f"one of {len(stem_of)} images", here)
        if field_of(row, "file_name", str, here) != f"{stem_of[number]}.png":
            raise ValueError(f"{here}: 'file_name' is {row['file_name']!r}, expected '{stem_of[number]}.png'")
        ids[group.folder, stem_of[number]] = _listed(row, categories, here)
    missing = [stem for stem in group.stems if (group.folder, stem) not in ids]
    if missing:
        raise ValueError(f"{where}: not listed: {name_some(missing)}; expected every image")
    return _Panoptic(ids=ids)


def _listed(row: Any, categories: frozenset[int], where: str) -> frozenset[int]:
    infos = field_of(row, "segments_info", list, where)
    for n, info in enumerate(infos):
        here = f"{where}: segments_info[{n}]"
        member_of(info, "category_id", categories, f"one of the {len(categories)} categories", here)
    ids = [integer_of(info, "id", f"{where}: segments_info[{n}]") for n, info in enumerate(infos)]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{where}: an id is listed twice, expected one entry per segment")
    return frozenset(ids)


def _check_segments(listed: _Panoptic) -> PictureCheck:
    """Judge the colors of a panoptic map by what the JSON lists for it."""

    def check(group: Group, position: int, image: Image.Image) -> str:
        if image.mode != "RGB":
            return f"mode {image.mode}, expected RGB whose colors are ids R + 256 G + 65536 B"
        pixels = np.asarray(image, np.int32) @ np.asarray((1, 1 << 8, 1 << 16), np.int32)
        # A run of equal pixels along a row counts once, which leaves little to sort.
        starts = pixels[:, 1:][pixels[:, 1:] != pixels[:, :-1]]
        drawn = {*np.unique(starts).tolist(), *np.unique(pixels[:, 0]).tolist()} - {0}
        expected = listed.ids[group.folder, group.stems[position]]
        if drawn - expected:
            return f"id {min(drawn - expected)} is drawn, but the JSON does not list it"
        if expected - drawn:
            return f"id {min(expected - drawn)} is listed in the JSON, but not drawn"
        return ""

    return check
