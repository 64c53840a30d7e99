"""Random draws from one generator, behind a seam that a test can replay.

Code whose draws must be replayable (the original's prompt sampler and objective, for parity) asks
this class and nothing else for random numbers; a test hands it a subclass that answers recorded draws.
"""

import torch
from torch import Tensor


class Draws:
    """Draw from one generator, in the order in which the calls are made.

    The numbers are made on the generator's device and then moved, so that one seed gives the same
    numbers wherever the model is.
    """

    def __init__(self, generator: torch.Generator) -> None:
        """Draw from `generator`, whose state every call advances."""
        self.generator = generator

    def rand(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Return uniform numbers of [0, 1), float32 of `shape`."""
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(device)

    def randn(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Return standard normal numbers, float32 of `shape`."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(device)

    def randperm(self, num_items: int, *, device: torch.device | None = None) -> Tensor:
        """Return a random order of range(num_items), int64 of [num_items]."""
        return torch.randperm(num_items, generator=self.generator, device=self.generator.device).to(device)

    def choices(self, num_items: int, num_draws: int, *, device: torch.device | None = None) -> Tensor:
        """Draw with replacement from range(num_items), int64 of [num_draws]."""
        shape = (num_draws,)
        return torch.randint(num_items, shape, generator=self.generator, device=self.generator.device).to(
            device
        )
