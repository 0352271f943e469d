"""The report at the end, where nothing but what was verified is said to be so."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from inside import BTC, Inside, in_virtual_time

from market_maker.cli.app import ExitCode
from market_maker.cli.host import AtEnd, Played, look_at_end
from market_maker.cli.report import print_report
from market_maker.gateway import OutcomeUnknown
from market_maker.kill_ladder import Cause, Standing, Step, restored
from market_maker.order_records import OrderSettings
from market_maker.strategy import Outcome

ENDED = AtEnd(Decimal("9999.5"), 0)


@pytest.fixture(scope="module")
def ended():
    """A session of a few seconds that ended well, and the gateway that it had."""

    async def main():
        inside = Inside("flat", (BTC,))
        return await inside.session(3.0)

    return in_virtual_time(main)


def played(outcome, at_end=ENDED, **more) -> Played:
    return Played(outcome, [], "testnet", "4711", at_end, Path("j.jsonl"), **more)


def printed(capsys, given: Played) -> tuple[ExitCode, str, dict]:
    code = print_report(given, as_json=False)
    text = capsys.readouterr().out
    assert print_report(given, as_json=True) == code
    return code, text, json.loads(capsys.readouterr().out)["account"]


def test_network_and_account_are_named_and_what_was_verified_is_told(capsys, ended):
    code, text, account = printed(capsys, played(ended.outcome, AtEnd(ended.strategy.equity_at_end, 0)))
    assert code == ExitCode.OK
    assert "testnet, account 4711" in text
    assert "Open orders at the exchange: 0." in text
    assert "equal, to the last digit" in text
    assert (account["network"], account["account_id"]) == ("testnet", "4711")
    assert (account["equal"], account["open_orders"]) == (True, 0)
    assert account["exchange_equity_usd"] == account["ledger_equity_usd"]
    assert "not_verified" not in account
    assert "Not as documented" not in text


def test_what_nobody_could_verify_is_not_told_as_if_it_were(capsys, ended):
    outcome = Outcome("the link is gone", ("mm-0-a",), ended.strategy)
    code, text, account = printed(capsys, played(outcome, AtEnd(why_not="no answer within 5 s")))
    assert code == ExitCode.FAILED
    assert "Open orders at the exchange: NOT VERIFIED (no answer within 5 s)." in text
    assert "the exchange's NOT VERIFIED" in text
    assert "May still be open: mm-0-a" in text
    assert "The dead man's switch cancels them within 60 s; mm cancel-all cancels and verifies." in text
    assert (account["equal"], account["open_orders"], account["exchange_equity_usd"]) == (None, None, None)
    assert account["not_verified"] == "no answer within 5 s"


def test_what_is_not_as_documented_is_counted_in_one_line(capsys, ended):
    unknown = Counter({"order status HELD": 3, "field qtyX": 1})
    _, text, account = printed(capsys, played(ended.outcome, unknown=unknown))
    assert "Not as documented, or left out: field qtyX 1, order status HELD 3" in text
    assert account["unknown"] == unknown


def test_how_long_the_loop_was_held_is_in_the_json(capsys, ended):
    _, _, account = printed(capsys, played(ended.outcome, loop={"max_ms": 1.5}))
    assert account["loop"] == {"max_ms": 1.5}


def test_a_session_that_never_began_says_that_it_placed_nothing(capsys):
    code, text, account = printed(capsys, played(Outcome("SIGINT", (), None)))
    assert code == ExitCode.INTERRUPTED
    assert "Stopped (SIGINT) before it quoted on testnet, account 4711; no order was placed." in text
    assert (account["open_orders"], account["stopped_by"]) == (0, "SIGINT")


def test_at_the_end_the_exchange_is_asked_only_where_that_was_not_just_done():
    async def main():
        inside = Inside("flat", (BTC,))
        run = await inside.session(3.0)
        gateway, orders = run.gateway, OrderSettings()
        asked = len(gateway.made("balance"))
        well = await look_at_end(gateway, run.outcome, orders)
        assert len(gateway.made("balance")) == asked
        ill = await look_at_end(gateway, Outcome("failed", ("mm-0-a",), run.strategy), orders)
        assert len(gateway.made("balance")) == asked + 1
        gateway.refuse["open_orders"] = OutcomeUnknown("no answer")
        unknown = await look_at_end(gateway, Outcome("SIGINT", (), None), orders)
        return well, ill, unknown, inside.exchange.equity(inside.account_id)

    well, ill, unknown, equity = in_virtual_time(main)
    assert well == ill == AtEnd(equity, 0)
    assert unknown == AtEnd(why_not="no answer")


def test_a_session_that_the_kill_ladder_ended_has_an_exit_code_of_its_own(capsys, ended):
    session = ended.strategy.session
    session.standing = restored(Step.STOP, Cause.DAY_LOSS, 1)
    try:
        code, text, account = printed(capsys, played(ended.outcome))
    finally:
        session.standing = Standing()
    assert code == ExitCode.KILLED == 5
    assert "Kill ladder: STOP for DAY_LOSS, latched; mm resume lifts it." in text
    assert account["kill_ladder"] == {"step": "STOP", "cause": "DAY_LOSS", "latched": "STOP"}


@pytest.mark.parametrize(
    ("at_end", "told"),
    [
        (AtEnd(why_not="no answer within 5 s"), "Orders of an earlier run may be open; mm cancel-all"),
        (AtEnd(Decimal(5), 2), "Orders of an earlier run that are open: 2; mm cancel-all"),
        (AtEnd(Decimal(5), 0), ""),
    ],
)
def test_who_never_looked_for_orders_of_before_says_what_may_be_open(capsys, at_end, told):
    code, text, _ = printed(capsys, played(Outcome("SIGTERM", ("unknown",), None), at_end))
    assert code == ExitCode.INTERRUPTED
    assert told in text
    assert ("earlier run" in text) == bool(told)
