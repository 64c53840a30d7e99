"""Settings of video inference, with the published settings of each task as complete configurations."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceConfig:
    """How a video is cut into clips and how what the model says of them is put together."""

    frames_per_clip: int = 5
    """Frames the decoder sees at once."""
    clip_stride: int = 1
    """Frames between the starts of two clips; at most ``frames_per_clip``."""
    memory_frames: int = 5
    """Frames before the clip whose pixel tokens every object keeps, besides its first one."""
    short_edge_px: int = 640
    """Shorter image side the model sees."""
    max_long_edge_px: int = 1333
    """Cap on the longer side; the shorter one shrinks with it."""
    encode_batch_frames: int = 5
    """Frames the image encoder takes at once."""
    max_detections: int = 50
    """Learnable queries kept per clip."""
    max_objects: int = 100
    """Entities followed at once; no new one starts while all places are taken."""
    patience_clips: int = 30
    """Clips an entity may stay unseen before it is no longer looked for."""
    class_threshold: float = 0.25
    """Smallest class probability times mask quality of a detection."""
    new_entity_factor: float = 1.0
    """The class threshold is this many times higher for entities that start in later clips."""
    new_object_threshold: float = 0.1
    """Smallest bi-softmax similarity at which a detection is an entity seen before."""
    fuse_factor: float = 2.0
    """A matched detection's mask is fused above this many times ``new_object_threshold``."""
    match_iou_threshold: float = 0.5
    """Mask IoU above which two masks in one clip are the same entity."""
    overlap_threshold: float = 0.5
    """Smallest share of its own pixels that an object must win against the others."""
    stability_threshold: float = 0.25
    """Smallest mask quality of a detection."""
    box_nms_threshold: float = 0.85
    """Box IoU in any frame at which the weaker of two detections is dropped."""
    mask_nms_threshold: float = 0.6
    """Mask IoU at which the weaker of two stuff detections is dropped."""
    consistency_threshold: float = 0.25
    """Smallest cosine agreement of a prompt's embedding with those of earlier clips."""
    stuff_score_factor: float = 0.75
    """Weight of stuff against things where they compete for a pixel."""
    expression_memory: bool = True
    """Whether expressions also look at the masks predicted for them in earlier frames."""
    class_prompts: bool = True
    """Whether panoptic images are also prompted with the names of the stuff classes."""
    autocast_bfloat16: bool = False
    """Run the model in bfloat16 where that is safe; needs a device that supports it."""

    def __post_init__(self) -> None:
        """Refuse counts below one and a stride that would skip frames."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.clip_stride > self.frames_per_clip:
            raise ValueError(
                f"clip_stride {self.clip_stride} would skip frames: at most frames_per_clip "
                f"{self.frames_per_clip}"
            )
        for name in _FRACTIONS:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


def image_defaults() -> InferenceConfig:
    """Give the settings of panoptic images (COCO)."""
    return InferenceConfig(
        frames_per_clip=1,
        short_edge_px=800,
        max_detections=100,
        class_threshold=0.05,
        overlap_threshold=0.8,
        stability_threshold=0.0,
        box_nms_threshold=0.9,
    )


def vis_defaults() -> InferenceConfig:
    """Give the settings of video instance segmentation (YouTube-VIS 2021)."""
    return InferenceConfig()


def vps_defaults() -> InferenceConfig:
    """Give the settings of video panoptic segmentation (VIPSeg)."""
    return InferenceConfig(
        max_detections=100,
        class_threshold=0.15,
        new_entity_factor=2.0,
        new_object_threshold=0.05,
        fuse_factor=1.0,
        overlap_threshold=0.6,
        stability_threshold=0.0,
        box_nms_threshold=0.75,
        consistency_threshold=0.05,
    )


def vss_defaults() -> InferenceConfig:
    """Give the settings of video semantic segmentation (VSPW): clips do not overlap."""
    return InferenceConfig(clip_stride=5)


def vos_defaults() -> InferenceConfig:
    """Give the settings of video object segmentation (DAVIS, YouTube-VOS, VIPOSeg)."""
    return InferenceConfig(overlap_threshold=0.25, consistency_threshold=0.5)


def refvos_defaults() -> InferenceConfig:
    """Give the settings of referring video object segmentation (Ref-YouTube-VOS, Ref-DAVIS)."""
    return InferenceConfig(consistency_threshold=0.5)


_COUNTS = (
    "frames_per_clip",
    "clip_stride",
    "memory_frames",
    "short_edge_px",
    "max_long_edge_px",
    "encode_batch_frames",
    "max_detections",
    "max_objects",
    "patience_clips",
)
_FRACTIONS = (
    "class_threshold",
    "new_object_threshold",
    "match_iou_threshold",
    "overlap_threshold",
    "stability_threshold",
    "box_nms_threshold",
    "mask_nms_threshold",
    "consistency_threshold",
    "stuff_score_factor",
)
