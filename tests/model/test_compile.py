"""``torch.compile`` takes encoder and decoder whole, and gives the same numbers."""

import pytest
import torch

from pipelines.recipes import models
from univs.model.types import Features, Predictions
from univs.model.univs import UniVS

NUM_PROMPTS = 3

# Position encodings are cached in Python; a compiled graph works them out anew.
pytestmark = pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")


@pytest.fixture(scope="module")
def model() -> UniVS:
    torch.manual_seed(0)
    return UniVS(models.miniature()).eval()


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def encode(model: UniVS, frames: torch.Tensor) -> Features:
    return model.encode(frames, torch.arange(frames.shape[1])[None])


def decode(model: UniVS, features: Features, sentences: torch.Tensor) -> Predictions:
    valid = torch.ones(sentences.shape[:2], dtype=torch.bool)
    prompts = model.prompt(features, sentences, valid)
    return model.decode(features, prompts, sentences[0])


def compiled(function):
    """Compile without falling back to Python anywhere: a graph break is an error."""
    return torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)


def test_encoder_compiles_whole_and_gives_the_same_features(model):
    frames = torch.randn(1, 2, 3, 64, 96)
    with torch.no_grad():
        expected, got = encode(model, frames), compiled(encode)(model, frames)
    torch.testing.assert_close(got.mask, expected.mask, rtol=1e-4, atol=1e-4)
    for level, (found, wanted) in enumerate(zip(got.levels, expected.levels, strict=True)):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, msg=f"level {level}")


def test_decoder_compiles_whole_and_gives_the_same_predictions(model):
    sentences = torch.randn(1, NUM_PROMPTS, model.config.text.embed_dim)
    with torch.no_grad():
        features = encode(model, torch.randn(1, 2, 3, 64, 96))
        expected, got = (run(model, features, sentences) for run in (decode, compiled(decode)))
    torch.testing.assert_close(got.mask_logits(), expected.mask_logits(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got.final.class_logits, expected.final.class_logits, rtol=1e-3, atol=1e-3)


def test_gradients_through_the_compiled_encoder_are_the_same(model):
    frames = torch.randn(1, 1, 3, 64, 64)
    gradients = []
    for run in (encode, compiled(encode)):
        model.zero_grad()
        features = run(model, frames)
        torch.stack([part.square().mean() for part in (*features.levels, features.mask)]).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-3 * scale, msg=name)
