"""What must be so before the bot can trade, looked at one by one; what `mm doctor` shows.

Nothing is changed and no order placed. The dead man's switch is tried only where no order is open that it
could take away. A finding says what is, and where it is not as it should be, what to do.
"""

import asyncio
import statistics
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Final

from market_maker.clock import Clock
from market_maker.config import Config
from market_maker.config_sections import (
    ConnectionSettings,
    DeadMansSwitchSettings,
    SessionSettings,
)
from market_maker.domain import BookUpdate
from market_maker.exchanges.extended import ExtendedGateway
from market_maker.gateway import StreamLost, VenueError
from market_maker.public_markets import Listing
from market_maker.start_refusals import StartRefused
from market_maker.startup import check_balance, check_clock, check_foreign, foreign_orders

_STREAM_S: Final = 10.0
_CALLS: Final = 5
_SLOW_MS: Final = 2_000.0
_NS_PER_MS: Final = 1e6


class Verdict(Enum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what it was about, how it came out, what is, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(slots=True)
class Examination:
    """Everything that was looked at so far.

    Parameters
    ----------
    config, clock : Config, Clock
        The settings that are to be traded with, and our clock.
    """

    config: Config
    clock: Clock
    findings: list[Finding] = field(default_factory=list)

    def note(self, check: str, verdict: Verdict, found: str, advice: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(check, verdict, found, advice))

    @property
    def is_ready(self) -> bool:
        """Whether nothing failed."""
        return all(finding.verdict is not Verdict.FAIL for finding in self.findings)

    async def look(self, check: str, looking: Awaitable[None]) -> None:
        """Make one check; a failure of the exchange, or a reason not to start, is its finding."""
        try:
            await looking
        except (VenueError, StartRefused) as error:
            self.note(check, Verdict.FAIL, str(error))

    # Without an account.

    async def clock_skew(self, gateway: ExtendedGateway) -> None:
        """Our clock against the exchange's."""
        allowed_s = self.config.of(ConnectionSettings).max_clock_skew_s
        skew_s = await check_clock(gateway, self.clock, allowed_s)
        self.note("clock", Verdict.OK, f"{skew_s:+.1f} s off the exchange's, {allowed_s:g} s are allowed")

    async def markets(self, gateway: ExtendedGateway) -> None:
        """Whether each market of the settings is there and can be quoted."""
        names = self.config.of(SessionSettings).markets
        listed = await gateway.listings(names)
        for name in names:
            self._market(name, listed)

    def _market(self, name: str, listed: Mapping[str, Listing]) -> None:
        listing = listed.get(name)
        if listing is None:
            self.note(
                f"market {name}",
                Verdict.FAIL,
                "the exchange does not list it",
                "mm markets lists what there is",
            )
        elif listing.obstacle:
            self.note(f"market {name}", Verdict.FAIL, f"can not be quoted: {listing.obstacle}")
        else:
            rules = listing.instrument
            self.note(
                f"market {name}", Verdict.OK, f"{rules.status.value}, tick {rules.tick}, step {rules.step}"
            )

    async def book(self, gateway: ExtendedGateway, market: str) -> None:
        """Whether a market's stream delivers a snapshot of its book."""
        began_ns = self.clock.perf_ns()
        is_there = await _heard(
            gateway.market_events(market), lambda event: isinstance(event, BookUpdate) and event.is_snapshot
        )
        self._stream(f"stream of {market}", began_ns, is_there=is_there)

    def _stream(self, check: str, began_ns: int, *, is_there: bool) -> None:
        took_ms = (self.clock.perf_ns() - began_ns) / _NS_PER_MS
        if is_there:
            self.note(check, Verdict.OK, f"a snapshot after {took_ms:,.0f} ms")
        else:
            advice = "WebSockets (wss) to the exchange's host must be let through"
            self.note(check, Verdict.FAIL, f"no snapshot within {_STREAM_S:g} s", advice)

    # With an account.

    async def balance(self, gateway: ExtendedGateway) -> None:
        """Whether there is money."""
        balance = await gateway.balance()
        check_balance(balance)
        found = f"equity {balance.equity:,.2f} USD, {balance.available_for_trade:,.2f} available"
        advice = "open orders and positions bind all of it" if balance.available_for_trade <= 0 else ""
        self.note("balance", Verdict.WARN if advice else Verdict.OK, found, advice)

    async def leverage(self, gateway: ExtendedGateway) -> None:
        """The leverage of each market, against the one that is to be set."""
        settings = self.config.of(SessionSettings)
        listed = await gateway.listings(settings.markets)
        wanted = Decimal(str(settings.account_leverage))
        for market, found in (await gateway.leverage(tuple(listed))).items():
            most = listed[market].instrument.max_leverage if market in listed else found
            is_as_set = wanted in (0, found) or found == min(wanted, most)
            advice = "" if is_as_set else f"the start sets it to {min(wanted, most)}x (account_leverage)"
            self.note(f"leverage {market}", Verdict.OK if is_as_set else Verdict.WARN, f"{found}x", advice)

    async def orders(self, gateway: ExtendedGateway) -> None:
        """What is open: ours from an earlier run, which a start cancels, and orders of others."""
        reports = await gateway.open_orders()
        foreign = foreign_orders(self.config, reports)
        check_foreign(self.config, foreign)
        found = f"{len(reports) - len(foreign)} of ours, {len(foreign)} of others"
        advice = "the dead man's switch is account-wide: it cancels theirs too" if foreign else ""
        if not advice and reports:
            advice = "ours are cancelled at the start; is the bot running?"
        self.note("open orders", Verdict.WARN if advice else Verdict.OK, found, advice)

    async def rate(self, gateway: ExtendedGateway) -> None:
        """The rate limit that is reckoned with."""
        tier = await gateway.rate_tier()
        found = (
            f"{tier.requests_per_minute} requests a minute, {tier.kept_for_cancels} of them kept for cancels"
        )
        self.note("rate limit", Verdict.OK, found, "set requests_per_minute to your tier's")

    async def latency(self, gateway: ExtendedGateway) -> None:
        """Estimate of the order latency: the way there and back of a few look-ups."""
        taken_ms = []
        for _ in range(_CALLS):
            began_ns = self.clock.perf_ns()
            await gateway.balance()
            taken_ms.append((self.clock.perf_ns() - began_ns) / _NS_PER_MS)
        p50_ms = statistics.median(taken_ms)
        slow = p50_ms > _SLOW_MS
        advice = (
            "quotes will lie far out; the matching engine is in Tokyo (AWS ap-northeast-1)" if slow else ""
        )
        self.note("latency", Verdict.WARN if slow else Verdict.OK, f"{p50_ms:,.1f} ms there and back", advice)

    async def account_stream(self, gateway: ExtendedGateway) -> None:
        """Whether the account's stream says what is there."""
        began_ns = self.clock.perf_ns()
        is_there = await _heard(gateway.account_events(), lambda event: not isinstance(event, StreamLost))
        self._stream("stream of the account", began_ns, is_there=is_there)

    async def switch(self, gateway: ExtendedGateway) -> None:
        """Whether the dead man's switch answers: armed and disarmed, where it can not cancel anything."""
        settings = self.config.of(DeadMansSwitchSettings)
        if not settings.dead_man_enabled:
            self.note("dead man's switch", Verdict.WARN, "not wanted", "set dead_man_enabled=true")
            return
        if await gateway.open_orders():
            self.note("dead man's switch", Verdict.OK, "not tried: orders are open that it may guard")
            return
        await gateway.arm_dead_mans_switch(round(settings.dead_man_countdown_s))
        await gateway.arm_dead_mans_switch(0)
        self.note(
            "dead man's switch", Verdict.OK, f"armed for {settings.dead_man_countdown_s:g} s and disarmed"
        )


async def _heard(events: AsyncIterator[object], is_wanted: Callable[[object], bool]) -> bool:
    """Whether a stream says what is wanted in time."""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STREAM_S):
                async for event in events:
                    if is_wanted(event):
                        return True
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()
    return False
