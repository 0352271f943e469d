import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S
from market_maker.exchanges.rate_budget import RateBudget
from market_maker.gateway import RateLimited


def spend(budget, at_s, *, urgent=False):
    budget.spend(round(at_s * NS_PER_S), urgent=urgent)


def test_the_reserve_is_for_cancels():
    budget = RateBudget(10, 0.2)
    for second in range(8):
        spend(budget, second)
    with pytest.raises(RateLimited, match="10 requests a minute, 2 of them kept for cancels") as refusal:
        spend(budget, 8)
    # The first of the minute falls out of it at 60 s.
    assert refusal.value.retry_after_s == pytest.approx(52)
    assert refusal.value.code == 429
    spend(budget, 9, urgent=True)
    spend(budget, 10, urgent=True)
    with pytest.raises(RateLimited) as refusal:
        spend(budget, 11, urgent=True)
    assert refusal.value.retry_after_s == pytest.approx(49)
    assert budget.used(11 * NS_PER_S) == 10


def test_cancels_beyond_the_reserve_delay_the_rest():
    budget = RateBudget(10, 0.2)
    for second in range(10):
        spend(budget, second, urgent=True)
    # Two more than its share are in the minute: the third has to leave it first.
    assert budget.wait_s(10 * NS_PER_S) == pytest.approx(52)


def test_what_was_refused_is_not_counted():
    budget = RateBudget(10, 0)
    for _ in range(10):
        spend(budget, 0)
    for _ in range(5):
        with pytest.raises(RateLimited):
            spend(budget, 1)
    spend(budget, 60)
    assert budget.used(60 * NS_PER_S) == 1


def test_a_pause_holds_back_all_but_cancels():
    budget = RateBudget(100, 0.2)
    budget.pause(0, 3)
    budget.pause(0, 1)
    with pytest.raises(RateLimited) as refusal:
        spend(budget, 1)
    assert refusal.value.retry_after_s == pytest.approx(2)
    spend(budget, 1, urgent=True)
    spend(budget, 3)


@given(
    st.lists(st.tuples(st.integers(0, 5 * NS_PER_S), st.booleans()), max_size=200),
    st.integers(10, 40),
    st.floats(0, 0.9),
)
def test_no_minute_ever_holds_more_than_the_limit(steps, limit, share):
    budget = RateBudget(limit, share)
    now_ns, sent, ordinary = 0, [], []
    for pause_ns, urgent in steps:
        now_ns += pause_ns
        wait_s = budget.wait_s(now_ns, urgent=urgent)
        if wait_s == 0:
            budget.spend(now_ns, urgent=urgent)
            sent.append(now_ns)
            ordinary += [] if urgent else [len([at for at in sent if at > now_ns - 60 * NS_PER_S])]
        else:
            with pytest.raises(RateLimited):
                budget.spend(now_ns, urgent=urgent)
            # What it says is long enough, and no longer than needed.
            later_ns = now_ns + round(wait_s * NS_PER_S)
            assert budget.wait_s(now_ns, urgent=urgent) == wait_s
            kept = 0 if urgent else int(limit * share)
            assert len([at for at in sent if at > later_ns - 60 * NS_PER_S]) < limit - kept
            assert len([at for at in sent if at > later_ns - 1 - 60 * NS_PER_S]) >= limit - kept
    for end in sent:
        assert len([at for at in sent if end - 60 * NS_PER_S < at <= end]) <= limit
    assert all(count <= limit - int(limit * share) for count in ordinary)
