"""How our orders are assumed to fill: what a recording cannot say, assumed three ways beside each other.

A recording shows how large a level is, not where in its queue an order of ours would have stood: when it
shrinks without a trade, those who left may have stood ahead of us or behind. That is the whole difference:

* `pessimistic`: all of them stood behind us. Only trades bring us forward. Nothing real is worse than this.
* `base`: the share behind us is b²/(b² + f²), with b behind and f ahead: those at the longer end leave first,
  so an order that has just joined moves up faster than by its share, and one that is nearly there hardly.
* `optimistic`: all of them stood ahead of us. Nothing real is better, as far as queues go.

The rest is the same in all: partial fills, no more than traded; a book that shows the other side at our price
fills us with what it shows, since whoever wrote that order would have met ours first. That is the adverse
kind of fill, so to leave it out would flatter. None of them lets our order move the market.

`trade_through` is for venues whose trades do not say who took: an order fills where a trade prints beyond its
price, never at it, and never by the book, which such a venue may show coarser than it trades. There it is the
only one: the others would read queues off sides that somebody guessed.

Fees are Extended's: makers nothing, takers 2.5 bps. Its rebates go by the share of all maker volume in 30
days (0.2 bps from 0.5 %, 0.4 from 1 %, 0.8 from 2.5 %, 1.3 from 5 %, credited daily from 10 USD). A recording
knows our share of one market in its own days; to credit that is a choice, and off unless asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from market_maker.domain import NS_PER_S
from market_maker.fills.rows import REBATE_TIERS, QueueModel, StrategyRow
from market_maker.instrument import Instrument
from market_maker.recordings.parquet_source import SIDES_INFERRED
from market_maker.recordings.store import CODES, TRADE_BUY, TRADE_SELL, TRADE_UNKNOWN, MarketInfo

BASE: Final = "base"
TRADE_THROUGH: Final = "trade_through"
_TRADES: Final = tuple(CODES[code] for code in (TRADE_BUY, TRADE_SELL, TRADE_UNKNOWN))
_UNSURE_SHARE: Final = 0.01
_PPB_PER_BPS: Final = 100_000
# Share of the volume in parts per million, rebate in 10⁻⁹.
_TIERS: Final = ((5_000, 20_000), (10_000, 40_000), (25_000, 80_000), (50_000, 130_000))
_LEAST_CREDIT_USD: Final = 10


@dataclass(frozen=True, slots=True)
class FillModel:
    """One assumption about fills; see `fills.rows.StrategyRow` for what the fields do."""

    name: str
    queue_model: QueueModel
    queue_power: float = 2.0
    book_fills: bool = True


@dataclass(frozen=True, slots=True)
class Fees:
    """What fills cost, bps of their value; with `rebate_tiers` a share of the volume earns Extended's."""

    maker_bps: float = 0.0
    taker_bps: float = 2.5
    rebate_tiers: bool = False


_ALL: Final = (
    FillModel("pessimistic", QueueModel.RISK_AVERSE),
    FillModel(BASE, QueueModel.POWER),
    FillModel("optimistic", QueueModel.AHEAD),
    FillModel(TRADE_THROUGH, QueueModel.TRADE_THROUGH, book_fills=False),
)
MODELS: Final = MappingProxyType({model.name: model for model in _ALL})
_WITH_SIDES: Final = tuple(model for model in _ALL if model.name != TRADE_THROUGH)


def sided(wanted: Sequence[str] = ()) -> tuple[FillModel, ...]:
    """Fill models for trades that say who took: those wanted, else the three."""
    return tuple(MODELS[name] for name in dict.fromkeys(wanted)) or _WITH_SIDES


def unsure_share(info: MarketInfo) -> float:
    """Share of a market's trades whose taker is not known, or only inferred."""
    trades = sum(info.counts.get(name, 0) for name in _TRADES)
    unsure = info.counts.get(CODES[TRADE_UNKNOWN], 0) + info.findings.get(SIDES_INFERRED, 0)
    return min(unsure / trades, 1.0) if trades else 0.0


def are_sides_sure(info: MarketInfo) -> bool:
    """Whether trades say who took, all but a few."""
    return unsure_share(info) <= _UNSURE_SHARE


def models_for(info: MarketInfo, wanted: Sequence[str] = ()) -> tuple[FillModel, ...]:
    """Fill models of a market: those wanted, else the three, or `trade_through` alone where sides are unsure.

    Raises
    ------
    KeyError
        For a name that is no model.
    """
    return sided(wanted) if are_sides_sure(info) else (MODELS[TRADE_THROUGH],)


def fill_row(model: FillModel, latency_s: float, fees: Fees, instrument: Instrument) -> StrategyRow:
    """Row of the fill engine.

    Parameters
    ----------
    latency_s : float
        From sending to the exchange, and as long again from there back; of orders and cancels alike.
    """
    latency_ns = round(latency_s * NS_PER_S)
    tiers = np.array(_TIERS if fees.rebate_tiers else [(0, 0)] * REBATE_TIERS, np.int64)
    return StrategyRow(
        queue_model=int(model.queue_model),
        queue_power=model.queue_power,
        book_fills=model.book_fills,
        maker_fee_ppb=round(fees.maker_bps * _PPB_PER_BPS),
        taker_fee_ppb=round(fees.taker_bps * _PPB_PER_BPS),
        rebate_share_ppm=tiers[:, 0].copy(),
        rebate_ppb=tiers[:, 1].copy(),
        rebate_least_tick_lots=int(_LEAST_CREDIT_USD / instrument.value(1, 1)),
        request_ns=latency_ns,
        reply_ns=latency_ns,
        cancel_request_ns=latency_ns,
        cancel_reply_ns=latency_ns,
    )
