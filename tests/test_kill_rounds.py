"""The rounds of kill -9: what they would find is planted, and one round is played with real processes."""

import importlib.util
import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
S = 1_000_000_000


def load():
    spec = importlib.util.spec_from_file_location("kill_rounds", BENCHMARKS / "kill_rounds.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


kill_rounds = load()
BUY = kill_rounds.Match("BTC-USD", "BUY", Decimal(100), Decimal("0.5"), Decimal("0.01"))
SELL = kill_rounds.Match("BTC-USD", "SELL", Decimal(110), Decimal("0.2"), Decimal(0))
THEIRS = kill_rounds.Books([("1", BUY), ("2", SELL)], [("7", Decimal("-0.25"))])


def found(fills=(("1", BUY), ("2", SELL)), funding=(("7", Decimal("-0.25")),)):
    ours = kill_rounds.Books(list(fills), list(funding))
    return {name: ids for name, ids in kill_rounds.differences(ours, THEIRS).items() if ids}


def test_equal_books_differ_in_nothing():
    assert found() == {}


@pytest.mark.parametrize(
    ("fills", "named"),
    [
        ([("1", BUY)], {"fills_lost": ["2"]}),
        ([("1", BUY), ("2", SELL), ("2", SELL)], {"fills_doubled": ["2"]}),
        ([("1", BUY), ("2", SELL), ("3", SELL)], {"fills_of_nobody": ["3"]}),
        ([("1", BUY), ("2", SELL._replace(fee=Decimal("0.01")))], {"fills_otherwise": ["2"]}),
    ],
)
def test_a_fill_that_is_lost_or_doubled_or_otherwise_is_named(fills, named):
    assert found(fills) == named


def test_a_payment_that_is_lost_or_otherwise_is_named():
    assert found(funding=[]) == {"funding_lost": ["7"]}
    assert found(funding=[("7", Decimal(-1))]) == {"funding_otherwise": ["7"]}


def test_equity_is_the_deposit_and_whatever_came_and_went():
    # 10,000 − 50.01 + 22 − 0.25, and 0.3 at the mark.
    assert THEIRS.equity({"BTC-USD": Decimal(120)}) == Decimal("9971.74") + 36
    assert THEIRS.equity({}) is None
    assert THEIRS.positions() == {"BTC-USD": Decimal("0.3")}


def order(name, placed_s, ended_s, status="CANCELLED"):
    return {
        "externalId": name,
        "createdTime": 1000 * placed_s,
        "updatedTime": 1000 * ended_s,
        "status": status,
    }


def test_an_order_is_an_orphan_after_the_countdown_of_the_life_that_placed_it():
    lives = [kill_rounds.Life(10 * S, 20 * S, -9), kill_rounds.Life(21 * S, 40 * S, 0)]
    allowed_s = 20 + kill_rounds.COUNTDOWN_S + 2
    orders = [
        order("gone in time", 12, allowed_s),
        order("gone late", 12, allowed_s + 1),
        order("of the next life", 22, 45),
        order("filled late", 19, allowed_s + 1, "FILLED"),
        order("open", 39, 39, "NEW"),
    ]
    assert kill_rounds.orphans(orders, lives) == ["gone late", "filled late", "open"]


def test_an_order_that_the_next_life_went_on_with_is_its_own(tmp_path):
    lives = [kill_rounds.Life(10 * S, 20 * S, -9), kill_rounds.Life(21 * S, 40 * S, -9)]
    allowed_s = 40 + kill_rounds.COUNTDOWN_S + 2
    orders = [order("adopted", 12, allowed_s), order("late", 12, allowed_s + 1), order("left", 12, 39)]
    restarted = {"type": "restarted", "t": 22 * S, "adopted": ["adopted", "late"]}
    (tmp_path / "mm-2-0000.jsonl").write_text(json.dumps(restarted) + "\n")
    adopted = kill_rounds.adoptions(tmp_path)
    assert adopted == [(22 * S, "adopted"), (22 * S, "late")]
    assert kill_rounds.orphans(orders, lives, adopted) == ["late", "left"]


def test_the_same_seed_draws_the_same_kills_of_every_kind():
    plans = kill_rounds.draw_plans(100, 1)
    assert plans == kill_rounds.draw_plans(100, 1) != kill_rounds.draw_plans(100, 2)
    assert all(0.2 <= plan.after_s <= 6.0 for plan in plans)
    for kind in ("from_session", "stop_s", "alone_s"):
        assert 5 < sum(bool(getattr(plan, kind)) for plan in plans) < 95


def test_journals_of_all_lives_are_read_together_and_a_torn_line_is_no_fill(tmp_path):
    start = {"type": "session_start", "markets": {"BTC-USD": {"tick": "10", "step": "0.1"}}}
    fill = {"type": "fill", "market": "BTC-USD", "side": "BUY", "price_ticks": 10, "size_lots": 5}
    first = [start, {**fill, "trade_id": 1, "fee": "0.01"}]
    second = [start, {"type": "funding", "payment_id": 7, "amount": "-0.25"}]
    (tmp_path / "mm-1-0000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in first) + '{"ty')
    (tmp_path / "mm-2-0000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in second))
    books = kill_rounds.journal_books(tmp_path)
    assert (books.fills, books.funding) == ([("BTC-USD 1 BUY", BUY)], [("7", Decimal("-0.25"))])


@pytest.mark.slow
def test_a_round_is_played_with_real_processes(tmp_path):
    result = kill_rounds.main(rounds=1, seed=8, folder=tmp_path, last_s=1.5)
    readme = (BENCHMARKS / "README.md").read_text()
    assert json.loads(json.dumps(result)) == result
    assert [name for name in result if f"`{name}`" not in readme] == []
    assert result["rounds"] == 1
    assert result["met"] == dict.fromkeys(result["met"], True), result
