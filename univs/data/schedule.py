"""The order of training: which dataset a step uses and which samples its slots hold.

Both are pure functions of the mixture, the seed and the step, so they know nothing of ranks or workers
and a run resumes at any step without replay.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from math import lcm

import numpy as np
from numpy.typing import NDArray

_MAX_PERIOD_STEPS = 200_000
_NUM_ROUNDS = 8
"""Of the Feistel network; four already look random, small sets need more."""
_WORD = 2**64 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureSchedule:
    """A periodic weighted round robin over datasets; at every step each count is within one of its ratio."""

    choices: NDArray[np.int64]
    """[period] dataset of each step of a period."""
    counts: NDArray[np.int64]
    """[period + 1, datasets] how often each dataset came before that step of a period."""

    @classmethod
    def from_weights(cls, weights: Sequence[float]) -> "MixtureSchedule":
        """Build the table of one period.

        Weights are read as the decimals they are written as, so 0.15 is exactly 3/20.

        Raises:
            ValueError: no weight, one that is not positive, or a period too long for a table.
        """
        shares = _integer_shares(weights)
        choices = np.array(_fair_order(shares), dtype=np.int64)
        hits = choices[:, None] == np.arange(len(shares))
        return cls(choices=choices, counts=np.concatenate([np.zeros_like(hits[:1]), hits]).cumsum(0))

    @property
    def period(self) -> int:
        """Steps after which the order repeats."""
        return len(self.choices)

    def dataset_at(self, step: int) -> int:
        """Give the dataset that a step trains on."""
        return int(self.choices[step % self.period])

    def count_before(self, step: int, dataset: int) -> int:
        """Count the steps 0..step-1 that train on a dataset."""
        periods, rest = divmod(step, self.period)
        return periods * int(self.counts[-1, dataset]) + int(self.counts[rest, dataset])


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleOrder:
    """An endless sequence of sample numbers: one seeded permutation per epoch."""

    seed: int
    name: str
    """Name of the dataset; datasets of one run are permuted independently."""
    num_samples: int

    def __post_init__(self) -> None:
        """Refuse an empty dataset."""
        if self.num_samples < 1:
            raise ValueError(f"{self.name}: a training set needs at least one sample, found none")

    def sample_at(self, draw: int) -> int:
        """Give the sample of the ``draw``-th draw, counted from 0 over all epochs.

        It takes the same short time for any draw, and no memory: a Feistel network permutes the next
        power of four, and values beyond the samples are permuted again until one is below.
        """
        epoch, value = divmod(draw, self.num_samples)
        keys = _round_keys(self.seed, self.name, epoch)
        half_bits = max(1, -(-(self.num_samples - 1).bit_length() // 2))
        while True:
            value = _permute(value, half_bits, keys)
            if value < self.num_samples:
                return value


def _permute(value: int, half_bits: int, keys: Sequence[int]) -> int:
    """Permute the numbers of ``2 * half_bits`` bits: every round mixes one half into the other."""
    mask = (1 << half_bits) - 1
    left, right = value >> half_bits, value & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return left << half_bits | right


def _mix(value: int) -> int:
    """Scramble 64 bits (the finalizer of splitmix64)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _WORD
    return value ^ value >> 31


@lru_cache(maxsize=1024)
def _round_keys(seed: int, name: str, epoch: int) -> tuple[int, ...]:
    data = blake2b(f"{seed}|{epoch}|{name}".encode(), digest_size=8 * _NUM_ROUNDS).digest()
    return tuple(int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8))


def _integer_shares(weights: Sequence[float]) -> list[int]:
    """Scale weights to the smallest whole numbers of the same ratios."""
    exact = [Fraction(str(weight)) for weight in weights]
    if not exact or min(exact) <= 0:
        raise ValueError(f"mixture weights must be positive and at least one, got {list(weights)}")
    scale = lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    shares = [share // int(np.gcd.reduce(np.array(whole, dtype=object))) for share in whole]
    if sum(shares) > _MAX_PERIOD_STEPS:
        raise ValueError(
            f"mixture weights {list(weights)} repeat only after {sum(shares)} steps, "
            f"at most {_MAX_PERIOD_STEPS} are supported: write them with fewer digits"
        )
    return shares


def _fair_order(shares: Sequence[int]) -> list[int]:
    """Order one period by the chairman assignment rule (Tijdeman 1980).

    The c-th turn of dataset i has a first and a last legal step; serving the most urgent legal turn keeps
    every count within 1 - 1/(2k - 2) of its ratio for k datasets. The common greedy rule (largest
    arrears first) does not: it drifts beyond one for some ratios.
    """
    period, slack = sum(shares), max(1, 2 * len(shares) - 2)

    def turn(dataset: int, count: int) -> tuple[int, int, int, int]:
        opens = -(-period * (slack * count + 1) // (slack * shares[dataset]))
        closes = period * (slack * (count + 1) - 1) // (slack * shares[dataset])
        return opens, closes, dataset, count

    waiting = [turn(dataset, 0) for dataset in range(len(shares))]
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []
    order: list[int] = []
    for step in range(1, period + 1):
        while waiting and waiting[0][0] <= step:
            heapq.heappush(ready, heapq.heappop(waiting)[1:])
        _, dataset, count = heapq.heappop(ready)
        order.append(dataset)
        heapq.heappush(waiting, turn(dataset, count + 1))
    return order
