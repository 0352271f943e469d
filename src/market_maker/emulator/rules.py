"""How the exchange behaves, as switches.

What extended-api.md calls unknown (the order of frames, terminal states, codes that nobody documents) is a
field here with the likelier answer as its default, so that a client can be tried against every answer.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

import numpy as np

from market_maker.domain import NS_PER_MS


class Departures(Enum):
    """From where others leave a queue when the size that they show at a price falls."""

    BACK = "back"
    PROPORTIONAL = "proportional"


class Mode(Enum):
    """What the exchange admits at present."""

    OPEN = "open"
    POST_ONLY = "post_only"
    REDUCE_ONLY = "reduce_only"
    MAINTENANCE = "maintenance"


class FailureStatus(Enum):
    """Terminal status of an order that the matching engine refuses because it would have crossed."""

    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Delay:
    """A latency: a constant and an exponential tail."""

    base_ms: float = 0.0  # smallest value
    tail_ms: float = 0.0  # mean of the exponential part on top

    def draw_ns(self, rng: np.random.Generator) -> int:
        """Draw one latency, ns."""
        tail_ms = self.tail_ms * float(rng.standard_exponential()) if self.tail_ms > 0 else 0.0
        return round((self.base_ms + tail_ms) * NS_PER_MS)


@dataclass(frozen=True, slots=True)
class LatencyRules:
    """The four legs of a request, and the order in which its two answers arrive."""

    request: Delay = Delay(20.0, 5.0)  # caller to the REST API
    matching: Delay = Delay(5.0, 5.0)  # REST API to the matching engine
    reply: Delay = Delay(20.0, 5.0)  # REST API back to the caller
    stream: Delay = Delay(20.0, 5.0)  # event to the subscriber of a stream
    stream_first_probability: float = 0.3  # chance that the account stream tells before the REST reply does


@dataclass(frozen=True, slots=True)
class OrderRules:
    """Order handling where the documentation is silent, and limits."""

    post_only_failure: FailureStatus = FailureStatus.REJECTED
    departures: Departures = Departures.PROPORTIONAL
    replacement_counts_filled: bool = (
        False  # whether a replacement's size includes what its predecessor filled
    )
    price_band_code: int = 1141  # code of an order outside the price band
    cancel_unknown_code: int = 404  # code, and HTTP status if it is one, of a cancel of an unknown order
    maintenance_http_status: int = 503  # HTTP status that goes with code 1010
    max_expiry_days: int = 90  # furthest expiry of an order
    requests_per_minute: int = 1000  # of an account, or of an address without one, look-ups included
    one_rate_limit: bool = False  # whether all share the limit, as all of one address do on the exchange
    history_limit: int = 100_000  # closed orders, trades and payments kept per account


@dataclass(frozen=True, slots=True)
class StreamRules:
    """Cadence and order of stream frames."""

    book_interval_ms: int = 100  # least time between book deltas
    book_snapshot_s: int = 60  # time between book snapshots of a subscription
    bbo_interval_ms: int = 10  # least time between frames of the best prices
    mark_interval_ms: int = 1000  # time between looks at mark and index price
    balance_interval_s: float = (
        5.0  # time between balance frames while a position is open, 0: after events only
    )
    fill_frame_order: tuple[str, ...] = ("ORDER", "TRADE", "POSITION", "BALANCE")  # frames after one event
    closed_positions_sent: bool = True  # whether a position that became flat is sent as CLOSED, or not at all
    empty_deltas_sent: bool = True  # whether a book that changed and changed back is told as an empty delta
    zeros_in_snapshots: bool = True  # whether some prices of whole books have trailing zeros, as captured


@dataclass(frozen=True, slots=True)
class MoneyRules:
    """Fees, mark price, funding and liquidation."""

    maker_fee: Decimal = Decimal(0)  # fraction of notional, negative: rebate
    taker_fee: Decimal = Decimal("0.00025")  # fraction of notional
    mark_basis_s: float = 60.0  # time constant of the EMA of mid minus index that the mark adds to the index
    funding_speedup: float = 1.0  # how many times faster than the clock funding hours pass
    funding_sample_s: float = 5.0  # time between samples of the premium index
    funding_interest: float = 0.0001  # interest term of the funding rate, 8 hours
    funding_clamp: float = 0.0005  # limit of interest minus premium, 8 hours
    funding_premium: float = 0.0  # of the generated or recorded price over the index, a fraction
    impact_notional_usd: Decimal = Decimal(10_000)  # size at which the premium's impact prices are taken
    liquidation_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """All switches of the exchange."""

    latency: LatencyRules = field(default_factory=LatencyRules)
    orders: OrderRules = field(default_factory=OrderRules)
    streams: StreamRules = field(default_factory=StreamRules)
    money: MoneyRules = field(default_factory=MoneyRules)
    mode: Mode = Mode.OPEN
