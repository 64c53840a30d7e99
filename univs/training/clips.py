"""Cut a video into clips that are decoded one after the other."""

from dataclasses import replace

from univs.model.types import Features


def cut_clips(num_frames: int, frames_per_clip: int) -> list[tuple[int, int]]:
    """Cut frames into clips that share a frame with the next; the last is moved back to the video's end."""
    if num_frames <= frames_per_clip:
        return [(0, num_frames)]
    last = num_frames - frames_per_clip
    starts = [*range(0, last, max(frames_per_clip - 1, 1)), last]
    return [(start, start + frames_per_clip) for start in starts]


def slice_features(features: Features, start: int, stop: int) -> Features:
    """Keep frames start..stop-1 of encoded clips."""
    coarse, middle, fine = features.levels
    return replace(
        features,
        levels=(coarse[:, start:stop], middle[:, start:stop], fine[:, start:stop]),
        mask=features.mask[:, start:stop],
        frame_indices=features.frame_indices[:, start:stop],
    )
