"""YouTube-VIS 2019: 2,238 train, 302 valid and 343 test videos, 40 classes, every fifth frame of 30 fps.

4,883 instances and 131 thousand masks in all. The archives hold ``{train,valid,test}.json`` beside the
folders of frames; the form of 2021 (``<split>/instances.json``) is read, too. Ground truth of ``valid`` and
``test`` is on a server. Class ids count 1..40, as in 2021, but name other classes: eagle, owl, ape and hand,
for example, are only here, so the two label spaces must never be exchanged.
"""

from preprocessing.sources.source import ExpectedCounts, SourceSpec
from preprocessing.sources.vis_json import VisFiles, VisJson

YTVIS_2019 = VisJson(
    spec=SourceSpec(
        name="ytvis_2019",
        task="detection",
        kind="video",
        needs="{train,valid,test}/JPEGImages/<video>/*.jpg and {train,valid,test}.json",
        expects="2,238 train, 302 valid and 343 test videos, 40 categories; ground truth of train",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=2238),
            "val": ExpectedCounts(num_items=302),
            "test": ExpectedCounts(num_items=343),
        },
        label_space_name="ytvis_2019",
    ),
    title="YouTube-VIS 2019",
    remedy="unpack the 2019 archives and put train.json, valid.json and test.json beside their folders",
    files={
        split: (
            VisFiles(annotation=f"{folder}.json", images=f"{folder}/JPEGImages"),
            VisFiles(annotation=f"{folder}/instances.json", images=f"{folder}/JPEGImages"),
        )
        for split, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    },
    group="ytvos",
    frames_per_second=6.0,
)
