"""Exponential moving average of the trainable weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averaged copies of a model's trainable parameters; buffers and frozen weights are shared."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start the average at the current weights.

        Args:
            model: The module without any data-parallel wrapper.
            decay: Share of the average kept at each update.
        """
        self.decay = decay
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._averages = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move every average a little towards its weight."""
        averages = list(self._averages.values())
        live: list[Tensor] = list(self._live.values())
        torch._foreach_lerp_(averages, live, 1 - self.decay)

    @contextmanager
    def swap(self) -> Iterator[None]:
        """Put the averages into the model, to evaluate or save it, and the weights back afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """Give the averages by parameter name."""
        return dict(self._averages)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over averages.

        Raises:
            ValueError: they are of other parameters.
        """
        if state.keys() != self._averages.keys():
            odd = sorted(state.keys() ^ self._averages.keys())
            raise ValueError(
                f"averaged weights do not fit the model, {len(odd)} names differ, first {odd[0]!r}"
            )
        for name, average in self._averages.items():
            average.copy_(state[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        averages = list(self._averages.values())
        live: list[Tensor] = list(self._live.values())
        weights = [parameter.clone() for parameter in live]
        torch._foreach_copy_(live, averages)
        torch._foreach_copy_(averages, weights)
