"""Random numbers one at a time, drawn in blocks: a call of numpy for each would cost more than its use."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096


class Draws:
    """Uniform, normal and exponential numbers from one seed; each kind has a generator of its own."""

    def __init__(self, seeds: np.random.SeedSequence) -> None:
        uniform, normal, exponential = (np.random.default_rng(seed) for seed in seeds.spawn(3))
        self._uniform = _stream(uniform.random)
        self._normal = _stream(normal.standard_normal)
        self._exponential = _stream(exponential.standard_exponential)

    def uniform(self) -> float:
        """Number in [0, 1)."""
        return next(self._uniform)

    def normal(self) -> float:
        """Standard normal number."""
        return next(self._normal)

    def exponential(self) -> float:
        """Exponential number of mean one."""
        return next(self._exponential)


def _stream(draw: Callable[[int], NDArray[np.float64]]) -> Iterator[float]:
    return chain.from_iterable(draw(_BLOCK).tolist() for _ in repeat(None))
