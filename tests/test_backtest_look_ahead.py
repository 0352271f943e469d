"""The look-ahead check: it finds who looks ahead, and nobody else."""

import numpy as np
import pytest
from test_backtest_runner import INSTRUMENT, contestant, market

from market_maker.backtest.host import MarketMakerRun, RunSettings
from market_maker.backtest.look_ahead import changed_market, check, instants
from market_maker.backtest.pieces import between
from market_maker.backtest.rows import MidRow, Piece
from market_maker.kernel import row_dtype
from market_maker.recordings.store import CODE_MASK, LEVEL_ASK, LEVEL_BID

S = 10**9


def events(hour):
    return lambda from_ns, to_ns: between([hour], from_ns, to_ns)


class Prophet:
    """Notes at each row what the last row of its piece will say."""

    def __init__(self, reach):
        self.reach = reach

    def feed(self, hour):
        mids = np.zeros(len(hour.venue_ns), row_dtype(MidRow))
        mids["ns"] = hour.venue_ns
        ahead = np.minimum(np.searchsorted(hour.venue_ns, hour.venue_ns + self.reach), len(mids) - 1)
        mids["mid2_ticks"] = hour.ticks[ahead]
        yield Piece(mids[:0], mids, mids[:0])

    def finish(self):
        return iter(())


def test_instants_are_full_seconds_within():
    assert instants(10 * S, 50 * S + 7, 3) == [20 * S, 30 * S, 40 * S]


@pytest.mark.slow
def test_the_market_maker_does_not_look_ahead():
    hour = market(rows=1_200)
    players = [contestant(), contestant(250)]
    at = instants(int(hour.venue_ns[0]), int(hour.venue_ns[-1]), 2)
    found = list(
        check(
            lambda: MarketMakerRun(INSTRUMENT, players, RunSettings(sample_s=0.1)),
            events(hour),
            int(hour.venue_ns[0]),
            at,
        )
    )
    assert [checked.at_ns for checked in found] == at
    for checked in found:
        assert checked.is_sound
        assert checked.before >= 3
        assert checked.after > 0


@pytest.mark.parametrize(("reach", "sound"), [(0, True), (3 * S, False)])
def test_a_prophet_is_found_out(reach, sound):
    hour = market(rows=1_200)
    [checked] = check(lambda: Prophet(reach), events(hour), int(hour.venue_ns[0]), [5 * S])
    assert checked.is_sound is sound
    # Three seconds ahead: the first that differs is three seconds before the instant.
    assert [text[:8] for text in checked.differences[:1]] == ["mids at "][: not sound]
    assert all("1970-01-01T00:00:0" in text for text in checked.differences)


def test_the_changed_market_is_another_and_still_whole():
    hour = market(rows=300)
    [changed] = changed_market([hour])
    levels = np.isin(hour.kind & CODE_MASK, (LEVEL_BID, LEVEL_ASK))
    assert len({*(changed.ticks - hour.ticks)[levels].tolist()}) == 1
    assert (changed.ticks != hour.ticks)[levels].all()
    assert (changed.lots[levels] == 2 * hour.lots[levels]).all()
    assert (changed.venue_ns == hour.venue_ns).all()
    assert not changed.delay_us.any()
