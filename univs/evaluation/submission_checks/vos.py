"""Mask trees of video object segmentation: YouTube-VOS, MOSE, DAVIS, VIPOSeg and Ref-YouTube-VOS."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from univs.evaluation.official.files import field_of, list_folders, read_json
from univs.evaluation.submission_checks.archive import Archive
from univs.evaluation.submission_checks.inputs import (
    Given,
    Inputs,
    find_file,
    find_folder,
    list_stems,
    picture_size,
    read_given,
    read_list,
)
from univs.evaluation.submission_checks.trees import Group, check_binary, check_objects, check_tree

_VOID = 255


def check_youtube_vos(archive: Archive, inputs: Inputs) -> str:
    """Check ``Annotations/<video>/<frame>.png`` in the colors of the given masks."""
    return _check_introduced(archive, inputs, has_colors=True)


def check_viposeg(archive: Archive, inputs: Inputs) -> str:
    """Check ``Annotations/<video>/<frame>.png``; colors do not matter."""
    return _check_introduced(archive, inputs, has_colors=False)


def check_mose(archive: Archive, inputs: Inputs) -> str:
    """Check ``<video>/<frame>.png``; objects are those of the first frame."""
    root = inputs.root
    names = list_folders(find_folder(root, "JPEGImages"))
    folders = (root / "JPEGImages", root / "Annotations")
    return _check_first_frame_tree(archive, *folders, names, has_colors=False)


def check_davis(archive: Archive, inputs: Inputs) -> str:
    """Check ``<sequence>/<frame>.png`` for the sequences of test-dev, or of val where it is not there."""
    root = inputs.root
    names = read_list(root, "ImageSets/2017/{}.txt", ("test-dev", "val"), inputs.split)
    folders = (root / "JPEGImages" / "480p", root / "Annotations" / "480p")
    return _check_first_frame_tree(archive, *folders, names, has_colors=True)


def check_ref_youtube_vos(archive: Archive, inputs: Inputs) -> str:
    """Check ``Annotations/<video>/<expression>/<frame>.png`` for every expression of the split's JSON.

    The JSON of the validation set lists the test set's videos, too; they are left out where the test set's
    JSON lies beside it.
    """
    split = inputs.split or "valid"
    known = ["meta_expressions.json", f"meta_expressions/{split}/meta_expressions.json"]
    path = find_file(inputs.root, known, "meta_expressions.json")
    videos = _described(path)
    images = _images_of(inputs.root)
    groups = [group for name, video in videos.items() for group in _expressions(path, name, video, images)]
    layout = "Annotations/<video>/<expression>/<frame>.png"
    num = check_tree(archive, groups, layout, check_binary)
    unchecked = "" if images else "; sizes are not checked: no JPEGImages in --gt"
    return f"{len(videos)} videos, {len(groups)} expressions, {num} masks{unchecked}"


def _check_introduced(archive: Archive, inputs: Inputs, has_colors: bool) -> str:
    """Check a tree, a mask per frame of ``JPEGImages``, whose objects come in where ``Annotations`` says."""
    root = inputs.root
    names = list_folders(find_folder(root, "JPEGImages"))
    groups, given = _videos(root / "JPEGImages", root / "Annotations", names, "Annotations/", False)
    check = check_objects(given, is_introduced=True, has_colors=has_colors)
    return _count(groups, check_tree(archive, groups, "Annotations/<video>/<frame>.png", check))


def _check_first_frame_tree(
    archive: Archive, images: Path, masks: Path, names: Iterable[str], has_colors: bool
) -> str:
    groups, given = _videos(images, masks, names, "", True)
    check = check_objects(given, is_introduced=False, has_colors=has_colors)
    return _count(groups, check_tree(archive, groups, "<video>/<frame>.png", check))


def _videos(
    images: Path, masks: Path, names: Iterable[str], prefix: str, is_first_only: bool
) -> tuple[list[Group], dict[str, Given]]:
    groups, given = [], {}
    for name in names:
        stems = list_stems(images / name)
        size = picture_size(images / name / f"{stems[0]}.jpg")
        group = Group(folder=f"{prefix}{name}", title=f"video {name!r}", stems=stems, sizes=(size,))
        found = read_given(masks / name, stems, is_first_only)
        known = {value: at for value, at in found.first.items() if value != _VOID}
        given[group.folder] = Given(first=known, colors=found.colors)
        groups.append(group)
    return groups, given


def _described(path: Path) -> Mapping[str, Any]:
    videos: dict[str, Any] = field_of(read_json(path), "videos", dict, str(path))
    test = path.parent.parent / "test" / path.name
    if path.parent.name != "valid" or not test.is_file():
        return videos
    later = field_of(read_json(test), "videos", dict, str(test))
    return {name: video for name, video in videos.items() if name not in later}


def _images_of(root: Path) -> Path | None:
    folders = (root / "JPEGImages", root / "valid" / "JPEGImages", root.parent / "JPEGImages")
    return next((folder for folder in folders if folder.is_dir()), None)


def _expressions(path: Path, name: str, video: Any, images: Path | None) -> list[Group]:
    where = f"{path}: video {name!r}"
    stems = tuple(field_of(video, "frames", list, where))
    expressions = field_of(video, "expressions", dict, where)
    sizes = () if images is None else (picture_size(images / name / f"{stems[0]}.jpg"),)
    return [
        Group(
            folder=f"Annotations/{name}/{expression}",
            title=f"expression {expression!r} of video {name!r}",
            stems=stems,
            sizes=sizes,
        )
        for expression in expressions
    ]


def _count(groups: list[Group], num_masks: int) -> str:
    return f"{len(groups)} videos, {num_masks} masks"
