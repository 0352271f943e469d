"""What a calibration found, with how well it fits, or why it is refused.

It lies below `backtest` and `calibration`, so that both may build on it.
"""

from dataclasses import asdict, dataclass
from typing import Any

NOT_FITTED = "nothing was fitted"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Taker orders that reach at least δ ticks from the mid: λ(δ) = A·exp(−k·δ), on one side of the book.

    Attributes
    ----------
    a_per_s : float
        A, orders a second; `a_error` is the standard error of A. All are 0 where the fit is refused.
    k_per_tick : float
        k, a tick; `k_error` is its standard error.
    r2 : float
        Share of the variance of ln λ that the line explains, weighted as in the fit.
    orders : int
        Taker orders of both sides that reach the nearest distance of the range used.
    from_ticks, to_ticks : float
        Range of distances that was used.
    depths_ticks, rates_per_s : tuple of float
        The whole curve as measured: distance, and orders a second on one side.
    refused : str
        Why the fit is not to be used; empty where it is good.
    """

    a_per_s: float = 0.0
    a_error: float = 0.0
    k_per_tick: float = 0.0
    k_error: float = 0.0
    r2: float = 0.0
    orders: int = 0
    from_ticks: float = 0.0
    to_ticks: float = 0.0
    depths_ticks: tuple[float, ...] = ()
    rates_per_s: tuple[float, ...] = ()
    refused: str = NOT_FITTED


@dataclass(frozen=True, slots=True)
class Volatility:
    """How much the mid moves.

    Attributes
    ----------
    sigma_ticks : float
        Ticks per square root of a second; 0 where refused. `sigma_error` is its standard error.
    sigma_bps : float
        Bps per square root of a minute.
    interval_s : float
        Length of the overlapping returns that both come from.
    returns : int
        Returns of that length that do not overlap, as many as the time covered holds.
    by_interval_bps : tuple of (s, bps/√min)
        What other lengths give: a market whose figure rises with the length is no random walk at short ones.
    refused : str
        Why it is not to be used; empty where it is good.
    """

    sigma_ticks: float = 0.0
    sigma_error: float = 0.0
    sigma_bps: float = 0.0
    interval_s: float = 0.0
    returns: int = 0
    by_interval_bps: tuple[tuple[float, float], ...] = ()
    refused: str = NOT_FITTED


@dataclass(frozen=True, slots=True)
class MicroPrice:
    """Where the mid is expected to go by the sizes at the best prices, as `MicroPriceSettings` takes it.

    Attributes
    ----------
    table : tuple of float
        Shares of the half-spread, row by row; empty where refused.
    spreads_ticks : tuple of float
        Widest spread of each row.
    uncut, errors : tuple of float
        The table before it was cut to the spread, −1 … 1, and the standard errors of what was cut.
    steps, moves : int
        Changes of the best quotes or their sizes, and those that moved the mid.
    terms : int
        Moves of the mid after which the sum had converged.
    refused : str
        Why it is not to be used; empty where it is good.
    """

    table: tuple[float, ...] = ()
    spreads_ticks: tuple[float, ...] = ()
    uncut: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    steps: int = 0
    moves: int = 0
    terms: int = 0
    refused: str = NOT_FITTED


@dataclass(frozen=True, slots=True)
class Ranges:
    """What other estimators than σ's say, all in bps per √minute, from one-minute bars of the mid.

    Attributes
    ----------
    minutes : int
        Whole minutes of trusted book.
    close_bps, parkinson_bps, garman_klass_bps, rogers_satchell_bps, yang_zhang_bps : float
        From closes (about their mean), and from ranges.
    realised_bps, bipower_bps : float
        From pairs of neighbouring returns: with jumps, and without.
    jump_share : float
        Share of the realised variance that is jumps, RV − BV; 0 where BV is the larger.
    two_scale_bps : float
        From mids a second apart over the longest time without a gap, freed of their noise.
    refused : str
        Why there are none; empty where there are.
    """

    minutes: int = 0
    close_bps: float = 0.0
    parkinson_bps: float = 0.0
    garman_klass_bps: float = 0.0
    rogers_satchell_bps: float = 0.0
    yang_zhang_bps: float = 0.0
    realised_bps: float = 0.0
    bipower_bps: float = 0.0
    jump_share: float = 0.0
    two_scale_bps: float = 0.0
    refused: str = NOT_FITTED


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a market from a part of its recording, and nothing later.

    Attributes
    ----------
    start_ns, end_ns : int
        The part: from its first event up to, and without, the end.
    seconds : float
        Time in it with a trusted book; rates are per second of this.
    mid_ticks, spread_ticks : float
        Averages over that time.
    symmetric_half_ticks : float
        Best half-width of the symmetric baseline on this part; 0: not looked for.
    micro_price, ranges : MicroPrice, Ranges
        A table for the fair value, and the mid's volatility by other estimators; the models need neither.
    """

    market: str
    start_ns: int = 0
    end_ns: int = 0
    seconds: float = 0.0
    mid_ticks: float = 0.0
    spread_ticks: float = 0.0
    volatility: Volatility = Volatility()
    arrivals: Arrivals = Arrivals()
    symmetric_half_ticks: float = 0.0
    micro_price: MicroPrice = MicroPrice()
    ranges: Ranges = Ranges()

    @property
    def sigma_ticks(self) -> float:
        """Volatility, ticks per √s; 0 where refused."""
        return self.volatility.sigma_ticks

    @property
    def sigma_bps(self) -> float:
        """Volatility, bps per √minute; 0 where refused."""
        return self.volatility.sigma_bps

    @property
    def a_per_s(self) -> float:
        """Orders a second at the mid, on one side, by the fitted line; 0 where refused."""
        return self.arrivals.a_per_s

    @property
    def k_per_tick(self) -> float:
        """Fall of ln λ a tick; 0 where refused."""
        return self.arrivals.k_per_tick

    @property
    def refused(self) -> str:
        """Why models cannot run on it; empty where they can."""
        return self.arrivals.refused or self.volatility.refused

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, nested as here, and `refused` of the whole beside them."""
        return {**asdict(self), "refused": self.refused}
