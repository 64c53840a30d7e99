"""YouTube-VIS 2022: the long validation videos, with the 40 classes of 2021 and no public ground truth.

The 2022 release trains on the set of 2021 and only adds this validation set, so ``val`` is its one split and
its label space is that of 2021. It is read as its archive unpacks (``valid/``) or under the name that keeps
it beside the 2021 set (``valid22/``, ``valid22.json``), which is looked for first.
"""

from preprocessing.sources.source import SourceSpec
from preprocessing.sources.vis_json import VisFiles, VisJson

YTVIS_2022 = VisJson(
    spec=SourceSpec(
        name="ytvis_2022",
        task="detection",
        kind="video",
        needs="valid/JPEGImages/<video>/*.jpg and valid/instances.json, or valid22/ and valid22.json",
        expects="the long validation videos, 40 categories of 2021; no ground truth",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("val",),
        label_space_name="ytvis_2021",
    ),
    title="YouTube-VIS 2022",
    remedy="unpack the 2022 archive of valid there",
    files={
        "val": tuple(
            VisFiles(annotation=annotation, images=f"{folder}/JPEGImages")
            for folder in ("valid22", "valid")
            for annotation in (f"{folder}/instances.json", f"{folder}.json")
        )
    },
    group="ytvos",
    frames_per_second=6.0,
)
