"""The augmentation of the released models, its defects mended: one set of parameters per clip."""

from univs.data.augment import AugmentConfig

_COLOR = 0.1
_ROTATION_DEGREES = 15.0


def square() -> AugmentConfig:
    """Give large-scale jitter: a scale of 0.25 to 4, cut or padded to a square of 1024."""
    return AugmentConfig(
        jitter_canvas_px=1024,
        brightness=_COLOR,
        contrast=_COLOR,
        saturation=_COLOR,
        rotation_degrees=_ROTATION_DEGREES,
        motion_shift=0.1,
        motion_zoom=0.1,
    )


def short_edge(max_long_edge_px: int) -> AugmentConfig:
    """Give a short edge of 512 to 800, half of the clips cropped first."""
    return AugmentConfig(
        max_long_edge_px=max_long_edge_px,
        crop_px=(600, 1024),
        brightness=_COLOR,
        contrast=_COLOR,
        saturation=_COLOR,
        rotation_degrees=_ROTATION_DEGREES,
        motion_shift=0.1,
        motion_zoom=0.1,
    )
