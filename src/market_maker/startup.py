"""Start and restart are the same path: what must hold before the first order, and what is open already.

The clock, the markets, the money, orders of others, the leverage: in this order, so that nothing is changed
on an account that we then refuse to trade on. Whatever is wrong ends the start with one message that says
what to do about it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from market_maker.clock import Clock
from market_maker.config import Config
from market_maker.config_sections import (
    ConnectionSettings,
    DeadMansSwitchSettings,
    ForeignOrders,
    SessionSettings,
)
from market_maker.domain import NS_PER_S
from market_maker.gateway import (
    BalanceReport,
    CredentialsRefused,
    Gateway,
    OrderRefused,
    OrderReport,
    RateLimited,
    VenueError,
)
from market_maker.instrument import Instrument
from market_maker.order_manager import OrderManager, RecoverPolicy
from market_maker.order_records import OrderSettings
from market_maker.public_markets import select_markets
from market_maker.session import Session
from market_maker.start_refusals import (
    AccountEmpty,
    AnotherBotQuotes,
    ClockSkewed,
    ForeignOrdersFound,
    LeverageNotSet,
)
from market_maker.surroundings import Surroundings

_RETRY_S: Final = 4.0
_PAUSE_S: Final = 1.0
_NAMED: Final = 5


async def check_in(surroundings: Surroundings, *, closing: bool = False) -> dict[str, Decimal]:
    """Check what must hold before anything is sent, and set the leverage that is wanted.

    Parameters
    ----------
    closing : bool
        Positions are only to be closed: neither a market that takes no new ones nor the lack of money is in
        the way of that.

    Returns
    -------
    dict
        The leverage that was changed, by market.

    Raises
    ------
    StartRefused
        If the clock is off, the account is empty, orders of others may not stay, the leverage is refused.
    MarketChoiceError, MarketNotFound
        If a market is not open for trading, or not there.
    VenueError
        If the exchange does not answer.
    """
    gateway, config = surroundings.gateway, surroundings.config
    settings = config.of(SessionSettings)
    await surroundings.share.join()
    await check_clock(gateway, surroundings.clock, config.of(ConnectionSettings).max_clock_skew_s)
    instruments = await gateway.instruments(settings.markets)
    if not closing:
        instruments = select_markets(instruments, settings.markets)
        check_balance(await gateway.balance())
    check_foreign(config, foreign_orders(config, await gateway.open_orders()))
    return await set_leverage(gateway, instruments, settings.account_leverage)


async def check_clock(gateway: Gateway, clock: Clock, allowed_s: float) -> float:
    """Compare the clocks; how far the exchange's is ahead of ours, s.

    Raises
    ------
    ClockSkewed
        If that is more than is allowed, in either direction.
    """
    skew_s = await gateway.clock_skew_s()
    if abs(skew_s) <= allowed_s:
        return skew_s
    now_ns = clock.now_ns()
    msg = (
        f"expected our clock within {allowed_s:g} s of the exchange's, was {abs(skew_s):.1f} s"
        f" {'behind' if skew_s > 0 else 'ahead'}: it is {_utc(now_ns)} here and"
        f" {_utc(now_ns + round(skew_s * NS_PER_S))} there; let NTP set the clock (timedatectl set-ntp true)"
    )
    raise ClockSkewed(msg)


def _utc(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC).isoformat(sep=" ", timespec="milliseconds")


def check_balance(balance: BalanceReport) -> None:
    """Refuse an account without money.

    Raises
    ------
    AccountEmpty
        If it has none.
    """
    if balance.equity <= 0:
        msg = (
            f"expected money on the account, its equity was {balance.equity} USD;"
            " deposit some, or check that the key is that of the sub-account to trade on"
        )
        raise AccountEmpty(msg)


def foreign_orders(config: Config, reports: Sequence[OrderReport]) -> list[OrderReport]:
    """Those of some orders that are not ours, by their ids."""
    ours = config.of(OrderSettings)
    return [report for report in reports if not ours.owns(report.external_id)]


def check_foreign(config: Config, found: Sequence[OrderReport]) -> None:
    """Refuse to trade beside orders of others, unless they may stay.

    Raises
    ------
    ForeignOrdersFound
        If there are any, and the settings do not let them stay.
    """
    if not found or config.of(SessionSettings).foreign_orders is ForeignOrders.LEAVE:
        return
    names = ", ".join(
        f"{report.external_id or report.order_id} in {report.market}" for report in found[:_NAMED]
    )
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    msg = (
        f"expected a sub-account of our own, found {len(found)} open orders of others ({names}{more});"
        " cancel them (mm cancel-all cancels all of the account), or let them stay with"
        " --set foreign_orders=leave"
    )
    raise ForeignOrdersFound(msg)


async def set_leverage(
    gateway: Gateway, instruments: Mapping[str, Instrument], wanted: float
) -> dict[str, Decimal]:
    """Set the leverage where it differs, at most what the market allows; what was changed, verified.

    Raises
    ------
    LeverageNotSet
        If the exchange refuses, or says something else afterwards.
    """
    if wanted == 0:
        return {}
    found = await gateway.leverage(tuple(instruments))
    targets = {name: min(Decimal(str(wanted)), rules.max_leverage) for name, rules in instruments.items()}
    changed = {name: target for name, target in targets.items() if found.get(name) != target}
    for name, target in changed.items():
        try:
            await gateway.set_leverage(name, target)
        except RateLimited:
            raise
        except OrderRefused as refusal:
            msg = f"{name}: expected to set the leverage to {target}x, was refused ({refusal})"
            raise LeverageNotSet(msg) from refusal
    after = await gateway.leverage(tuple(changed)) if changed else {}
    for name, target in changed.items():
        if after.get(name) != target:
            msg = f"{name}: expected a leverage of {target}x after setting it, was {after.get(name)}x"
            raise LeverageNotSet(msg)
    return changed


def _check_alone(config: Config, found: Sequence[str]) -> None:
    if not found:
        return
    prefix = config.of(OrderSettings).order_id_prefix
    msg = (
        f"expected no open order under our prefix ({prefix}) once those of an earlier run were cancelled,"
        f" found {len(found)}, such as {found[0]}: another bot seems to quote on this"
        " account; stop it, or give this one a sub-account of its own"
    )
    raise AnotherBotQuotes(msg)


async def recover_orders(session: Session, orders: OrderManager) -> None:
    """Cancel what an earlier run of ours left open, and look for orders of others.

    Raises
    ------
    AnotherBotQuotes
        If orders of ours remain, however often they are cancelled.
    ForeignOrdersFound
        If there are any, and the settings do not let them stay.
    VenueError
        If the exchange does not answer.
    """
    recovered = await orders.recover(RecoverPolicy.CANCEL, session.desks)
    session.journal.note("recovered", {"remaining": len(recovered.remaining)})
    # Those of an earlier run went, and were seen to be gone, before positions were read.
    _check_alone(session.config, recovered.found)
    check_foreign(session.config, recovered.foreign)


class DeadMansSwitch:
    """Armed before the first order, fed while quoting is healthy, disarmed when nothing is left to guard.

    It is account-wide. Where other bots of this machine trade in the account, the last one to end disarms it;
    where one of them died, nobody feeds it until it has had the time to take away what that one left. Where
    orders of others may stay and nothing is known of whose they are, it is left to run out.
    """

    def __init__(self, session: Session) -> None:
        self._settings = session.config.of(DeadMansSwitchSettings)
        others_stay = session.config.of(SessionSettings).foreign_orders is ForeignOrders.LEAVE
        self._may_be_others = others_stay and not session.share.knows
        self._session = session
        self._fed_ns = 0
        self._next_ns = 0
        self._waits_until_ns = 0

    @property
    def is_due(self) -> bool:
        """Whether it is time to start the countdown anew."""
        return self._settings.dead_man_enabled and self._session.clock.now_ns() >= self._next_ns

    async def feed(self) -> None:
        """Start the countdown anew, if it is time to.

        Raises
        ------
        VenueError
            If the exchange does not take the call; the countdown then goes on.
        """
        now_ns = self._session.clock.now_ns()
        if not self.is_due or self._lets_it_fire(now_ns):
            return
        interval_s = self._settings.dead_man_interval_s
        self._next_ns = now_ns + round(min(_RETRY_S, interval_s) * NS_PER_S)
        await self._arm(round(self._settings.dead_man_countdown_s))
        self._fed_ns = now_ns
        self._next_ns = now_ns + round(interval_s * NS_PER_S)

    def _lets_it_fire(self, now_ns: int) -> bool:
        """Whether a bot died here whose orders are still to be taken away; ours go with them."""
        share = self._session.share
        died = share.siblings().died if self._fed_ns else ()
        if not died:
            self._waits_until_ns = 0
            return False
        if not self._waits_until_ns:
            # Its last call may have been just before it died.
            countdown_ns = round(self._settings.dead_man_countdown_s * NS_PER_S)
            self._waits_until_ns = now_ns + countdown_ns + NS_PER_S
            self._session.journal.note(
                "dead_mans_switch", {"not_fed_until": self._waits_until_ns, "died": died}
            )
        if now_ns < self._waits_until_ns:
            return True
        share.forget(died)
        return False

    async def disarm(self) -> None:
        """Stop the countdown; where that fails to the end of the countdown it fires on an empty book."""
        if not self._fed_ns:
            return
        if self._may_be_others:
            self._left_armed("orders of others may rely on it")
            return
        async with self._session.share.exclusive():
            siblings = self._session.share.siblings()
            if siblings.running or siblings.died:
                self._left_armed(f"other bots rely on it: {', '.join(siblings.running + siblings.died)}")
            else:
                await self._disarm()

    async def _disarm(self) -> None:
        countdown_ns = round(self._settings.dead_man_countdown_s * NS_PER_S)
        deadline_ns = self._session.clock.now_ns() + countdown_ns
        while True:
            try:
                await self._arm(0)
            except VenueError as error:
                if self._session.clock.now_ns() >= deadline_ns or isinstance(error, CredentialsRefused):
                    self._left_armed(str(error))
                    return
            else:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _arm(self, countdown_s: int) -> None:
        await self._session.answer(self._session.gateway.arm_dead_mans_switch(countdown_s))

    def _left_armed(self, why: str) -> None:
        self._session.journal.note("dead_mans_switch", {"left_armed": why})
