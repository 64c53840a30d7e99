"""The model's configuration tree: every size of UniVS, miniature to Swin-L, is these numbers."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig:
    """The image backbone."""

    name: str = "resnet50"
    """A timm model with ``features_only`` support, or ``swin_{t,s,b,l}`` for the released Swin weights."""
    frozen_stages: int = 0
    """Stages that get no gradient, counted from the stem: 0 none, 5 all."""
    drop_path: float = 0.0
    """Stochastic-depth rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelDecoderConfig:
    """The multi-scale deformable pixel decoder."""

    num_layers: int = 6
    num_heads: int = 8
    num_points: int = 4
    """Sampling points per head and level."""
    ffn_dim: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """The unified video mask decoder."""

    num_queries: int = 200
    """Learnable queries."""
    num_layers: int = 9
    num_heads: int = 8
    ffn_dim: int = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """Visual prompts."""

    tokens_per_object: int = 32
    """Pixel features taken inside a prompted region, per object and frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """The frozen CLIP text tower (RN50x4 shape by default)."""

    width: int = 640
    num_layers: int = 12
    num_heads: int = 10
    context_length: int = 77
    embed_dim: int = 640
    num_templates: int = 81
    """Prompt templates averaged per category or expression; the first is ``{}.``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """UniVS."""

    hidden_dim: int = 256
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pixel_decoder: PixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    text: TextConfig = field(default_factory=TextConfig)
    position: Literal["arbitrary_t", "fixed_t", "2d"] = "arbitrary_t"
    """Time term of the sine position encoding: absolute frame index, index in the clip, or none."""
    class_head: Literal["text", "linear"] = "text"
    """Where categories come from: the text bank given to ``decode``, or a linear layer, as in Mask2Former."""
    num_linear_classes: int = 0
    """Categories of the linear class head, whose last row beyond them says no object; 0 without it."""
    reference_compat: bool = False
    """Do as the original does where it errs: prompt regions read off every eighth pixel, prompt tokens
    that are blank or padding attended to, and the faults of its training losses. For parity with the
    original's numbers; leave off otherwise."""

    def __post_init__(self) -> None:
        """Refuse widths that the heads or the sine encoding cannot split."""
        for part in (self.pixel_decoder, self.decoder):
            if self.hidden_dim % (2 * part.num_heads):
                raise ValueError(
                    f"hidden_dim {self.hidden_dim} must be a multiple of twice num_heads {part.num_heads}"
                )
        if (self.class_head == "linear") != (self.num_linear_classes > 0):
            raise ValueError(
                f"class_head {self.class_head} does not go with num_linear_classes {self.num_linear_classes}"
            )
        if self.hidden_dim % 4:
            raise ValueError(f"hidden_dim {self.hidden_dim} must be a multiple of 4")
