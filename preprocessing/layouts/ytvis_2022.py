"""YouTube-VIS 2022: a validation set alone, in the layout and with the classes of 2021."""

from collections.abc import Iterable
from pathlib import Path

from preprocessing.layouts import ytvis_2021
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with one track per thing.

    Raises:
        ValueError: the split is not ``val``.
    """
    if split != "val":
        raise ValueError(f"ytvis_2022 has only the split 'val', got {split!r}")
    ytvis_2021.write(root, split, worlds)
