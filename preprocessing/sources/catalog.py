"""The datasets that can be preprocessed."""

from collections.abc import Mapping

from preprocessing.errors import SourceError
from preprocessing.sources.ade20k import Ade20k
from preprocessing.sources.burst import Burst
from preprocessing.sources.coco_instances import CocoInstances
from preprocessing.sources.coco_panoptic import CocoPanoptic
from preprocessing.sources.davis import DAVIS_2016, DAVIS_2017
from preprocessing.sources.entityseg import EntitySeg
from preprocessing.sources.lvis import LVIS_V05, LVIS_V1
from preprocessing.sources.mose import Mose
from preprocessing.sources.ovis import OVIS
from preprocessing.sources.refcoco import REFCOCO, REFCOCO_PLUS, REFCOCOG
from preprocessing.sources.refdavis import RefDavis
from preprocessing.sources.refytvos import RefYouTubeVos
from preprocessing.sources.sa_1b import Sa1b
from preprocessing.sources.source import Source
from preprocessing.sources.viposeg import VipoSeg
from preprocessing.sources.vipseg import VIPSEG
from preprocessing.sources.vipseg_720p import VIPSEG_720P
from preprocessing.sources.vspw import Vspw
from preprocessing.sources.ytvis_2019 import YTVIS_2019
from preprocessing.sources.ytvis_2021 import YTVIS_2021
from preprocessing.sources.ytvis_2022 import YTVIS_2022
from preprocessing.sources.ytvos import YTVOS_2018, YTVOS_2019

SOURCES: Mapping[str, Source] = {
    "coco_panoptic": CocoPanoptic(),
    "coco_instances": CocoInstances(),
    "lvis": LVIS_V1,
    "lvis_v05": LVIS_V05,
    "sa_1b": Sa1b(),
    "refcoco": REFCOCO,
    "refcocoplus": REFCOCO_PLUS,
    "refcocog": REFCOCOG,
    "entityseg": EntitySeg(),
    "ade20k": Ade20k(),
    "ytvis_2019": YTVIS_2019,
    "ytvis_2021": YTVIS_2021,
    "ytvis_2022": YTVIS_2022,
    "ovis": OVIS,
    "vipseg": VIPSEG,
    "vipseg_720p": VIPSEG_720P,
    "vspw": Vspw(),
    "viposeg": VipoSeg(),
    "ytvos_2018": YTVOS_2018,
    "ytvos_2019": YTVOS_2019,
    "refytvos": RefYouTubeVos(),
    "mose": Mose(),
    "burst": Burst(),
    "davis_2016": DAVIS_2016,
    "davis_2017": DAVIS_2017,
    "refdavis": RefDavis(),
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
