"""Configuration of training: losses, prompt sampling, optimizer and the run itself."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Weights and sizes of the losses and of the matcher."""

    class_weight: float = 5.0
    """Weight of the class loss."""
    mask_weight: float = 5.0
    """Weight of the mask cross-entropies."""
    dice_weight: float = 5.0
    """Weight of the dice loss."""
    reid_weight: float = 0.5
    """Weight of every identity loss (0.5 for ResNet, 0.25 for Swin; half of that on long videos)."""
    num_points: int = 12544
    """Points per object and frame that mask losses look at; also the matcher's points per frame."""
    oversample_ratio: float = 3.0
    """Candidate points per point kept, for the uncertain share."""
    importance_ratio: float = 0.5
    """Share of the points taken where the prediction is least certain; the rest are uniform."""
    focal_alpha: float = 0.5
    """Weight of positives in the focal loss, one minus it for negatives."""
    focal_gamma: float = 2.0
    """Focusing exponent of the focal loss."""
    match_class_weight: float = 3.0
    """Class cost in the matcher."""
    match_class_sharpness: float = 5.0
    """Factor on class probabilities before the matcher's softmax over categories."""
    match_mask_weight: float = 5.0
    """Mask cross-entropy cost in the matcher."""
    match_dice_weight: float = 5.0
    """Dice cost in the matcher."""
    max_ignored_share: float = 0.5
    """A query without an object whose mask lies in ignored pixels by more than this is no negative."""
    num_reid_columns: int = 20
    """Tokens each token is compared with: three quarters of known objects, one quarter of others."""
    num_interclip_columns: int = 30
    """Tokens each object is compared with across the clips of a video."""
    num_interclip_positives: int = 3
    """Tokens of the same object drawn across the clips of a video."""

    def __post_init__(self) -> None:
        """Refuse sizes that leave a loss without points."""
        if self.num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {self.num_points}")
        if self.oversample_ratio < 1:
            raise ValueError(f"oversample_ratio must be at least 1, got {self.oversample_ratio}")
        if not 0 <= self.importance_ratio <= 1:
            raise ValueError(f"importance_ratio must lie in [0, 1], got {self.importance_ratio}")

    @property
    def num_uncertain(self) -> int:
        """Points per object and frame chosen by uncertainty."""
        return int(self.importance_ratio * self.num_points)

    @property
    def num_candidates(self) -> int:
        """Points per frame among which the uncertain ones are chosen; never fewer than ``num_points``."""
        return int(self.oversample_ratio * self.num_points)

    @property
    def num_sampled(self) -> int:
        """Points per frame that are sampled at all: candidates, then the uniform share."""
        return self.num_candidates + self.num_points - self.num_uncertain


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSampling:
    """How prompts are drawn from ground truth."""

    visual_probability: float = 0.5
    """Chance that a detection batch is prompted by regions and not by category names."""
    mask_probability: float = 0.5
    """Chance that a region prompt is a mask."""
    box_probability: float = 0.25
    """Chance that a region prompt is a box."""
    point_probability: float = 0.25
    """Chance that a region prompt is a point."""
    max_objects: int = 20
    """Objects per clip with mask and identity losses, and prompts per clip."""
    box_jitter: float = 0.1
    """Largest relative change of the size and place of a large box."""
    jitter_min_area: float = 0.09
    """Boxes covering less of the image than this are not moved."""

    def __post_init__(self) -> None:
        """Refuse probabilities that are none, and a cap of zero."""
        kinds = (self.mask_probability, self.box_probability, self.point_probability)
        if min(kinds) < 0 or abs(sum(kinds) - 1) > 1e-6:
            raise ValueError(f"mask, box and point probability must sum to 1, got {kinds}")
        if not 0 <= self.visual_probability <= 1:
            raise ValueError(f"visual_probability must lie in [0, 1], got {self.visual_probability}")
        if self.max_objects < 1:
            raise ValueError(f"max_objects must be at least 1, got {self.max_objects}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW and its learning-rate schedule."""

    learning_rate: float = 5e-5
    """Learning rate after warm-up, before the first milestone."""
    weight_decay: float = 0.05
    """Decay of everything but norms, embeddings and relative position biases."""
    backbone_multiplier: float = 0.1
    """Factor on the learning rate of the backbone."""
    max_grad_norm: float = 0.01
    """Norm the whole gradient is clipped to."""
    warmup_steps: int = 0
    """Steps over which the learning rate grows linearly from nothing."""
    milestones: tuple[float, ...] = (0.9,)
    """Fractions of the run after which the learning rate decays."""
    decay: float = 0.1
    """Factor on the learning rate at each milestone."""

    def __post_init__(self) -> None:
        """Refuse milestones outside the run or out of order."""
        inside = all(0 < milestone <= 1 for milestone in self.milestones)
        if not inside or list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must be ascending fractions in (0, 1], got {self.milestones}")
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError("learning_rate and max_grad_norm must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run (one stage of the curriculum)."""

    num_steps: int = 1000
    """Optimizer steps of the run."""
    frames_per_clip: int = 1
    """Frames decoded together; longer batches are cut into clips that overlap by one frame or more."""
    losses: LossConfig = field(default_factory=LossConfig)
    prompts: PromptSampling = field(default_factory=PromptSampling)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_decay: float = 0.0
    """Share of the averaged weights kept at each step; 0 keeps no average."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Type of the forward pass; losses, weights and optimizer are always fp32."""
    seed: int = 0
    """Origin, with the step and the rank, of every random draw."""
    report_every_steps: int = 10
    """Steps between two reports; each report waits once for the device."""

    def __post_init__(self) -> None:
        """Refuse runs that could not take a step."""
        for name in ("num_steps", "frames_per_clip", "report_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
