"""What UniVS trains on: the datasets of its three stages and their shares, as in the released configurations.

RefCOCO, RefCOCO+ and RefCOCOg share the weight of the original's one merged set by their numbers of images.
OVIS clips lie close together, as its objects cross one another all the time.
"""

from jobs.config import StageSource

_FAR_FRAMES, _NEAR_FRAMES = 40, 20


def image_sources() -> tuple[StageSource, ...]:
    """List the image sets of stage 1."""
    return (
        StageSource(dataset="coco_panoptic", weight=1.0),
        StageSource(dataset="entityseg", weight=1.0),
        StageSource(dataset="lvis", weight=0.5),
        StageSource(dataset="sa_1b", weight=1.0),
        StageSource(dataset="refcoco", weight=0.3),
        StageSource(dataset="refcocoplus", weight=0.3),
        StageSource(dataset="refcocog", weight=0.4),
    )


def clip_sources(frames_per_clip: int) -> tuple[StageSource, ...]:
    """List the twelve sets of stage 2, images among them."""
    return (
        *_shared_sources(frames_per_clip),
        StageSource(dataset="refcoco", weight=0.15),
        StageSource(dataset="refcocoplus", weight=0.15),
        StageSource(dataset="refcocog", weight=0.2),
        StageSource(dataset="refytvos", weight=0.35, frame_range_frames=_FAR_FRAMES),
    )


def video_sources(frames_per_clip: int) -> tuple[StageSource, ...]:
    """List the sets of stage 3: those of stage 2 with more referring video and less referring images."""
    return (
        *_shared_sources(frames_per_clip),
        StageSource(dataset="refcoco", weight=0.105),
        StageSource(dataset="refcocoplus", weight=0.105),
        StageSource(dataset="refcocog", weight=0.14),
        StageSource(dataset="refytvos", weight=0.5, frame_range_frames=_FAR_FRAMES),
    )


def _shared_sources(frames_per_clip: int) -> tuple[StageSource, ...]:
    return (
        StageSource(dataset="coco_panoptic", weight=0.25),
        StageSource(dataset="entityseg", weight=0.5),
        StageSource(dataset="lvis", weight=0.15),
        StageSource(dataset="sa_1b", weight=0.25),
        StageSource(dataset="ytvis_2021", weight=0.25, frame_range_frames=_FAR_FRAMES),
        StageSource(dataset="ovis", weight=0.35, frame_range_frames=2 * frames_per_clip),
        StageSource(dataset="vipseg", weight=0.5, frame_range_frames=_FAR_FRAMES),
        StageSource(dataset="ytvos_2018", weight=0.25, frame_range_frames=_NEAR_FRAMES),
        StageSource(dataset="mose", weight=0.15, frame_range_frames=_NEAR_FRAMES),
        StageSource(dataset="burst", weight=0.15, frame_range_frames=_NEAR_FRAMES),
    )
