"""The account as a session finds it: positions, money, what filled while nobody listened, what still rests.

After a restart the journal says which positions there must be: those of its last checkpoint, and every fill
since. What the exchange's history has beside these filled while we were down. Only where both together are
what the exchange holds is anything traded; that they are also shows that no position moved between the
look-ups, and the money is looked at twice.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from typing import Final

from market_maker.clock import Clock
from market_maker.config import Config
from market_maker.config_sections import Network, SessionSettings
from market_maker.domain import NewOrder
from market_maker.gateway import (
    BalanceReport,
    FillReport,
    FundingPayment,
    Gateway,
    OrderReport,
    PositionReport,
    VenueError,
)
from market_maker.instrument import Instrument
from market_maker.ledger import OpeningPosition
from market_maker.order_manager import OrderManager, RecoverPolicy
from market_maker.past import LOOK_BACK_NS, Past, PaymentKey, TradeKey, payment_key, trade_key
from market_maker.start_refusals import UNKNOWN_ORDERS, BooksDisagree

_EXACT_DIGITS: Final = 60
_LOOKS: Final = 6
_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class AccountOpening:
    """What a session begins with.

    Parameters
    ----------
    equity : Decimal
        At the marks of the position reports, USD.
    missed : tuple of FillReport
        Fills that are in the positions and in no journal yet, oldest first.
    adopted : mapping
        Orders of ours that rest, as they were sent, with what the exchange says of them.
    known : frozenset
        Keys of the fills that are in the positions.
    missed_payments : tuple of FundingPayment
        Funding that is in the equity and in no journal yet, oldest first.
    known_payments : frozenset
        Keys of the payments since `payments_since_ns` that are in the equity.
    past : Past
        What is to be gone on with: nothing, where this is an emulator that was started anew.
    """

    positions: Mapping[str, OpeningPosition]
    equity: Decimal
    missed: tuple[FillReport, ...] = ()
    adopted: tuple[tuple[NewOrder, OrderReport], ...] = ()
    known: frozenset[TradeKey] = frozenset()
    missed_payments: tuple[FundingPayment, ...] = ()
    known_payments: frozenset[PaymentKey] = frozenset()
    payments_since_ns: int = 0
    past: Past = field(default_factory=Past)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the account."""

    fills: tuple[FillReport, ...]
    resting: tuple[OrderReport, ...]
    positions: tuple[PositionReport, ...]
    balance: BalanceReport
    payments: tuple[FundingPayment, ...]
    payments_since_ns: int
    is_still: bool

    def lots(self, market: str) -> int:
        return next((report.size_lots for report in self.positions if report.market == market), 0)


async def open_account(
    gateway: Gateway,
    config: Config,
    instruments: Mapping[str, Instrument],
    past: Past,
    leftovers: OrderManager,
    clock: Clock,
) -> AccountOpening:
    """Cancel what is not to be gone on with, and look at the account until it is what it must be.

    Parameters
    ----------
    leftovers : OrderManager
        Finds and cancels what an earlier run left open.

    Raises
    ------
    BooksDisagree
        If the exchange's positions are not those that the journal and the exchange's own history lead to.
    VenueError
        If the exchange does not answer.
    """
    # Before positions are read: an order of an earlier run that fills after that would be in no book of ours.
    kept = (await leftovers.recover(RecoverPolicy.CANCEL, instruments, keep=past.orders)).kept
    past = replace(past, orders={name: past.orders[name] for name in kept})
    since_ns = past.asks_since_ns if past.is_known else None
    agreed: _Look | None = None
    for attempt in range(_LOOKS):
        look = await _look(gateway, since_ns, past, clock.now_ns())
        if config.of(SessionSettings).network is Network.EMULATOR and _is_another(look, past):
            past, since_ns, look = Past(past.whose), None, replace(look, fills=(), resting=())
        if past.positions_accepted or not _differences(look, instruments, past):
            agreed = look
            if look.is_still:
                break
        # What moves between the look-ups makes a difference that the next look does not have.
        await asyncio.sleep(_PAUSE_S)
        if attempt == _LOOKS // 2 and since_ns is not None:
            since_ns = min(since_ns, past.oldest_ns)
    if agreed is not None and all(agreed.lots(market) == look.lots(market) for market in instruments):
        # Where somebody else trades in the account, its money may never stand still.
        return _opened(agreed, instruments, past)
    complaint = _complaint(_differences(look, instruments, past), instruments)
    raise BooksDisagree(complaint, await _left_open(leftovers, instruments))


async def _left_open(leftovers: OrderManager, instruments: Mapping[str, Instrument]) -> tuple[str, ...]:
    """Cancel all orders of ours; what may be open all the same."""
    try:
        recovered = await leftovers.recover(RecoverPolicy.CANCEL, instruments)
    except VenueError:
        return (UNKNOWN_ORDERS,)
    return tuple(order.external_id for order in recovered.remaining)


async def _look(gateway: Gateway, since_ns: int | None, past: Past, now_ns: int) -> _Look:
    """Fills first, positions after them: what fills in between shows as a difference.

    The money is looked at before and after positions and funding: only where it is the same do they belong
    together.
    """
    fills = [] if since_ns is None else await gateway.fills(since_ns)
    resting = await gateway.open_orders() if past.orders else []
    # Clocks may be apart.
    recent_ns = now_ns - LOOK_BACK_NS
    before = await gateway.balance()
    positions = await gateway.positions()
    payments = await gateway.funding_payments(recent_ns if since_ns is None else min(since_ns, recent_ns))
    after = await gateway.balance()
    return _Look(
        fills=tuple(fills),
        resting=tuple(report for report in resting if report.external_id in past.orders),
        positions=tuple(positions),
        balance=after,
        payments=tuple(payments),
        payments_since_ns=recent_ns,
        is_still=before.balance == after.balance,
    )


def _is_another(look: _Look, past: Past) -> bool:
    """Whether an exchange that is started anew each time knows none of the fills that it told of."""
    since_ns = past.asks_since_ns
    recent = {(key, venue_ns) for key, venue_ns in past.trades.items() if venue_ns >= since_ns}
    # It counts its trades from the beginning again: the number alone tells nothing.
    return bool(recent) and recent.isdisjoint(
        (trade_key(report.fill), report.fill.venue_ns) for report in look.fills
    )


def _missed(look: _Look, instruments: Mapping[str, Instrument], past: Past) -> tuple[FillReport, ...]:
    return tuple(
        report
        for report in look.fills
        if report.fill.market in instruments
        and report.fill.venue_ns >= past.begun_ns
        and trade_key(report.fill) not in past.trades
    )


def _differences(
    look: _Look, instruments: Mapping[str, Instrument], past: Past
) -> dict[str, tuple[int, int]]:
    """Lots (expected, found) of the markets where these differ; those that were not traded before do not."""
    expected = {market: lots for market, lots in past.positions.items() if market in instruments}
    for report in _missed(look, instruments, past):
        fill = report.fill
        if fill.market in expected:
            expected[fill.market] += fill.side * fill.size_lots
    return {
        market: (lots, look.lots(market)) for market, lots in expected.items() if lots != look.lots(market)
    }


def _complaint(differences: Mapping[str, tuple[int, int]], instruments: Mapping[str, Instrument]) -> str:
    parts = [
        f"{market}: expected a position of {instruments[market].size(expected):f} by our journal and the"
        f" exchange's history of fills, was {instruments[market].size(found):f}"
        for market, (expected, found) in sorted(differences.items())
    ]
    return (
        f"{'; '.join(parts)}; nothing is traded while they differ. Compare them (mm reconcile), and accept"
        " the exchange's with mm resume --accept-positions"
    )


def _opened(look: _Look, instruments: Mapping[str, Instrument], past: Past) -> AccountOpening:
    """Positions at the marks of their reports, and the account's equity at these marks.

    The equity of a balance is of another instant, and of other marks; what was paid and earned is not.
    """
    equity, opening = look.balance.balance, {}
    with localcontext() as context:
        context.prec = _EXACT_DIGITS
        for report in look.positions:
            if report.market not in instruments:
                continue
            instrument = instruments[report.market]
            equity += instrument.size(report.size_lots) * (report.mark_price - report.open_price)
            # No mid is known yet.
            mid2_ticks = 2 * instrument.ticks_down(report.mark_price)
            opening[report.market] = OpeningPosition(report.size_lots, mid2_ticks, report.mark_price)
    missed = _missed(look, instruments, past)
    known = frozenset({*past.trades, *(trade_key(report.fill) for report in look.fills)})
    adopted = tuple((past.orders[report.external_id], report) for report in look.resting)
    payments = tuple(
        payment
        for payment in look.payments
        if past.is_known
        and payment.market in instruments
        and payment.venue_ns >= past.begun_ns
        and payment_key(payment) not in past.payments
    )
    return AccountOpening(
        positions=opening,
        equity=equity,
        missed=missed,
        adopted=adopted,
        known=known,
        missed_payments=payments,
        known_payments=frozenset(map(payment_key, look.payments)),
        payments_since_ns=look.payments_since_ns,
        past=past,
    )
