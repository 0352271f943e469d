"""Exact sums over the fills of a contestant, in whole numbers: what its profit is computed from.

Sums of price × size are whole tick·lots, doubled where a mid is in them; rebates are in 10⁻⁹ of one.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.outcome import HORIZONS_S, FillRecord
from market_maker.domain import BPS
from market_maker.fills.rows import TAKER
from market_maker.kernel import row_dtype

ATTRIBUTION_S: Final = 5
_SAFE: Final = 2.0**62

Ints = NDArray[np.int64]


def exact_dot(left: Ints, right: Ints) -> int:
    """Σ left·right, however large.

    >>> exact_dot(np.array([2**40]), np.array([2**40])) == 2**80
    True
    """
    if not len(left):
        return 0
    most = float(np.abs(left).max()) * float(np.abs(right).max()) * len(left)
    if most < _SAFE:
        return int((left * right).sum())
    return sum(a * b for a, b in zip(left.tolist(), right.tolist(), strict=True))


@dataclass
class Fill(FillRecord):
    """A fill while its markouts are awaited."""

    rebate_ppb: int = 0


FILLS: Final = row_dtype(Fill)


@dataclass
class Moves:
    """Sums of fills of one side and level that are as old as a horizon; mids doubled."""

    fills: int = 0
    move2: int = 0  # Σ q·(m_h − m)
    move_from_price2: int = 0
    volume2: int = 0  # Σ |q|·m
    volume_at_price: int = 0  # Σ |q|·p

    def add(self, signed: Ints, rows: NDArray[Any], later: Ints) -> None:
        """Take in fills, their signed sizes and the mids that came later."""
        self.fills += len(rows)
        self.move2 += exact_dot(signed, later - rows["mid2_ticks"])
        self.move_from_price2 += exact_dot(signed, later - 2 * rows["price_ticks"])
        self.volume2 += exact_dot(rows["lots"], rows["mid2_ticks"])
        self.volume_at_price += exact_dot(rows["lots"], rows["price_ticks"])

    def plus(self, other: "Moves") -> "Moves":
        """Both together."""
        return Moves(
            self.fills + other.fills,
            self.move2 + other.move2,
            self.move_from_price2 + other.move_from_price2,
            self.volume2 + other.volume2,
            self.volume_at_price + other.volume_at_price,
        )

    @property
    def bps(self) -> float:
        """Volume-weighted move from the mid at the fill, bps."""
        return self.move2 / self.volume2 * BPS if self.volume2 else 0.0

    @property
    def bps_from_price(self) -> float:
        """The same from the fill's price."""
        return self.move_from_price2 / (2 * self.volume_at_price) * BPS if self.volume_at_price else 0.0


@dataclass
class Sums:
    """Exact sums over the fills whose markouts are known, or never will be."""

    buys: int = 0
    sells: int = 0
    lots: int = 0  # Σ q
    flow: int = 0  # −Σ q·p
    spread2: int = 0
    volume: int = 0
    taker_volume: int = 0
    rebates_ppb: int = 0  # Σ rate·value
    lots5: int = 0  # Σ q of those with a mid after five seconds
    lots_mid5: int = 0  # Σ q·m₅ of them
    adverse2: int = 0  # Σ q·(m₅ − m) of them
    open_lots: int = 0  # Σ q of those without
    open_lots_mid: int = 0  # Σ q·m of them
    moves: dict[tuple[int, int, int], Moves] = field(default_factory=dict)

    def add(self, rows: NDArray[Any]) -> None:
        """Take in fills; a mid of 0 was never seen."""
        signed = rows["side"] * rows["lots"]
        taken = rows["role"] == TAKER
        self.buys += int((rows["side"] > 0).sum())
        self.sells += int((rows["side"] < 0).sum())
        self.lots += int(signed.sum())
        self.flow -= exact_dot(signed, rows["price_ticks"])
        self.spread2 += exact_dot(signed, rows["mid2_ticks"] - 2 * rows["price_ticks"])
        self.volume += exact_dot(rows["lots"], rows["price_ticks"])
        self.taker_volume += exact_dot(rows["lots"][taken], rows["price_ticks"][taken])
        later = rows[f"mid2_{ATTRIBUTION_S}s"]
        known = later > 0
        self.lots5 += int(signed[known].sum())
        self.lots_mid5 += exact_dot(signed[known], later[known])
        self.adverse2 += exact_dot(signed[known], (later - rows["mid2_ticks"])[known])
        self.open_lots += int(signed[~known].sum())
        self.open_lots_mid += exact_dot(signed[~known], rows["mid2_ticks"][~known])
        self._add_rebates(rows)
        self._add_moves(rows, signed)

    def _add_rebates(self, rows: NDArray[Any]) -> None:
        for rate in np.unique(rows["rebate_ppb"]).tolist():
            if rate:
                of = rows[rows["rebate_ppb"] == rate]
                self.rebates_ppb += rate * exact_dot(of["lots"], of["price_ticks"])

    def _add_moves(self, rows: NDArray[Any], signed: Ints) -> None:
        keys = rows["level"] * 4 + rows["side"]
        for key in np.unique(keys).tolist():
            level, side = divmod(key + 1, 4)
            mine = keys == key
            for seconds in HORIZONS_S:
                later = rows[f"mid2_{seconds}s"]
                chosen = mine & (later > 0)
                moves = self.moves.setdefault((side - 1, level, seconds), Moves())
                moves.add(signed[chosen], rows[chosen], later[chosen])
