"""The frozen CLIP text tower.

Legend: N strings, W tokens, D text channels.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from univs.config import TextConfig
from univs.model.attention import Attention
from univs.model.types import TextFeatures

VOCABULARY_SIZE = 49408
MAX_TEMPLATES = 81
BATCH_SIZE = 512
"""Token sequences encoded at once."""
CACHE_SIZE = 8192
"""Strings whose features are remembered."""


@cache
def tokenizer() -> Any:
    """Give CLIP's byte-pair tokenizer; padding is 0, and what it cuts still ends with the end token."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@cache
def prompt_templates() -> tuple[str, ...]:
    """List the plain template, ``a photo of a {}.`` and the rest of OpenAI's 80 ImageNet templates."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    photo = "a photo of a {}."
    templates = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
    return ("{}.", photo, *(template for template in templates if template != photo))


class TextLayer(nn.Module):
    """A pre-norm transformer layer with QuickGELU."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config.width, config.num_heads)
        self.ln_2 = nn.LayerNorm(config.width)
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)
        self.reset_parameters(config)

    def reset_parameters(self, config: TextConfig) -> None:
        """Draw weights as CLIP does before training, the residual branches by depth."""
        branch_std = config.width**-0.5 * (2 * config.num_layers) ** -0.5
        nn.init.normal_(self.attn.in_proj_weight, std=config.width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=branch_std)
        nn.init.normal_(self.c_fc.weight, std=(2 * config.width) ** -0.5)
        nn.init.normal_(self.c_proj.weight, std=branch_std)

    def forward(self, x: Tensor) -> Tensor:
        """Update [N, W, width]; a token sees those before it."""
        normalized = self.ln_1(x)
        x = x + self.attn(normalized, normalized, normalized, is_causal=True)
        hidden = self.c_fc(self.ln_2(x))
        return x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class TextEncoder(nn.Module):
    """Encode names and expressions; features of seen strings are remembered."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        if not 1 <= config.num_templates <= MAX_TEMPLATES:
            raise ValueError(f"num_templates is {config.num_templates}, expected 1 to {MAX_TEMPLATES}")
        self.config = config
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_layers))
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, config.embed_dim))
        self._encoded: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._banks: dict[tuple[str, ...], Tensor] = {}
        self.reset_parameters()
        self.requires_grad_(requires_grad=False)
        self.register_load_state_dict_post_hook(_forget)

    def reset_parameters(self) -> None:
        """Draw weights as CLIP does before training, so that strings stay apart even untrained."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=self.config.width**-0.5)

    def train(self, mode: bool = True) -> "TextEncoder":
        """Stay in evaluation mode."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Encode token ids [N, W] -> projected token features [N, W, D], float32."""
        with torch.autocast(tokens.device.type, enabled=False):
            x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
            for layer in self.layers:
                x = layer(x)
            return self.ln_final(x) @ self.text_projection

    def tokenize(self, strings: Sequence[str]) -> Tensor:
        """Give token ids [N, W], cut to the longest string: nothing before looks at the padding after."""
        tokens = tokenizer()(list(strings), self.config.context_length)
        return tokens[:, : int(_lengths(tokens).max())]

    @torch.inference_mode(mode=False)
    def encode(self, strings: Sequence[str]) -> TextFeatures:
        """Encode strings: sentences [N, D], words [N, W, D] and which words are no padding [N, W]."""
        missing = [string for string in dict.fromkeys(strings) if string not in self._encoded]
        for chunk in _chunks(missing):
            words, num_words = self._words(chunk)
            for row, sentence in enumerate(self._sentences(chunk)):
                self._encoded[chunk[row]] = (sentence, words[row, : num_words[row]].clone())
        device = self.text_projection.device
        sentences = [self._encoded[string][0].to(device) for string in strings]
        word_lists = [self._encoded[string][1].to(device) for string in strings]
        self._trim(strings)
        lengths = torch.tensor([len(rows) for rows in word_lists], device=device)
        padded = nn.utils.rnn.pad_sequence(word_lists, batch_first=True)
        valid = torch.arange(padded.shape[1], device=device) < lengths[:, None]
        return TextFeatures(sentences=torch.stack(sentences), words=padded, word_valid=valid)

    @torch.inference_mode(mode=False)
    def bank(self, names: Sequence[str]) -> Tensor:
        """Encode category names as a text bank [K, D]."""
        key = tuple(names)
        if key not in self._banks:
            chunks = [self._sentences(chunk) for chunk in _chunks(key)]
            self._banks[key] = torch.cat(chunks)
        device = self.text_projection.device
        self._banks[key] = self._banks[key].to(device)
        return self._banks[key]

    def _words(self, strings: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Encode strings in the plain template: [N, W, D] and the number of words of each."""
        tokens = self.tokenize([prompt_templates()[0].format(string) for string in strings])
        return self(tokens.to(self.text_projection.device)), _lengths(tokens).tolist()

    def _sentences(self, strings: Sequence[str]) -> Tensor:
        """Average the end tokens' features over templates: [N, D]."""
        templates = prompt_templates()[: self.config.num_templates]
        sentences = [template.format(string) for string in strings for template in templates]
        ends = torch.cat([self._ends(chunk) for chunk in _chunks(sentences)])
        return ends.unflatten(0, (len(strings), len(templates))).mean(1)

    def _ends(self, sentences: Sequence[str]) -> Tensor:
        tokens = self.tokenize(sentences).to(self.text_projection.device)
        return self(tokens)[torch.arange(len(sentences), device=tokens.device), _lengths(tokens) - 1]

    def _trim(self, used: Sequence[str]) -> None:
        """Forget the strings used longest ago."""
        for string in used:
            self._encoded.move_to_end(string)
        while len(self._encoded) > CACHE_SIZE:
            self._encoded.popitem(last=False)


def _lengths(tokens: Tensor) -> Tensor:
    """Count token ids [N, W] up to the end token, which has the highest id of the vocabulary: [N]."""
    return tokens.argmax(-1) + 1


def _chunks(strings: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(strings), BATCH_SIZE):
        yield strings[start : start + BATCH_SIZE]


def _forget(module: nn.Module, incompatible_keys: object) -> None:
    """Drop features of the weights that were just replaced."""
    assert isinstance(module, TextEncoder)
    module._encoded.clear()
    module._banks.clear()
