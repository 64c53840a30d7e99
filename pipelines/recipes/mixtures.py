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
        *_referring_images(1.0),
    )


def clip_sources(frames_per_clip: int) -> tuple[StageSource, ...]:
    """List the twelve sets of stage 2, images among them."""
    return (
        *_shared_sources(frames_per_clip, _FAR_FRAMES),
        *_referring_images(0.5),
        StageSource(dataset="refytvos", weight=0.35, frame_range_frames=_FAR_FRAMES),
    )


def video_sources(
    frames_per_clip: int, *, referring_images: float = 0.35, range_frames: int = _FAR_FRAMES
) -> tuple[StageSource, ...]:
    """List the sets of stage 3: those of stage 2 with more referring video.

    ``referring_images`` is the weight of all RefCOCOs; frames of a clip lie within ``range_frames`` of one.
    """
    return (
        *_shared_sources(frames_per_clip, range_frames),
        *_referring_images(referring_images),
        StageSource(dataset="refytvos", weight=0.5, frame_range_frames=range_frames),
    )


def _referring_images(weight: float) -> tuple[StageSource, ...]:
    shares = {"refcoco": 0.3, "refcocoplus": 0.3, "refcocog": 0.4}
    # Short decimals: the order of training repeats after as many steps as the weights have digits for.
    return tuple(StageSource(dataset=name, weight=round(share * weight, 4)) for name, share in shares.items())


def _shared_sources(frames_per_clip: int, range_frames: int) -> tuple[StageSource, ...]:
    return (
        StageSource(dataset="coco_panoptic", weight=0.25),
        StageSource(dataset="entityseg", weight=0.5),
        StageSource(dataset="lvis", weight=0.15),
        StageSource(dataset="sa_1b", weight=0.25),
        StageSource(dataset="ytvis_2021", weight=0.25, frame_range_frames=range_frames),
        StageSource(dataset="ovis", weight=0.35, frame_range_frames=2 * frames_per_clip),
        StageSource(dataset="vipseg", weight=0.5, frame_range_frames=range_frames),
        StageSource(dataset="ytvos_2018", weight=0.25, frame_range_frames=_NEAR_FRAMES),
        StageSource(dataset="mose", weight=0.15, frame_range_frames=_NEAR_FRAMES),
        StageSource(dataset="burst", weight=0.15, frame_range_frames=_NEAR_FRAMES),
    )
