"""`mm reconcile` over sockets, against an emulator on which sessions traded before and after a midnight."""

import asyncio
import json
import os
import signal
import threading
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path

import inside
import pytest
from inside import Inside, in_virtual_time

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.cli.host import Seat, play_session
from market_maker.clock import Entropy, LoopClock
from market_maker.config import load_config
from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.requests import TimeInForce
from market_maker.emulator.rules import Delay
from market_maker.emulator.server import EmulatorServer, ServerRules
from market_maker.emulator.server_rules import served_account
from market_maker.exchanges.in_process import InProcessGateway

pytestmark = pytest.mark.slow

BTC = "BTC-USD"
MIDNIGHT_NS = 1_767_571_200 * NS_PER_S
BEFORE, AFTER = "2026-01-04", "2026-01-05"
SEED = 3
PATIENCE_S = 30.0
PARTS = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")


@dataclass
class Traded:
    """What the sessions left behind: an emulator that goes on, and their journals by file name."""

    url: str
    journals: dict[str, bytes]


async def _trade(folder: Path) -> Inside:
    """Three sessions in a row: before midnight, over it, and after it; somebody takes from each."""
    money = {"funding_speedup": 240.0, "maker_fee": Decimal("-0.00002")}
    # The tests wait for each look-up in real time.
    quick = {"request": Delay(1.0), "reply": Delay(1.0)}
    there = Inside(exchange_rules=inside.rules(money=money, latency=quick), seed=SEED)
    there.driver.close()
    # The last one leaves nothing that funding could be paid for while the tests look.
    for number, (seconds, stop) in enumerate(((20.0, "hold"), (40.0, "hold"), (14.0, "flatten"))):
        # A session closes its driver; the exchange stands still until there is another.
        there.driver = ExchangeDriver(there.exchange, there.clock)
        there.driver.start()
        settings = ["network=emulator", "markets=BTC-USD", f"journal_dir={folder}", f"stop_action={stop}"]
        gateway = InProcessGateway(there.driver, there.account_id)
        seat = Seat(gateway, there.clock, Entropy(SEED + number), str(there.account_id))
        taker = asyncio.ensure_future(_take(there))
        played = await play_session(seat, load_config(settings), seconds, show=False)
        taker.cancel()
        assert played.failure is None
        assert played.outcome.strategy.books_agree
    return there


async def _take(there: Inside) -> None:
    """Take our nearest order every two seconds: two asks, then a bid, and so on."""
    for number in count():
        await asyncio.sleep(2.0)
        side = Side.BUY if number % 3 == 2 else Side.SELL
        ours = [order for order in there.account.open.values() if order.side is side]
        if ours:
            best = max(ours, key=lambda order: side * order.price_ticks)
            taking = {"account_id": there.other_id, "time_in_force": TimeInForce.IOC}
            await there.order(Side(-side), best.price_ticks, 10**7, **taking)


def _serve(there: Inside, up: list, ready: threading.Event) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        driver = ExchangeDriver(there.exchange, LoopClock(loop, there.clock.now_ns()))
        server = EmulatorServer(
            driver, [served_account(there.account_id, SEED, 0)], ServerRules(page_limit=7)
        )
        driver.start()
        await server.start()
        ended = asyncio.Event()
        up.append((server.url, loop, ended))
        ready.set()
        await ended.wait()
        await server.close()
        driver.close()

    asyncio.run(serve())


@pytest.fixture(scope="module")
def traded(tmp_path_factory):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    folder = tmp_path_factory.mktemp("traded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inside, "START_NS", MIDNIGHT_NS - 40 * NS_PER_S)
        there = in_virtual_time(lambda: _trade(folder))
    for number, handler in before.items():
        signal.signal(number, handler)
    ready, up = threading.Event(), []
    thread = threading.Thread(target=_serve, args=(there, up, ready))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S), "the emulator did not start"
        [(url, loop, ended)] = up
        try:
            yield Traded(url, {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))})
        finally:
            loop.call_soon_threadsafe(ended.set)
    finally:
        thread.join(PATIENCE_S)


@pytest.fixture
def mm(tmp_path, monkeypatch, capsys, traded):
    """Run the verb over a folder with the journals; those that a test names are as it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)

    def run(day: str, *words: str, changed: dict[str, bytes] | None = None) -> tuple[int, str, str]:
        folder = Path("journal")
        folder.mkdir(exist_ok=True)
        for name, content in traded.journals.items():
            (folder / name).write_bytes((changed or {}).get(name, content))
        way = ("-s", "network=emulator", "-s", f"emulator_url={traded.url}", "--account", "0")
        code = main(["reconcile", "--day", day, *way, *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def told(result: tuple[int, str, str]) -> dict:
    return json.loads(result[1])


def lines_of(journal: bytes, kind: str) -> list[bytes]:
    return [
        line for line in journal.splitlines(keepends=True) if line.startswith(b'{"type":"%s"' % kind.encode())
    ]


def altered(traded, kind: str, change, *, session: int = 0, entry: int = 2) -> tuple[dict, dict[str, bytes]]:
    """One record of a session and the journals in which `change` took the place of its line."""
    name = list(traded.journals)[session]
    journal = traded.journals[name]
    line = lines_of(journal, kind)[entry]
    record = json.loads(line)
    put = b"".join(json.dumps(new, separators=(",", ":")).encode() + b"\n" for new in change(dict(record)))
    return record, {name: journal.replace(line, put, 1)}


def test_journals_of_three_sessions_equal_the_exchange_on_both_sides_of_midnight(mm, traded):
    fills = [lines_of(journal, "fill") for journal in traded.journals.values()]
    assert len(fills) == 4, "one session runs over midnight, and has a file for each day"
    assert all(len(lines) > 2 for lines in fills)
    counted = 0
    for day in (BEFORE, AFTER):
        result = mm(day, "--json")
        report = told(result)
        assert (result[0], report["equal"], report["differences"]) == (ExitCode.OK, True, [])
        figures, total = report["markets"][BTC], report["exchange_total"]
        counted += figures["fills"]["count"]
        assert figures["funding_payments"] > 0
        assert figures["fills"]["volume_usd"] == total["volume_usd"]
        assert figures["pnl_usd"]["rebates"] == total["rebates_usd"] != "0.00"
        assert figures["pnl_usd"]["funding"] == total["funding_usd"]
        assert Decimal(figures["pnl_usd"]["fees"]) == -Decimal(total["fees_usd"])
    assert counted == sum(len(lines) for lines in fills)
    assert report["journal"]["of_others"] == 0


def test_the_parts_of_a_whole_session_are_those_of_its_summary(mm):
    report = told(mm(BEFORE, "--json"))
    ours, theirs = report["markets"][BTC]["pnl_usd"], report["markets"][BTC]["pnl_of_whole_sessions_usd"]
    assert sum(Decimal(theirs[part]) for part in PARTS) == Decimal(theirs["total"]) != 0
    assert sum(Decimal(ours[part]) for part in ours if part != "total") == Decimal(ours["total"])
    assert len(report["not_attributed"]) == 1, "the session over midnight is of no day"


def test_a_fill_that_the_journal_lost_is_listed(mm, traded):
    record, journals = altered(traded, "fill", lambda _: [])
    code, out, _ = mm(BEFORE, "--json", changed=journals)
    report = json.loads(out)
    [found] = report["differences"]
    assert (code, report["equal"]) == (ExitCode.FAILED, False)
    assert (found["kind"], found["entry"]) == ("missing_in_journal", "fill")
    assert (found["market"], found["id"]) == (BTC, str(record["trade_id"]))
    assert found["ours"] is None
    assert found["theirs"]["side"] == record["side"]
    assert mm(AFTER, changed=journals)[0] == ExitCode.OK


def test_a_fee_that_was_altered_is_listed_with_both_amounts(mm, traded):
    record, journals = altered(traded, "fill", lambda fill: [fill | {"fee": "0.01"}])
    code, out, _ = mm(BEFORE, "--json", changed=journals)
    [found] = json.loads(out)["differences"]
    assert (code, found["kind"], found["fields"]) == (ExitCode.FAILED, "differs", ["fee"])
    assert (found["ours"]["fee"], found["theirs"]["fee"]) == ("0.01", record["fee"])


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("price_ticks", lambda ticks: ticks + 1, "price"),
        ("size_lots", lambda lots: lots + 1, "size"),
        ("side", lambda side: {"BUY": "SELL", "SELL": "BUY"}[side], "side"),
        ("venue_ns", lambda ns: ns + 1_000_000, "time"),
        ("is_taker", lambda taker: not taker, "taker"),
    ],
)
def test_whatever_else_of_a_fill_was_altered_is_named(mm, traded, name, change, field):
    _, journals = altered(traded, "fill", lambda fill: [fill | {name: change(fill[name])}])
    code, out, _ = mm(BEFORE, "--json", changed=journals)
    [found] = json.loads(out)["differences"]
    assert (code, found["kind"], found["fields"]) == (ExitCode.FAILED, "differs", [field])


def test_a_fill_that_stands_twice_is_one_difference_and_counts_once(mm, traded):
    before = told(mm(BEFORE, "--json"))
    record, journals = altered(traded, "fill", lambda fill: [fill, fill])
    code, out, _ = mm(BEFORE, "--json", changed=journals)
    report = json.loads(out)
    [found] = report["differences"]
    assert (code, found["kind"], found["id"]) == (
        ExitCode.FAILED,
        "doubled_in_journal",
        str(record["trade_id"]),
    )
    assert report["markets"] == before["markets"]


def test_funding_is_compared_payment_by_payment(mm, traded):
    lost, journals = altered(traded, "funding", lambda _: [], entry=0)
    code, out, _ = mm(BEFORE, "--json", changed=journals)
    [found] = json.loads(out)["differences"]
    assert (code, found["kind"], found["entry"]) == (ExitCode.FAILED, "missing_in_journal", "funding")
    assert found["id"] == str(lost["payment_id"])
    _, journals = altered(traded, "funding", lambda paid: [paid | {"amount": "12.5"}], entry=0)
    [found] = told(mm(BEFORE, "--json", changed=journals))["differences"]
    assert (found["kind"], found["fields"], found["ours"]["amount"]) == ("differs", ["amount"], "12.5")


def test_a_fill_that_the_exchange_does_not_know_is_listed(mm, traded):
    _, journals = altered(traded, "fill", lambda fill: [fill, fill | {"trade_id": 77}])
    code, out, _ = mm(BEFORE, changed=journals)
    assert code == ExitCode.FAILED
    assert "missing at the exchange" in out
    assert "1 differences" in out


def test_what_is_older_than_the_exchange_remembers_is_told_as_such(mm, traded):
    first = json.loads(lines_of(next(iter(traded.journals.values())), "fill")[0])
    older = first | {"trade_id": 77, "venue_ns": first["venue_ns"] - 60 * NS_PER_S}
    _, journals = altered(traded, "fill", lambda fill: [older, fill], entry=0)
    [found] = told(mm(BEFORE, "--json", changed=journals))["differences"]
    assert (found["kind"], found["id"]) == ("older_than_the_exchange_keeps", "77")
    code, out, _ = mm(BEFORE, changed=journals)
    assert code == ExitCode.FAILED
    assert "The exchange's history of fills begins at 2026-01-04T23:59" in out


def test_a_line_that_a_crash_cut_off_is_no_difference(mm, traded):
    name, journal = next(iter(traded.journals.items()))
    code, out, _ = mm(BEFORE, changed={name: journal + lines_of(journal, "fill")[0][:40]})
    assert code == ExitCode.OK
    assert "Cut off in their last line, as a crash leaves it: 1 of the journal's files." in out


def test_a_session_that_was_killed_counts_with_what_it_wrote(mm, traded):
    name, journal = next(iter(traded.journals.items()))
    [stop] = lines_of(journal, "session_stop")
    report = told(mm(BEFORE, "--json", changed={name: journal.replace(stop, b"")}))
    assert report["equal"]
    assert len(report["not_attributed"]) == 2
    assert report["markets"][BTC]["pnl_of_whole_sessions_usd"] == {}


def test_damage_within_a_journal_is_an_error_of_the_data(mm, traded):
    name, journal = next(iter(traded.journals.items()))
    line = lines_of(journal, "fill")[0]
    code, _, err = mm(BEFORE, changed={name: journal.replace(line, line[:40] + b"\n")})
    assert code == ExitCode.DATA
    assert f"{name}:" in err
    assert mm(BEFORE, changed={name: journal.replace(line, b"\0" * 9 + line)})[0] == ExitCode.DATA


def test_sessions_of_another_account_and_on_paper_are_left_aside(mm, traded):
    whose, journals = altered(traded, "account", lambda own: [own | {"account": "9"}], entry=0)
    report = told(mm(BEFORE, "--json", changed=journals))
    assert whose["account"] == report["account"]
    assert report["journal"]["of_others"] == 1
    assert {found["kind"] for found in report["differences"]} == {"missing_in_journal"}
    _, journals = altered(traded, "account", lambda own: [own, {"type": "paper", "t": 1}], entry=0)
    assert told(mm(BEFORE, "--json", changed=journals))["journal"]["of_others"] == 1


def test_one_market_or_another(mm):
    assert list(told(mm(BEFORE, "--json", "--market", BTC))["markets"]) == [BTC]
    result = mm(BEFORE, "--json", "--market", "ETH-USD")
    assert (result[0], told(result)["markets"]) == (ExitCode.OK, {})


def test_a_day_without_anything_is_equal(mm):
    code, out, _ = mm("2026-01-09")
    assert code == ExitCode.OK
    assert "2026-01-09 on emulator, account" in out
    assert "no difference, to the last digit" in out


def test_the_table_has_the_figures_and_differences_their_place(mm, traded):
    record, journals = altered(traded, "fill", lambda fill: [fill | {"fee": "0.01"}])
    out = mm(BEFORE, changed=journals)[1]
    for words in ("volume USD", "spread earned USD", "sessions: adverse selection USD", "Differences"):
        assert words in out
    assert str(record["trade_id"]) in out
    assert "fee 0.01" in out


def test_what_can_not_be_asked_is_refused(mm):
    code, _, err = mm("2999-01-01")
    assert code == ExitCode.USAGE
    assert "expected a day that has begun" in err
    assert mm("yesterday")[0] == ExitCode.USAGE
    code, _, err = mm(BEFORE, "--journal", "nowhere")
    assert code == ExitCode.DATA
    assert "nowhere: expected a folder of journals, was none" in err
    assert mm(BEFORE, "-s", "emulator_url=http://127.0.0.1:9")[0] == ExitCode.EXCHANGE
