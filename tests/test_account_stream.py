"""What the account stream passes on, what it keeps, and what a look-up puts right."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from fakes import START_NS, FakeGateway

from market_maker.account_stream import AccountStream
from market_maker.domain import Side
from market_maker.gateway import OutcomeUnknown, PositionReport, StreamLost


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def on_order_report(self, report) -> None:
        self.told.append(("order", report.external_id))

    def on_fill_report(self, report) -> None:
        self.told.append(("fill", report.fill.external_id))

    def on_account_changed(self) -> None:
        self.told.append(("changed",))

    def on_account_lost(self, why) -> None:
        self.told.append(("lost", why))


def position(lots: int, market="X-USD") -> PositionReport:
    return PositionReport(market, lots, Decimal(100), Decimal(101), None, START_NS)


def heard(gateway, *events):
    """A stream that heard some events."""

    async def main():
        listener = Listener()
        account = AccountStream(gateway, listener)
        task = asyncio.ensure_future(account.run())
        for event in events:
            gateway.send_account(event)
        for _ in range(2 * len(events) + 2):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return account, listener.told

    return asyncio.run(main())


def test_each_kind_of_event_goes_to_its_listener_in_order():
    gateway = FakeGateway()
    order = gateway.rest("mm-0-a", "X-USD", Side.BUY, 100, 5)
    fill = gateway.fill("mm-0-a", 2, tell_order=False, tell_trade=False)
    events = [order, fill, position(2), gateway.money, StreamLost("", "a gap")]
    account, told = heard(gateway, *events)
    assert told == [("order", "mm-0-a"), ("fill", "mm-0-a"), ("changed",), ("changed",), ("lost", "a gap")]
    assert account.position("X-USD") == events[2]
    assert account.balance == gateway.money


def test_many_reports_at_once_hold_up_nobody_else():
    """A mass cancel is told in as many reports as there were orders."""
    gateway = FakeGateway()
    reports = [gateway.rest(f"mm-0-{n}", "X-USD", Side.BUY, 100 - n, 5) for n in range(40)]
    turns: list[int] = []

    async def main():
        listener = Listener()
        account = AccountStream(gateway, listener)

        async def somebody_else():
            while True:
                turns.append(len(listener.told))
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(account.run()), asyncio.ensure_future(somebody_else())]
        await asyncio.sleep(0)
        for report in reports:
            gateway.send_account(report)
        for _ in range(2 * len(reports)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [told[1] for told in listener.told]

    assert asyncio.run(main()) == [report.external_id for report in reports]
    assert max(later - before for before, later in pairwise(turns)) <= 4


def test_nothing_is_known_before_anything_was_heard():
    account, told = heard(FakeGateway())
    assert told == []
    assert account.position("X-USD") is None
    assert account.balance is None


def test_a_look_up_forgets_the_positions_that_it_does_not_list():
    gateway = FakeGateway()
    account, _ = heard(gateway, position(5), position(7, "Y-USD"))
    gateway.position_reports = [position(6)]
    asyncio.run(account.refresh())
    assert account.position("X-USD").size_lots == 6
    assert account.position("Y-USD") is None
    assert account.balance == gateway.money


@pytest.mark.parametrize("name", ["positions", "balance"])
def test_a_look_up_that_fails_changes_nothing(name):
    gateway = FakeGateway()
    account, _ = heard(gateway, position(5))
    gateway.money = replace(gateway.money, equity=Decimal(1))
    gateway.fail(name, OutcomeUnknown("no answer"))
    with pytest.raises(OutcomeUnknown):
        asyncio.run(account.refresh())
    assert account.position("X-USD").size_lots == 5
    assert account.balance is None
