"""OVIS: 607 train, 140 valid and 154 test videos full of occlusions, 25 classes, every fifth frame annotated.

5,223 instances and 296 thousand masks in all, mostly 1920 x 1080, some videos with hundreds of frames. The
schema is that of YouTube-VIS; the frames lie in ``{train,valid,test}/<video>/img_%07d.jpg`` without a
``JPEGImages`` folder. The class "Vehical" is spelt so in the release. Per-frame occlusion levels and any
other field that YouTube-VIS does not know stay in ``extra``. Ground truth of ``valid`` and ``test`` is on a
server.
"""

from preprocessing.sources.source import ExpectedCounts, SourceSpec
from preprocessing.sources.vis_json import VisFiles, VisJson

OVIS = VisJson(
    spec=SourceSpec(
        name="ovis",
        task="detection",
        kind="video",
        needs="{train,valid,test}/<video>/*.jpg and annotations_{train,valid,test}.json",
        expects="607 train, 140 valid and 154 test videos, 25 categories; ground truth of train",
        license="OVIS non-commercial research",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=607),
            "val": ExpectedCounts(num_items=140),
            "test": ExpectedCounts(num_items=154),
        },
        label_space_name="ovis",
    ),
    title="OVIS",
    remedy="unpack the OVIS archives and put the three annotation files beside their folders",
    files={
        split: (VisFiles(annotation=f"annotations_{folder}.json", images=folder),)
        for split, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    },
    group="ovis",
)
