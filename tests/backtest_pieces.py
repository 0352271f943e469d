"""A played run for tests of the tally: mids, fills, funding and samples as the runner drains them."""

from types import SimpleNamespace

import numpy as np

from market_maker.backtest.outcome import Label
from market_maker.backtest.rows import MidRow, Piece, RiskRow, SampleRow
from market_maker.backtest.tally import Entry
from market_maker.fills.rows import EventKind, LogRow, StrategyRow, rows_of
from market_maker.recordings.store import Hour
from market_maker.summary import OrderCounts, Uptime

S = 1_000_000_000


def log_rows(found):
    """Log rows of dicts."""
    rows = rows_of(LogRow, len(found))
    for row, values in zip(rows, found, strict=True):
        for name, value in values.items():
            row[name] = value
    return rows


def fill(ns, side, price, lots, **more):
    return {
        "ns": ns,
        "kind": int(EventKind.FILL),
        "side": side,
        "price_ticks": price,
        "lots": lots,
        "order_id": 1,
        **more,
    }


def funding(ns, rate, position, mark, **more):
    return {
        "ns": ns,
        "kind": int(EventKind.FUNDING),
        "price_ticks": rate,
        "lots": position,
        "remaining_lots": mark,
        "position_lots": position,
        **more,
    }


def mid_rows(found):
    rows = rows_of(MidRow, len(found))
    for row, (ns, mid2) in zip(rows, found, strict=True):
        row["ns"], row["mid2_ticks"] = ns, mid2
    return rows


def sample_rows(found):
    rows = rows_of(SampleRow, len(found))
    for row, values in zip(rows, found, strict=True):
        for name, value in values.items():
            row[name] = value
    return rows


def cut(piece, instants):
    """The same in pieces that end before each instant."""
    ends = [*instants, 2**62]
    last = [0, 0, 0]
    for end in ends:
        now = [int(np.searchsorted(rows["ns"], end)) for rows in piece]
        yield Piece(*(rows[a:b] for rows, a, b in zip(piece, last, now, strict=True)))
        last = now


def hour_of(rows):
    """Hour of (ns, kind, ticks, lots)."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Hour(
        np.array(columns[0], np.int64),
        np.zeros(len(rows), np.int32),
        np.array(columns[1], np.uint8),
        np.array(columns[2], np.int32),
        np.array(columns[3], np.uint32),
    )


def entries(count=1, rates=None):
    return [Entry(Label(f"c{k}", "crypto", "base", 0.01), rates or StrategyRow()) for k in range(count)]


class PlayedRun:
    """What the tally asks a run at its end."""

    def __init__(self, count=1):
        risks = rows_of(RiskRow, count)
        risks["max_position_pusd"] = 50_000 * 10**12
        risks["lot_pusd"] = 10**12
        risks["breaches"] = 3
        strategies = rows_of(StrategyRow, count)
        strategies["resting"] = 2
        self.bench = SimpleNamespace(risks=risks, world=SimpleNamespace(strategies=strategies))

    def uptime(self, k):
        return Uptime(0, 60 * S, 0.5)

    def counts(self, k):
        return OrderCounts(4, 3, 2, 1)
