"""Made markets for the signals: log mids one a second, closes one a minute; and a module left uncompiled."""

import importlib.util
import math
import os
from types import ModuleType

import numpy as np
import pytest

from market_maker import kernel as kernel_module
from market_maker.domain import NS_PER_S
from market_maker.realised_volatility import VolatilitySettings

PURE = os.environ.get("NUMBA_DISABLE_JIT") == "1"
T0 = 1_700_000_000 * NS_PER_S
SMALL = VolatilitySettings(
    vol_short_window_s=8.0,
    vol_medium_window_s=20.0,
    vol_long_window_s=40.0,
    vol_fast_window_s=6.0,
    vol_short_return_s=2.0,
    vol_medium_return_s=3.0,
    vol_long_return_s=5.0,
)


def seconds(n: int) -> np.ndarray:
    return T0 + np.arange(n) * NS_PER_S


def walk(n: int, sigma_bps: float, seed: int = 1) -> np.ndarray:
    """Log mids of a random walk, one a second, of the given volatility per root of a minute."""
    steps = np.random.default_rng(seed).normal(0.0, sigma_bps * 1e-4 / math.sqrt(60.0), n)
    return np.round(math.log(100.0) + np.cumsum(steps), 8)


def candles(n: int, sigma_bps: float) -> np.ndarray:
    """Closes whose one-minute returns are all of one size."""
    signs = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    return 100.0 * np.exp(np.cumsum(signs * sigma_bps * 1e-4))


def pure_copy(module: ModuleType) -> ModuleType:
    """Load a module once more with a decorator that compiles nothing."""
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_module, "kernel", lambda function: function)
        spec.loader.exec_module(copy)
    return copy
