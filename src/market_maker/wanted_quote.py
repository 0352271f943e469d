"""Which quote a slot should have now: where, how large, and why none.

The conditions are gathered once for a slot (fair value, volatility, costs, what inventory, trend, funding and
flow do to it), then price, then what the limits in force leave, then size. In a grid price and size are the
line's. Nothing here looks at the order that rests, except to leave it the room that it has.
"""

import math
from typing import Final

from market_maker import (
    funding,
    grid,
    model_quotes,
    order_flow,
    post_only_safety,
    pricing_engine,
    reference_price,
    trend_signal,
    volatility_regime,
)
from market_maker.domain import BPS, Reason, Side
from market_maker.kernel import kernel
from market_maker.pricing_engine import Conditions, OffsetMode
from market_maker.side_gates import life_bps, line_gate, strong_direction
from market_maker.strategy_rows import Account, DecisionRow, Params, Slot, State

_BUY: Final = int(Side.BUY)
_NONE: Final = int(Reason.NONE)
_POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)
_BELOW_MIN_SIZE: Final = int(Reason.BELOW_MIN_SIZE)
_PRICE_BAND: Final = int(Reason.PRICE_BAND)
_NOT_FINITE: Final = int(Reason.NOT_FINITE)
_GRID_IDLE: Final = int(Reason.GRID_IDLE)
_GLFT: Final = int(OffsetMode.GLFT)


@kernel
def carry_bps(p: Params, s: State, a: Account, now_ns: int) -> float:
    """Cost that holding a long is expected to have, bps of its value; negative where longs are paid."""
    return funding.carry_bps(p.funding, s.funding, a.holding, now_ns)


@kernel
def limit_lots(p: Params, s: State, a: Account, side: int, carry: float) -> int:
    """Limit in force on a side: scaled by the regime, halved while volatility is not known, moved by funding.

    What is paid for holding may take back what the regime takes, and no more than that.
    """
    base_lots = a.limit_long_lots if side == _BUY else a.limit_short_lots
    scale = (
        volatility_regime.limit_scale(p.regime_scale, s.market_view.regime)
        if s.warm
        else p.reprice.warmup_limit_scale
    )
    scale = min(scale * funding.limit_scale(p.funding, carry, side), max(scale, 1.0))
    return math.floor(float(max(base_lots, 0)) * scale)


@kernel
def fair_ticks(p: Params, s: State) -> float:
    """Fair value that quotes are placed around: micro-price or mid, leaning on the reference."""
    book = s.book
    local = pricing_engine.fair_value_ticks(
        p.quote, p.micro_price, book.bid_ticks, book.ask_ticks, book.bid_lots, book.ask_lots
    )
    return local * (1.0 + reference_price.lean_bps(p.reference, s.reference) / BPS)


@kernel
def _ask_model(p: Params, s: State, a: Account, c: Conditions, now_ns: int) -> None:
    """Distance and shift by the model, for the inventory in orders of the nearest level."""
    plain_lots = pricing_engine.level_lots(p.quote, p.market, 0, c.fair_ticks)
    orders = a.effective_inventory_lots / float(max(plain_lots, 1))
    trend = s.market_view.trend_direction * trend_signal.strength(p.trend, s.trend)
    holding_s = funding.holding_s(p.funding, a.holding, now_ns)
    drift = model_quotes.drift_bps_per_s(p.model, s.sigma_bps, trend, c.carry_bps, holding_s)
    c.model_half_bps, c.model_shift_bps = model_quotes.half_and_shift(
        p.model, p.model_row, p.offset.offset_mode == _GLFT, s.sigma_bps, orders, drift
    )


@kernel
def gather(p: Params, s: State, a: Account, c: Conditions, now_ns: int) -> None:
    """Put together what a quote is priced by."""
    c.fair_ticks = fair_ticks(p, s)
    c.sigma_bps = s.sigma_bps
    c.spread_bps = s.spread_ema.spread_bps
    c.latency_s = s.market_view.latency_s
    c.fee_bps = p.market.maker_fee_bps
    c.carry_bps = carry_bps(p, s, a, now_ns)
    c.flow_bps = order_flow.shift_bps(p.flow, s.flow, life_bps(p, s))
    c.offset_scale = volatility_regime.offset_scale(p.regime_scale, s.market_view.regime)
    c.inventory_share = pricing_engine.inventory_share(
        a.effective_inventory_lots,
        limit_lots(p, s, a, _BUY, c.carry_bps),
        limit_lots(p, s, a, -_BUY, c.carry_bps),
    )
    c.skew_scale = volatility_regime.skew_scale(p.regime_scale, s.market_view.regime)
    c.skew_scale *= pricing_engine.trend_skew_scale(p.trend, a.effective_inventory_lots, strong_direction(s))
    c.skew_scale *= funding.skew_scale(p.funding, c.carry_bps, a.effective_inventory_lots)
    if pricing_engine.has_model(p.offset):
        _ask_model(p, s, a, c, now_ns)


@kernel
def _price(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow) -> int:
    """Set the wanted price; return why there is none, else NONE."""
    c = d.conditions
    side = slot.side
    opening = side * a.position_lots >= 0
    d.fair_ticks = c.fair_ticks
    d.offset_bps = pricing_engine.offset_bps(p.offset, c, slot.level)
    d.skew_bps = pricing_engine.skew_bps(p.skew, p.offset, c)
    distance = d.offset_bps - float(side) * d.skew_bps
    if opening:
        d.offset_bps *= a.widening
        distance = pricing_engine.quote_distance_bps(p.offset, c, side, d.offset_bps, d.skew_bps)
    target = pricing_engine.target_ticks(side, c.fair_ticks, distance)
    if not math.isfinite(target):
        return _NOT_FINITE
    return _admit(p, s, a, slot, d, pricing_engine.round_outward(side, target))


@kernel
def _admit(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow, price: int) -> int:
    """Set the wanted price within the price band, clear of the other side; return why none, else NONE."""
    side = slot.side
    opening = side * a.position_lots >= 0
    low, high = a.band_low_ticks, a.band_high_ticks
    outside = (side == _BUY and 0 < high < price) or (side != _BUY and price < low)
    if outside and opening:
        return _PRICE_BAND
    if outside:
        price = high if side == _BUY else low
    price = post_only_safety.clamp_price(
        p.post_only, slot.post_only, side, price, s.book.bid_ticks, s.book.ask_ticks
    )
    d.wanted_ticks = price
    return _NONE if price > 0 else _PRICE_BAND


@kernel
def _set_room(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow) -> None:
    """What the limit leaves to this slot.

    Nearer levels go first, so that of two resting orders that are too large together the farther one yields;
    a new or growing order counts every other order that may still fill.
    """
    long_lots = limit_lots(p, s, a, _BUY, d.conditions.carry_bps)
    short_lots = limit_lots(p, s, a, -_BUY, d.conditions.carry_bps)
    position = a.position_lots
    room = long_lots - position if slot.side == _BUY else short_lots + position
    reducing = max(-slot.side * position, 0)
    past_limit = position > long_lots or -position > short_lots
    d.only_reduces = reducing > 0 and (d.gate != _NONE or past_limit)
    if d.gate != _NONE or past_limit:
        room = min(room, reducing)
    own = slot.remaining_lots if slot.resting else 0
    room -= slot.inner_lots
    d.room_lots = max(min(room, max(own, room - slot.outer_lots)), 0)


@kernel
def _size(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow) -> int:
    """Set the wanted size; return why there is none, else NONE."""
    reduces = slot.side * a.position_lots < 0
    plain = pricing_engine.level_lots(p.quote, p.market, slot.level, d.fair_ticks)
    if plain < p.market.min_lots and not reduces:
        return _BELOW_MIN_SIZE
    depth = s.book.bid_depth_lots if slot.side == _BUY else s.book.ask_depth_lots
    if reduces:
        scale = 1.0 + p.quote.reduce_size_growth * math.fabs(d.conditions.inventory_share)
    else:
        scale = pricing_engine.trend_size_scale(p.trend, slot.side, s.market_view.trend_direction)
    lots = min(pricing_engine.scaled_lots(p.quote, p.market, plain, scale, depth), d.room_lots)
    return _settle_size(p, d, lots)


@kernel
def _settle_size(p: Params, d: DecisionRow, lots: int) -> int:
    """Set the wanted size where it can be sent; return why it can not, else NONE."""
    if d.only_reduces and d.room_lots - lots < p.market.min_lots:
        # What would be left could not be sent on its own.
        lots = d.room_lots
    if lots >= p.market.min_lots or (lots > 0 and d.only_reduces and p.market.small_reduce_admitted):
        d.wanted_lots = lots
        return _NONE
    if lots > 0 and d.only_reduces:
        return _BELOW_MIN_SIZE
    return d.gate if d.gate != _NONE else _POSITION_LIMIT


@kernel
def want_line(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow, now_ns: int) -> int:
    """Price and size of the slot's line in the ladder; return why there is none, else NONE."""
    mid = 0.5 * float(s.book.bid_ticks + s.book.ask_ticks)
    plain = pricing_engine.level_lots(p.quote, p.market, 0, mid)
    grid.follow(p.grid, a.ladder, mid, s.sigma_bps, plain, a.position_lots, strong_direction(s), now_ns)
    d.fair_ticks = mid
    d.offset_bps = 0.0
    d.skew_bps = 0.0
    d.gate = line_gate(p, s, a, slot, now_ns)
    price = grid.line_ticks(p.grid, a.ladder, slot.side, slot.level)
    if price <= 0:
        return _GRID_IDLE
    reason = _admit(p, s, a, slot, d, price)
    if reason != _NONE:
        return reason
    _set_room(p, s, a, slot, d)
    lots = grid.rest_lots(p.grid, a.ladder, slot.side, slot.level, p.market.min_lots)
    return _settle_size(p, d, min(lots, d.room_lots))


@kernel
def want_quote(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow) -> int:
    """Set price and size of a level's quote; return why there is none, else NONE."""
    reason = _price(p, s, a, slot, d)
    if reason != _NONE:
        return reason
    _set_room(p, s, a, slot, d)
    return _size(p, s, a, slot, d)
