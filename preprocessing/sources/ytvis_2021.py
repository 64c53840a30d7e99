"""YouTube-VIS 2021: 2,985 train, 421 valid and 453 test videos, 40 classes, every fifth frame of 30 fps.

8,171 instances and 232 thousand masks in all. It annotates the videos of 2019 anew and adds others; its 40
classes are not those of 2019, though both count 1..40. The archives hold ``<split>/instances.json``; many
copies keep ``<split>.json`` beside the folders. Ground truth of ``valid`` and ``test`` is on a server. The
folders are those of YouTube-VOS, so a video may be in the training set of one and in another's validation.
"""

from preprocessing.sources.source import ExpectedCounts, SourceSpec
from preprocessing.sources.vis_json import VisFiles, VisJson

YTVIS_2021 = VisJson(
    spec=SourceSpec(
        name="ytvis_2021",
        task="detection",
        kind="video",
        needs="{train,valid,test}/JPEGImages/<video>/*.jpg and {train,valid,test}/instances.json",
        expects="2,985 train, 421 valid and 453 test videos, 40 categories; ground truth of train",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=2985),
            "val": ExpectedCounts(num_items=421),
            "test": ExpectedCounts(num_items=453),
        },
        label_space_name="ytvis_2021",
    ),
    title="YouTube-VIS 2021",
    remedy="unpack the 2021 archives of train and valid there",
    files={
        split: (
            VisFiles(annotation=f"{folder}/instances.json", images=f"{folder}/JPEGImages"),
            VisFiles(annotation=f"{folder}.json", images=f"{folder}/JPEGImages"),
        )
        for split, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    },
    group="ytvos",
    frames_per_second=6.0,
)
