"""VIPSeg as its ``change2_720p.py`` leaves it: images and masks of another size in ``VIPSeg_720P``.

The script makes every frame 720 pixels high. The miniature's frames are as small as all others: what it shows
is the tree, ``VIPSeg_720P/{images,panomasks}`` beside the lists of VIPSeg.
"""

from collections.abc import Iterable
from pathlib import Path

from preprocessing.layouts import vipseg
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a panoptic video and list it in the split file."""
    vipseg.write(root, split, worlds, images="VIPSeg_720P/images", masks="VIPSeg_720P/panomasks")
