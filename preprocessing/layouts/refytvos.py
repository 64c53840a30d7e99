"""Ref-YouTube-VOS: the images and palette masks of YouTube-VOS, and a JSON of expressions per split.

- ``meta_expressions/{train,valid}/meta_expressions.json``: per video ``frames`` and ``expressions``
  ({"0": {"exp", "obj_id"}}); all ids are text. An object may have no expression, as in the real set.
- The public ``valid`` files have no ``obj_id`` and no masks; the miniature owns its ground truth and writes
  both.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from preprocessing.layouts import ytvos
from preprocessing.layouts.encoding import write_json
from preprocessing.layouts.vis_json import FOLDERS
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with masks of its things and their expressions."""
    videos: dict[str, Any] = {}

    def described() -> Iterator[World]:
        for world in worlds:
            videos[world.video_id] = {"expressions": _expressions(world), "frames": ytvos.frame_stems(world)}
            yield world

    ytvos.write(root, split, described())
    write_json(root / "meta_expressions" / FOLDERS[split] / "meta_expressions.json", {"videos": videos})


def _expressions(world: World) -> dict[str, dict[str, str]]:
    pairs = [(text, entry.object_id) for entry in world.things for text in entry.expressions]
    return {str(number): {"exp": text, "obj_id": str(owner)} for number, (text, owner) in enumerate(pairs)}
