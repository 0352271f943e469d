"""The walk of ARCHITECTURE.md: one book frame to one order in at most eight hops, and the code walks so."""

import re
import sys
from pathlib import Path

import pytest
from inside import Inside, in_virtual_time

from market_maker import reprice_pipeline
from market_maker.exchanges import frames
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.orderbook_manager import OrderbookManager
from market_maker.risk_manager import RiskManager
from market_maker.strategy import MarketMakerStrategy

# What the table names, as Python sees it: compiled kernels show in no profile, their callers do.
HOPS = (
    ("decode_book", frames.decode_book),
    ("_market_task", MarketMakerStrategy._market_task),
    ("OrderbookManager.apply", OrderbookManager.apply),
    ("observe_book", MarketDesk.on_book),
    ("_level_task", MarketMakerStrategy._level_task),
    ("decide", MarketDesk.decide),
    ("Approved", RiskManager.approve),
    ("OrderManager.apply", OrderManager.apply),
)
SENT = InProcessGateway.place
ARCHITECTURE = Path(__file__).resolve().parents[1] / "ARCHITECTURE.md"


def table() -> list[str]:
    """Rows of the walk's table."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    section = text.split("## The walk", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| *\d+ *\|.*$", section, flags=re.MULTILINE)


class Trail:
    """Notes the calls and resumptions of some functions, in order."""

    def __init__(self, functions) -> None:
        self.codes = {function.__code__: name for name, function in functions}
        self.steps: list[str] = []

    def __call__(self, frame, event, _argument) -> None:
        name = self.codes.get(frame.f_code)
        if name is not None and event == "call":
            self.steps.append(name)


def walk_of_the_first_order() -> list[str]:
    """Functions that run from the last book frame before the first order to that order, each once."""
    trail = Trail([*HOPS, ("place", SENT)])

    async def main():
        await Inside("flat").session(1.0)
        inside = Inside("flat")
        # From here on, because compiling the kernels under a profile takes minutes.
        sys.setprofile(trail)
        try:
            await inside.session(1.0)
        finally:
            sys.setprofile(None)

    in_virtual_time(main)
    steps = trail.steps[: trail.steps.index("place") + 1]
    decoded = len(steps) - 1 - steps[::-1].index("decode_book")
    # The market's task is resumed to wait for the frame, and goes on with it.
    begin = decoded - 1 - steps[:decoded][::-1].index("_market_task")
    return list(dict.fromkeys(steps[begin:]))


def test_the_table_has_at_most_eight_hops_and_names_what_is_followed_here():
    rows = table()
    assert 1 <= len(rows) <= 8
    text = "\n".join(rows)
    for name, _ in HOPS:
        assert name in text, name


def test_every_function_that_the_table_names_exists():
    assert callable(reprice_pipeline.observe_book)
    assert callable(reprice_pipeline.decide)
    for path in re.findall(r"`([\w/]+\.py)`", "\n".join(table())):
        assert (ARCHITECTURE.parent / "src" / "market_maker" / path).exists(), path


@pytest.mark.slow
@pytest.mark.skipif(sys.getprofile() is not None, reason="somebody else profiles")
def test_a_frame_becomes_an_order_in_the_order_of_the_table():
    walked = walk_of_the_first_order()
    assert walked[-1] == "place"
    hops = walked[:-1]
    assert len(hops) <= 8
    assert set(hops) == {name for name, _ in HOPS}
    # `on_book` calls the book before it observes, so it is entered first; the rest is the table's order.
    assert hops == [
        "_market_task",
        "decode_book",
        "observe_book",
        "OrderbookManager.apply",
        "_level_task",
        "decide",
        "Approved",
        "OrderManager.apply",
    ]
