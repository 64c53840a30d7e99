"""VIPSeg at a height of 720 pixels: what the dataset's own ``change2_720p.py`` makes of the original.

The script scales every frame to a height of 720 and a width of ``int(720 * width / height)``, which may be
odd: images bilinearly, encoded as JPEG anew, and masks to the nearest pixel; smaller videos grow. It writes
``VIPSeg_720P/images`` and ``VIPSeg_720P/panomasks`` beside the lists; UniVS has the images in ``imgs``. Both
are read, and a source folder that is ``VIPSeg_720P`` itself, if the lists were copied there. UniVS is
evaluated on this size; label values, splits and counts are those of VIPSeg.
"""

from preprocessing.sources.source import SourceSpec
from preprocessing.sources.vipseg import COUNTS, LISTS, VipSeg

VIPSEG_720P = VipSeg(
    spec=SourceSpec(
        name="vipseg_720p",
        task="detection",
        kind="video",
        needs=f"VIPSeg_720P/{{images or imgs}}/<video>/*.jpg, VIPSeg_720P/panomasks/<video>/*.png, {LISTS}",
        expects="2,806 train, 343 val and 387 test videos, 124 categories; test without masks",
        license="VIPSeg non-commercial research",
        splits=("train", "val", "test"),
        counts=COUNTS,
        label_space_name="vipseg",
    ),
    folder="VIPSeg_720P",
    image_folders=("images", "imgs"),
)
