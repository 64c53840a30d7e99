"""The models of the recipes: the sizes of the paper, and the miniature that trains on a laptop."""

from univs.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PromptConfig,
    TextConfig,
)


def released(backbone: str, *, frozen_stages: int = 0, drop_path: float = 0.0) -> ModelConfig:
    """Give UniVS as published, on ``resnet50``, ``swin_t``, ``swin_b`` or ``swin_l``."""
    return ModelConfig(
        backbone=BackboneConfig(name=backbone, frozen_stages=frozen_stages, drop_path=drop_path)
    )


def miniature() -> ModelConfig:
    """Give the same network in numbers that train in minutes on two CPU cores (about 5 M parameters)."""
    return ModelConfig(
        hidden_dim=64,
        backbone=BackboneConfig(name="test_convnext2"),
        pixel_decoder=PixelDecoderConfig(num_layers=2, num_heads=4, num_points=4, ffn_dim=128),
        decoder=DecoderConfig(num_queries=20, num_layers=3, num_heads=4, ffn_dim=128),
        prompts=PromptConfig(tokens_per_object=16),
        text=TextConfig(
            width=64, num_layers=2, num_heads=2, context_length=24, embed_dim=64, num_templates=1
        ),
    )
