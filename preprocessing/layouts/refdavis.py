"""Ref-DAVIS17: the DAVIS 2017 tree and four text files of expressions, which both splits share.

``davis_text_annotations/Davis17_annot{1,2}.txt`` (after the first frame) and ``..._full_video.txt`` hold
lines of ``sequence object "expression"``; the two annotators say it in other words where the world has two
ways.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from preprocessing.layouts import davis_2017
from preprocessing.worlds import Split, World

TEXT_FILES = {
    "Davis17_annot1.txt": 0,
    "Davis17_annot1_full_video.txt": 0,
    "Davis17_annot2.txt": -1,
    "Davis17_annot2_full_video.txt": -1,
}
"""Files, and which expression of an object each one takes."""


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a sequence and add the expressions of its objects to the text files."""
    texts: dict[str, list[str]] = {file: [] for file in TEXT_FILES}

    def described() -> Iterator[World]:
        for world in worlds:
            for file, choice in TEXT_FILES.items():
                texts[file] += _lines(world, choice)
            yield world

    davis_2017.write(root, split, described())
    folder = root / "davis_text_annotations"
    folder.mkdir(exist_ok=True)
    for file, lines in texts.items():
        with (folder / file).open("a", encoding="utf-8") as stream:
            stream.writelines(lines)


def has_described_object(world: World) -> bool:
    """Tell whether an object of the first frame has an expression."""
    return bool(_lines(world, 0))


def _lines(world: World, choice: int) -> list[str]:
    ids = davis_2017.sequence_ids(world)
    return [
        f'{world.video_id} {ids[entry.object_id]} "{entry.expressions[choice]}"\n'
        for entry in world.things
        if entry.expressions and ids[entry.object_id]
    ]
