"""Funding from a table: read, refused, and put where it belongs among the events."""

import numpy as np
import pytest
from test_backtest_pieces import ROWS, hour, told

from market_maker.backtest.funding import NO_FUNDING, Funding, read_funding, with_funding
from market_maker.backtest.pieces import sliced
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import FUNDING, LAST

pl = pytest.importorskip("polars")
S = 10**9


def paid(*payments):
    ns, rates = zip(*payments, strict=True)
    return Funding(np.array(ns, np.int64), np.array(rates, np.int64))


def test_payments_come_before_what_has_their_stamp_however_the_market_is_cut():
    funding = paid((5, 1), (20, 100), (45, -200), (50, 7), (51, 9))
    expected = [*ROWS[:3], (20, FUNDING, 100, 0), *ROWS[3:6]]
    expected += [(45, FUNDING, -200, 0), (50, FUNDING, 7, 0), ROWS[6]]
    whole = list(with_funding([hour(ROWS)], funding))
    assert told(whole) == expected
    assert told(with_funding(sliced(hour(ROWS), 1), funding)) == expected
    assert all(kind & LAST for piece in whole for kind in piece.kind[piece.kind % LAST == FUNDING].tolist())
    assert told(with_funding([hour(ROWS)], NO_FUNDING)) == ROWS


def table(path, **changes):
    columns = {
        "venue": ["a", "b", "a", "a"],
        "market": ["BTC", "BTC", "BTC", "ETH"],
        "ts": [2 * S, 2 * S, 1 * S, 3 * S],
        "rate": [0.0001, 0.5, -0.000000001, 0.0],
    }
    stamps = pl.from_epoch("ts", time_unit="ns").dt.cast_time_unit("ms").dt.replace_time_zone("UTC")
    pl.DataFrame({**columns, **changes}).with_columns(stamps).write_parquet(path)
    return path


def test_a_table_is_read_by_venue_and_market(tmp_path):
    found = read_funding(table(tmp_path / "funding.parquet"), "a")
    assert sorted(found) == ["BTC-USD", "ETH-USD"]
    assert found["BTC-USD"].ns.tolist() == [1 * S, 2 * S]
    assert found["BTC-USD"].rate_ppb.tolist() == [-1, 100_000]


def test_what_is_no_table_of_funding_is_refused(tmp_path):
    path = table(tmp_path / "funding.parquet")
    with pytest.raises(RecordingError, match=r"funding of c, was of a, b"):
        read_funding(path, "c")
    with pytest.raises(RecordingError, match=r"row 1"):
        read_funding(table(path, rate=[0.0, 5.0, 0.0, 0.0]), "a")
    path.write_bytes(b"PAR1")
    with pytest.raises(RecordingError, match=r"funding\.parquet"):
        read_funding(path, "a")
    pl.DataFrame({"venue": ["a"]}).write_parquet(path)
    with pytest.raises(RecordingError, match="without market, ts, rate"):
        read_funding(path, "a")
