import pytest

from univs.training.config import LossConfig, OptimizerConfig, PromptSampling, TrainConfig


def test_loss_config_point_counts_follow_the_ratios():
    losses = LossConfig(num_points=12544)
    assert (losses.num_uncertain, losses.num_candidates, losses.num_sampled) == (6272, 37632, 43904)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LossConfig(num_points=0), "num_points"),
        (lambda: LossConfig(oversample_ratio=0.5), "oversample_ratio"),
        (lambda: LossConfig(importance_ratio=1.5), "importance_ratio"),
        (lambda: PromptSampling(mask_probability=0.9), "sum to 1"),
        (lambda: PromptSampling(visual_probability=2), "visual_probability"),
        (lambda: PromptSampling(max_objects=0), "max_objects"),
        (lambda: OptimizerConfig(milestones=(0.9, 0.5)), "milestones"),
        (lambda: OptimizerConfig(learning_rate=0), "learning_rate"),
        (lambda: TrainConfig(num_steps=0), "num_steps"),
        (lambda: TrainConfig(ema_decay=1), "ema_decay"),
    ],
)
def test_config_out_of_range_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
