"""Which faults a soak has, and when: drawn from its seed, each kind in turn, with quiet in between."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from market_maker.emulator.faults import MEANINGS, FaultError, parse_fault

NO_FAULTS: Final = "none"
# It says how a maintenance ends, and does nothing by itself.
_NO_FAULT_ALONE: Final = "post_only_after_s"
_SHORTEST_S, _LONGEST_S = 2.0, 15.0
_SHORTEST_REST_S, _LONGEST_REST_S = 10.0, 45.0
_CALM_S: Final = 30.0
_CALM_SHARE: Final = 0.2


def chosen_faults(named: Sequence[str]) -> list[str]:
    """Faults to draw from: those named, all where none is, none for `none`.

    Raises
    ------
    FaultError
        If there is no such fault, or it has a window: when it comes is drawn.

    Examples
    --------
    >>> chosen_faults(["lost_replies=0.2", "close_streams"])
    ['lost_replies=0.2', 'close_streams']
    """
    if NO_FAULTS in named:
        return []
    for text in named:
        parse_fault(text)
        if "@" in text:
            msg = f"fault {text!r}: expected NAME[=VALUE] alone, a soak draws by itself when it comes"
            raise FaultError(msg)
    return list(named) or [name for name in MEANINGS if name != _NO_FAULT_ALONE]


def draw_windows(faults: Sequence[str], seconds: float, seed: int) -> list[str]:
    """Windows for so long, as the emulator's `--fault` has them: all in a drawn order, again and again.

    The beginning and the end are calm: a start and a stop in order belong to a soak.
    """
    draws = np.random.default_rng(seed)
    calm_s = min(_CALM_S, _CALM_SHARE * seconds)
    # A short soak is to have some too.
    scale = min(seconds / 600.0, 1.0)
    windows: list[str] = []
    at_s = calm_s
    while faults:
        for number in draws.permutation(len(faults)):
            lasts_s = float(draws.uniform(_SHORTEST_S, _LONGEST_S)) * max(scale, 0.1)
            if at_s + lasts_s > seconds - calm_s:
                return windows
            windows.append(f"{faults[number]}@{at_s:.1f}+{lasts_s:.1f}")
            at_s += lasts_s + float(draws.uniform(_SHORTEST_REST_S, _LONGEST_REST_S)) * scale
    return windows
