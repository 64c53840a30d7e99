"""The frozen CLIP text tower.

Legend: N strings, W tokens, D text channels.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univs.config import TextConfig
from univs.model.attention import Attention
from univs.model.banks import bank_key, default_bank_folder, read_bank, write_bank
from univs.model.types import TextFeatures

VOCABULARY_SIZE = 49408
MAX_TEMPLATES = 81
TOKENS_AT_ONCE = 8192
"""Tokens encoded at once."""
STRINGS_AT_ONCE = 512
"""Strings whose sentences are tokenized at once."""
MIN_KEPT_SENTENCES = 1000
"""Smaller banks are not worth a file."""
CACHE_SIZE = 8192
"""Strings whose features are remembered."""

KeysValues = tuple[Tensor, Tensor]
"""What a layer's attention looks at, both [N, heads, W, channels of a head]."""


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

    def forward(self, x: Tensor, before: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """Update [N, W, width]; a token sees those before it.

        Args:
            x: Tokens.
            before: What this layer returned of the tokens that precede ``x``.

        Returns:
            The tokens, and the keys and values of all tokens so far.
        """
        normalized = self.ln_1(x)
        queries = self.attn.project_queries(normalized)
        keys, values = self.attn.project_keys(normalized), self.attn.project_values(normalized)
        seen = None
        if before is not None:
            keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
            num_tokens, num_seen = queries.shape[2], keys.shape[2]
            every = torch.ones(num_tokens, num_seen, dtype=torch.bool, device=x.device)
            seen = every.tril(num_seen - num_tokens)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen, is_causal=before is None
        )
        x = x + self.attn.project_output(attended)
        hidden = self.c_fc(self.ln_2(x))
        return x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden)), (keys, values)


class TextEncoder(nn.Module):
    """Encode names and expressions; features of seen strings are remembered.

    ``bank_folder`` keeps large banks for later processes, by default in the user's cache; ``None`` keeps
    none.
    """

    def __init__(self, config: TextConfig, reference_compat: bool = False) -> None:
        """Build the tower.

        Args:
            config: Its size.
            reference_compat: Encode as the original does: strings that are too long lose their end token, and
                padding counts as words.
        """
        super().__init__()
        if not 1 <= config.num_templates <= MAX_TEMPLATES:
            raise ValueError(f"num_templates is {config.num_templates}, expected 1 to {MAX_TEMPLATES}")
        self.config = config
        self.reference_compat = reference_compat
        self.bank_folder = default_bank_folder()
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_layers))
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, config.embed_dim))
        self._encoded: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._banks: dict[tuple[str, ...], Tensor] = {}
        self._adopted: dict[tuple[str, ...], Tensor] = {}
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
            x = self._embed(tokens)
            for layer in self.layers:
                x, _ = layer(x)
            return self._project(x)

    def tokenize(self, strings: Sequence[str]) -> Tensor:
        """Give token ids [N, W], cut to the longest string: nothing before looks at the padding after."""
        start, end, size = tokenizer().sot_token_id, tokenizer().eot_token_id, self.config.context_length
        rows = [torch.tensor([start, *tokenizer().encode(string), end][:size]) for string in strings]
        if self.reference_compat:
            rows[0] = F.pad(rows[0], (0, size - len(rows[0])))
        else:
            for row in rows:
                row[-1] = end
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    @torch.inference_mode(mode=False)
    def encode(self, strings: Sequence[str]) -> TextFeatures:
        """Encode strings: sentences [N, D], words [N, W, D] and which words are no padding [N, W]."""
        for string in dict.fromkeys(strings):
            # One by one, so that features do not depend on what else is encoded, and a resumed run repeats.
            if string not in self._encoded:
                self._encoded[string] = (self._sentences([string])[0], self._words(string))
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
            adopted = self._find_adopted(key)
            self._banks[key] = self._find_bank(key) if adopted is None else adopted
        device = self.text_projection.device
        self._banks[key] = self._banks[key].to(device)
        return self._banks[key]

    def adopt(self, texts: Sequence[str], bank: Tensor) -> None:
        """Take features [K, D] of texts from elsewhere; banks of only such texts are not encoded."""
        expected = (len(texts), self.config.embed_dim)
        if tuple(bank.shape) != expected:
            raise ValueError(
                f"the bank to adopt is {tuple(bank.shape)}, expected {expected}: a row for each text"
            )
        self._adopted[tuple(texts)] = bank.detach().float()
        self._banks.clear()

    def _find_adopted(self, names: tuple[str, ...]) -> Tensor | None:
        """Give the rows of the bank adopted for these texts, else those of the first that holds them all."""
        if names in self._adopted:
            return self._adopted[names]
        for texts, bank in self._adopted.items():
            rows = dict(zip(texts, bank, strict=True))
            if rows.keys() >= set(names):
                return torch.stack([rows[name] for name in names])
        return None

    def _find_bank(self, names: tuple[str, ...]) -> Tensor:
        """Read a bank that is large enough to be kept, or encode it."""
        templates = prompt_templates()[: self.config.num_templates]
        folder = self.bank_folder
        if folder is None or len(names) * len(templates) < MIN_KEPT_SENTENCES:
            return self._encode_bank(names)
        settings = {**asdict(self.config), "templates": templates, "reference_compat": self.reference_compat}
        key = bank_key(settings, self.state_dict(), names)
        bank = read_bank(folder, key, (len(names), self.config.embed_dim))
        if bank is None:
            bank = self._encode_bank(names)
            write_bank(folder, key, bank)
        return bank

    def _encode_bank(self, names: tuple[str, ...]) -> Tensor:
        return torch.cat([self._sentences(chunk) for chunk in _chunks(names)])

    def _words(self, string: str) -> Tensor:
        """Encode a string in the plain template: [W, D]."""
        tokens = self.tokenize([prompt_templates()[0].format(string)])
        words: Tensor = self(tokens.to(self.text_projection.device))[0]
        return words

    def _sentences(self, strings: Sequence[str]) -> Tensor:
        """Average the end tokens' features over templates: [N, D]."""
        templates = prompt_templates()[: self.config.num_templates]
        tokens = self.tokenize([template.format(string) for string in strings for template in templates])
        return self._ends(tokens.unflatten(0, (len(strings), len(templates)))).mean(1)

    @torch.no_grad()
    def _ends(self, tokens: Tensor) -> Tensor:
        """Encode the ends of sentences [N, M, W] of N strings in M templates: [N, M, D].

        A token depends only on those before it, so what all strings share of a template, its beginning, is
        encoded once. Sentences with as many tokens before and after go together, without padding.
        """
        lengths = _end_lengths(tokens)
        num_shared = _shared_lengths(tokens).clamp(max=lengths.amin(0) - 1)
        left = lengths - num_shared
        ends = self.text_projection.new_empty(*tokens.shape[:2], self.config.embed_dim)
        with torch.autocast(ends.device.type, enabled=False):
            for start in num_shared.unique().tolist():
                columns = (num_shared == start).nonzero()[:, 0]
                before = self._begin(tokens[0, columns, :start].to(ends.device))
                for length in left[:, columns].unique().tolist():
                    cells = (left[:, columns] == length).nonzero()
                    for rows, picked in (part.T for part in cells.split(max(1, TOKENS_AT_ONCE // length))):
                        own = tokens[rows, columns[picked], start : start + length].to(ends.device)
                        ends[rows, columns[picked]] = self._finish(own, before, picked.to(ends.device))
        return ends

    def _begin(self, tokens: Tensor) -> list[KeysValues] | None:
        """Encode beginnings [M, W] for sentences to follow."""
        if not tokens.shape[1]:
            return None
        x, seen = self._embed(tokens), []
        for layer in self.layers:
            x, keys_values = layer(x)
            seen.append(keys_values)
        return seen

    def _finish(self, tokens: Tensor, before: list[KeysValues] | None, rows: Tensor) -> Tensor:
        """Encode the last of the tokens [N, W] that follow beginnings, given by their rows [N]: [N, D]."""
        x = self._embed(tokens, 0 if before is None else before[0][0].shape[2])
        for index, layer in enumerate(self.layers):
            x, _ = layer(x, None if before is None else (before[index][0][rows], before[index][1][rows]))
        return self._project(x[:, -1])

    def _embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        return self.token_embedding(tokens) + self.positional_embedding[start : start + tokens.shape[1]]

    def _project(self, x: Tensor) -> Tensor:
        return self.ln_final(x) @ self.text_projection

    def _trim(self, used: Sequence[str]) -> None:
        """Forget the strings used longest ago."""
        for string in used:
            self._encoded.move_to_end(string)
        while len(self._encoded) > CACHE_SIZE:
            self._encoded.popitem(last=False)


def _end_lengths(tokens: Tensor) -> Tensor:
    """Count token ids [..., W] up to the end token, which has the highest id of the vocabulary: [...].

    Where it was cut off, that is up to the highest id, as in the original: the start token.
    """
    return tokens.argmax(-1) + 1


def _shared_lengths(tokens: Tensor) -> Tensor:
    """Count the leading tokens that all N strings [N, M, W] share, by template: [M]."""
    return (tokens == tokens[:1]).all(0).cumprod(-1).sum(-1)


def _chunks(strings: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(strings), STRINGS_AT_ONCE):
        yield strings[start : start + STRINGS_AT_ONCE]


def _forget(module: nn.Module, incompatible_keys: object) -> None:
    """Drop features of the weights that were just replaced."""
    assert isinstance(module, TextEncoder)
    module._encoded.clear()
    module._banks.clear()
