"""The datasets that can be preprocessed."""

from collections.abc import Mapping

from preprocessing.errors import SourceError
from preprocessing.sources.coco_panoptic import CocoPanoptic
from preprocessing.sources.davis import DAVIS_2016, DAVIS_2017
from preprocessing.sources.refytvos import RefYouTubeVos
from preprocessing.sources.sa_1b import Sa1b
from preprocessing.sources.source import Source
from preprocessing.sources.vipseg import VipSeg
from preprocessing.sources.vspw import Vspw
from preprocessing.sources.ytvis import YouTubeVis2021

SOURCES: Mapping[str, Source] = {
    "coco_panoptic": CocoPanoptic(),
    "sa_1b": Sa1b(),
    "ytvis_2021": YouTubeVis2021(),
    "vipseg": VipSeg(),
    "vspw": Vspw(),
    "refytvos": RefYouTubeVos(),
    "davis_2017": DAVIS_2017,
    "davis_2016": DAVIS_2016,
}
"""Readers by dataset name."""


def require_source(name: str) -> Source:
    """Look a dataset up.

    Raises:
        SourceError: there is none of that name.
    """
    if name not in SOURCES:
        raise SourceError(f"--dataset {name}: no such dataset; expected one of {', '.join(SOURCES)}")
    return SOURCES[name]
