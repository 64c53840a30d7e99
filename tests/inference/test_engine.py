import pytest

from univs.inference.config import InferenceConfig
from univs.inference.engine import ClipStream, clip_ranges, inference_on
from univs.inference.frames import VideoInput


@pytest.mark.parametrize("num_frames", [1, 3, 5, 6, 7, 12])
@pytest.mark.parametrize(("frames_per_clip", "clip_stride"), [(5, 1), (5, 5), (3, 2), (1, 1), (4, 3)])
def test_clip_ranges_finish_every_frame_once_and_in_order(num_frames, frames_per_clip, clip_stride):
    spans = list(clip_ranges(num_frames, frames_per_clip, clip_stride))
    finished = [frame for span in spans for frame in range(span.start, span.finished_stop)]
    assert finished == list(range(num_frames))
    assert [span.is_last for span in spans] == [False] * (len(spans) - 1) + [True]
    assert all(span.start == index * clip_stride for index, span in enumerate(spans))
    assert all(1 <= span.num_frames <= frames_per_clip for span in spans)


def test_clip_ranges_of_a_short_last_clip_report_the_overlap():
    spans = list(clip_ranges(6, 4, 3))
    assert [(s.start, s.overlap_stop, s.stop, s.finished_stop) for s in spans] == [(0, 0, 4, 3), (3, 4, 6, 6)]


@pytest.mark.parametrize("clip_stride", [1, 2, 4])
def test_every_frame_passes_the_backbone_once(model, make_frames, clip_stride):
    frames = make_frames(11)
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].clone()))
    config = InferenceConfig(frames_per_clip=4, clip_stride=clip_stride, short_edge_px=64)
    try:
        with inference_on(model, config):
            video = VideoInput(video_id="v", frames=frames)
            indices = [clip.features.frame_indices[0].tolist() for clip in ClipStream(model, video, config)]
    finally:
        hook.remove()
    assert len(seen) == 11
    assert all((first - second).abs().max() > 0 for first, second in zip(seen, seen[1:], strict=False))
    assert indices[0] == [0, 1, 2, 3]
    assert indices[-1][-1] == 10


def test_cached_features_equal_those_of_the_whole_clip(model, make_frames):
    frames = make_frames(6)
    config = InferenceConfig(frames_per_clip=3, short_edge_px=64)
    with inference_on(model, config):
        clips = list(ClipStream(model, VideoInput(video_id="v", frames=frames), config))
        alone = ClipStream(
            model,
            VideoInput(video_id="v", frames=frames[:6]),
            InferenceConfig(frames_per_clip=6, short_edge_px=64),
        )
        whole = next(iter(alone)).features
    for level, expected in zip(clips[2].features.levels, whole.levels, strict=True):
        assert (level - expected[:, 2:5]).abs().max() < 1e-4


def test_inference_restores_training_mode_even_after_an_error(model):
    def fail_inside():
        with inference_on(model, InferenceConfig()):
            raise RuntimeError(f"training: {model.training}")

    model.train()
    with pytest.raises(RuntimeError, match="training: False"):
        fail_inside()
    assert model.training
    model.eval()


@pytest.mark.parametrize(
    "settings",
    [{"frames_per_clip": 0}, {"clip_stride": 6}, {"overlap_threshold": 1.5}, {"memory_frames": -1}],
)
def test_config_refuses_impossible_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        InferenceConfig(**settings)
