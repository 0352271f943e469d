"""The risk manager's limits in compiled form: those of one market, in the order in which it asks for them.

Contracts, notional, gross and stress (with one market these three are one limit), order value, price band,
net beta, order rate, loss of a day and drawdown, and what margin lets equity carry; exposure is the worst
case of the slots' orders. Equity is the account's own, as an exchange would state it at every mark.
"""

from typing import Final

from market_maker.backtest.rows import LARGEST, Bench, RiskRow
from market_maker.domain import NS_PER_S, Reason
from market_maker.fills import accounts
from market_maker.kernel import inline_kernel, inner_kernel
from market_maker.strategy_rows import DecisionRow, Slot

_NS_PER_S: Final = NS_PER_S
_NS_PER_DAY: Final = 86_400 * NS_PER_S
_PPM: Final = 1_000_000
_PARTS: Final = 100
_NONE: Final = int(Reason.NONE)
_MARK_MISSING: Final = int(Reason.MARK_MISSING)
_RISK_ORDER_SIZE: Final = int(Reason.RISK_ORDER_SIZE)
_RISK_PRICE_BAND: Final = int(Reason.RISK_PRICE_BAND)
_RISK_POSITION: Final = int(Reason.RISK_POSITION)
_RISK_NOTIONAL: Final = int(Reason.RISK_NOTIONAL)
_RISK_NET_BETA: Final = int(Reason.RISK_NET_BETA)
_RISK_ORDER_RATE: Final = int(Reason.RISK_ORDER_RATE)
_RISK_DAY_LOSS: Final = int(Reason.RISK_DAY_LOSS)
_RISK_DRAWDOWN: Final = int(Reason.RISK_DRAWDOWN)
_RISK_MARGIN: Final = int(Reason.RISK_MARGIN)
_RISK_LIQUIDATION: Final = int(Reason.RISK_LIQUIDATION)
_LARGEST: Final = LARGEST
_NANO_USD: Final = 1000


@inline_kernel
def _share(amount: int, ppm: int) -> int:
    """Whole part of amount × ppm / 10⁶ without a product that is too large."""
    return amount // _PPM * ppm + amount % _PPM * ppm // _PPM


@inline_kernel
def is_news(b: Bench, k: int, mark_parts: int, now_ns: int) -> bool:
    """Whether equity or limits may differ from what they were at the last mark."""
    r, s = b.risks[k], b.world.strategies[k]
    same = r.mark_parts == mark_parts and r.seen_fills == s.fills and r.seen_funding == s.funding
    return not same or now_ns // _NS_PER_DAY != r.day


@inline_kernel
def on_mark(b: Bench, k: int, mark_parts: int, now_ns: int) -> None:
    """Take a mark in (hundredths of a tick): price band, value of a lot, equity and its halts, limits."""
    a, r = b.accounts[k], b.risks[k]
    a.mark_ticks = mark_parts / _PARTS
    high = mark_parts + _share(mark_parts, r.band_up_ppm)
    low = mark_parts - _share(mark_parts, r.band_down_ppm)
    a.band_high_ticks = high // _PARTS if r.band_up_ppm > 0 else 0
    a.band_low_ticks = -(-low // _PARTS) if r.band_down_ppm > 0 else 0
    r.lot_pusd = -(-mark_parts * r.tick_lot_pusd // _PARTS)
    r.mark_parts = mark_parts
    r.seen_fills = b.world.strategies[k].fills
    r.seen_funding = b.world.strategies[k].funding
    _on_equity(b, k, now_ns)
    refresh(b, k)


@inline_kernel
def _on_equity(b: Bench, k: int, now_ns: int) -> None:
    r, s = b.risks[k], b.world.strategies[k]
    cash = s.flow_tick_lots - s.fees + s.rebates + s.funding
    equity = r.start_pusd + cash * r.tick_lot_pusd + s.position_lots * r.lot_pusd
    r.equity_pusd = equity
    day = now_ns // _NS_PER_DAY
    if r.day < 0:
        r.peak_pusd = equity
    if day != r.day:
        r.day = day
        r.day_start_pusd = equity
        if r.halt == _RISK_DAY_LOSS:
            r.halt = _NONE
    r.peak_pusd = max(r.peak_pusd, equity)
    _judge(b, k, now_ns)


@inline_kernel
def _judge(b: Bench, k: int, now_ns: int) -> None:
    """Halt where equity says so; below the maintenance margin the exchange would take the position over."""
    r, s = b.risks[k], b.world.strategies[k]
    least = _share(abs(s.position_lots) * r.lot_pusd, r.maintenance_ppm)
    if s.position_lots != 0 and r.equity_pusd <= least and not r.liquidated:
        r.liquidated = True
        r.halt = _RISK_LIQUIDATION
        accounts.note_liquidation(b.world, k, now_ns, r.mark_parts)
    if r.halt == _NONE:
        if r.peak_pusd - r.equity_pusd >= r.drawdown_pusd:
            r.halt = _RISK_DRAWDOWN
        elif r.day_start_pusd - r.equity_pusd >= r.day_loss_pusd:
            r.halt = _RISK_DAY_LOSS


@inline_kernel
def _carried_pusd(r: RiskRow) -> int:
    """Largest position that equity carries by margin; in nanodollars between, so that it fits."""
    if r.leverage_ppm >= _LARGEST:
        return _LARGEST
    nano = _share(max(r.equity_pusd, 0) // _NANO_USD, r.leverage_ppm)
    return nano * _NANO_USD if nano < _LARGEST // _NANO_USD else _LARGEST


@inline_kernel
def refresh(b: Bench, k: int) -> None:
    """Write the limits in force where decisions read them; a halted account may only reduce."""
    a, r = b.accounts[k], b.risks[k]
    a.limit_long_lots = _limit_lots(r, r.room_long_pusd)
    a.limit_short_lots = _limit_lots(r, r.room_short_pusd)
    a.effective_inventory_lots = float(a.position_lots) + r.others_lots


@inline_kernel
def _limit_lots(r: RiskRow, room_pusd: int) -> int:
    if r.lot_pusd <= 0 or r.halt != _NONE:
        return 0
    pusd = min(r.max_position_pusd, _carried_pusd(r), room_pusd)
    return max(0, min(r.max_position_lots, pusd // r.lot_pusd))


@inner_kernel
def worst_lots(b: Bench, k: int, side: int, size_lots: int, reduces: int) -> int:
    """Longest position on a side if all that may still fill did, and one more (`exposure.worst_case`)."""
    each = len(b.slots) // len(b.params)
    plain, reducing = (0, size_lots) if reduces else (size_lots, 0)
    for i in range(k * each, (k + 1) * each):
        if b.slots[i].side != side:
            continue
        h = b.held[i]
        # An order and the one that is to take its place both count: each may fill first.
        if h.order_id != 0 and h.reduce_only:
            reducing += h.remaining_lots
        elif h.order_id != 0:
            plain += h.remaining_lots
        if h.new_id != 0 and h.new_reduce_only:
            reducing += h.new_remaining_lots
        elif h.new_id != 0:
            plain += h.new_remaining_lots
    position = side * b.accounts[k].position_lots
    return min(0, position + reducing) + plain if position < 0 else position + plain


@inline_kernel
def _refill(r: RiskRow, now_ns: int) -> None:
    full = max(r.rate_n_per_s, _NS_PER_S)
    passed = max(0, now_ns - r.tokens_ns)
    # After a second the bucket is full; no product is larger than a second's.
    gained = full if passed >= _NS_PER_S else passed * (r.rate_n_per_s // 1000) // (_NS_PER_S // 1000)
    r.tokens_n = min(full, r.tokens_n + gained)
    r.tokens_ns = max(now_ns, r.tokens_ns)


@inner_kernel
def refusal(b: Bench, k: int, slot: Slot, d: DecisionRow, now_ns: int) -> int:
    """Why a decision may not become an order, NONE if it may; the order rate is counted here."""
    r = b.risks[k]
    if d.size_lots <= 0 or d.price_ticks <= 0:
        return _RISK_ORDER_SIZE
    lots = worst_lots(b, k, slot.side, d.size_lots, 1 if d.reduce_only else 0)
    _refill(r, now_ns)
    if lots <= 0:
        r.tokens_n = max(0, r.tokens_n - _NS_PER_S)
        return _NONE
    reason = r.halt if r.halt != _NONE else _market_reason(r, slot.side, d, lots)
    if reason == _NONE:
        reason = _margin_reason(r, b.accounts[k].position_lots, lots)
    if reason == _NONE and r.tokens_n < _NS_PER_S:
        reason = _RISK_ORDER_RATE
    if reason == _NONE:
        r.tokens_n -= _NS_PER_S
    return reason


@inline_kernel
def _margin_reason(r: RiskRow, position_lots: int, lots: int) -> int:
    """Limit that equity sets: how near its liquidation a position is, and what margin carries."""
    value = abs(position_lots) * r.lot_pusd
    if value > 0 and r.equity_pusd - _share(value, r.maintenance_ppm) < _share(value, r.distance_ppm):
        return _RISK_LIQUIDATION
    return _RISK_MARGIN if lots > _carried_pusd(r) // r.lot_pusd else _NONE


@inline_kernel
def _market_reason(r: RiskRow, side: int, d: DecisionRow, lots: int) -> int:
    """First limit of the market that an order breaks; `lots` is the worst case on its side with it."""
    value = d.price_ticks * r.tick_lot_pusd
    if r.lot_pusd <= 0:
        return _MARK_MISSING
    if d.size_lots > r.max_order_pusd // value:
        return _RISK_ORDER_SIZE
    if r.band_ppm < _PPM and side * (value - r.lot_pusd) > _share(r.lot_pusd, r.band_ppm):
        return _RISK_PRICE_BAND
    if lots > r.max_position_lots:
        return _RISK_POSITION
    if lots > r.max_position_pusd // r.lot_pusd:
        return _RISK_NOTIONAL
    room_pusd = r.room_long_pusd if side > 0 else r.room_short_pusd
    return _RISK_NET_BETA if lots > room_pusd // r.lot_pusd else _NONE
