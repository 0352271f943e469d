"""What happened of late, and what is forgotten."""

import pytest

from market_maker.domain import NS_PER_S
from market_maker.recent import RecentMarkouts, RecentMean


def test_a_mean_needs_enough_samples_and_forgets_the_old_ones():
    mean = RecentMean(60.0, 2)
    mean.add(3.0, 0)
    assert mean.mean(NS_PER_S) == 0.0
    mean.add(5.0, 30 * NS_PER_S)
    assert (mean.mean(31 * NS_PER_S), mean.count(31 * NS_PER_S)) == (4.0, 2)
    # One is too old by now, and the other alone is no mean.
    assert (mean.mean(60 * NS_PER_S), mean.count(60 * NS_PER_S)) == (0.0, 1)


@pytest.mark.parametrize(("side", "loss_bps"), [(1, 10.0), (-1, -10.0)])
def test_what_was_bought_before_a_fall_lost_and_what_was_sold_won(side, loss_bps):
    markouts = RecentMarkouts(2, 600.0)
    for second in range(2):
        markouts.on_fill("X", side, 20_000, second * NS_PER_S)
    # There was no book yet.
    markouts.on_fill("X", side, 0, 2 * NS_PER_S)
    markouts.on_time({"X": 19_980}, 4 * NS_PER_S)
    assert markouts.loss_bps(4 * NS_PER_S) == 0.0
    markouts.on_time({"X": 19_980}, 6 * NS_PER_S)
    assert markouts.loss_bps(6 * NS_PER_S) == pytest.approx(loss_bps)
    assert markouts.loss_bps(700 * NS_PER_S) == 0.0
