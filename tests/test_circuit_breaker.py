"""When the breaker opens, and how long the pauses after too many requests are."""

from market_maker.circuit_breaker import CircuitBreaker, RateBackoff
from market_maker.config_sections import CircuitBreakerSettings
from market_maker.domain import NS_PER_S

START_NS = 1_767_571_200 * NS_PER_S


def breaker(failures=3, window_s=60.0) -> CircuitBreaker:
    return CircuitBreaker(CircuitBreakerSettings(breaker_max_failures=failures, breaker_window_s=window_s))


def test_it_opens_at_the_number_of_failures_and_not_before():
    it = breaker()
    it.fail(START_NS, 2)
    assert not it.opens(START_NS)
    it.fail(START_NS)
    assert it.opens(START_NS)


def test_it_knows_its_last_failure():
    it = breaker()
    it.fail(START_NS, why="refused")
    assert it.last == "refused"
    it.fail(START_NS, 0)
    assert it.last == "refused"
    it.fail(START_NS)
    assert it.last == "no answer"


def test_failures_beyond_the_window_do_not_count():
    it = breaker()
    it.fail(START_NS, 2)
    later_ns = START_NS + 61 * NS_PER_S
    it.fail(later_ns, 2)
    assert not it.opens(later_ns)
    it.fail(later_ns)
    assert it.opens(later_ns)


def test_once_opened_it_starts_afresh():
    it = breaker()
    it.fail(START_NS, 5)
    assert it.opens(START_NS)
    assert not it.opens(START_NS)
    it.fail(START_NS, 2)
    assert not it.opens(START_NS)


def test_after_a_pause_a_single_failure_opens_it_again_for_a_while():
    it = breaker()
    it.fail(START_NS, 3)
    assert it.opens(START_NS)
    it.fail(START_NS, 2)
    later_ns = START_NS + 5 * NS_PER_S
    it.try_again(later_ns)
    # What failed meanwhile belongs to the pause, and does not make the next.
    assert not it.opens(later_ns)
    it.fail(later_ns)
    assert it.opens(later_ns)
    it.try_again(later_ns)
    much_later_ns = later_ns + 11 * NS_PER_S
    it.fail(much_later_ns)
    assert not it.opens(much_later_ns)


def pauses(refusals_at_s, until_s=100) -> list[int]:
    """Seconds in which a pause holds, where a request is refused at each of the given ones."""
    backoff, refused, found = RateBackoff(), 0, []
    for second in range(until_s):
        refused += second in refusals_at_s
        if backoff.is_pausing(refused, START_NS + second * NS_PER_S):
            found.append(second)
    return found


def test_one_refusal_makes_a_short_pause():
    assert pauses({10}) == [10, 11]


def test_refusals_within_a_pause_do_not_lengthen_it():
    assert pauses({10, 11}) == [10, 11]


def test_pauses_double_and_have_a_longest():
    every_second = set(range(1000))
    held = pauses(every_second, 200)
    assert held == list(range(200))
    backoff, ends = RateBackoff(), []
    now_ns = START_NS
    for refused in range(1, 8):
        begun_ns = now_ns
        while backoff.is_pausing(refused, now_ns):
            now_ns += NS_PER_S
        ends.append((now_ns - begun_ns) // NS_PER_S)
    assert ends == [2, 4, 8, 8, 8, 8, 8]


def test_a_quiet_minute_is_forgiven():
    assert pauses({10, 12, 90}) == [10, 11, 12, 13, 14, 15, 90, 91]


def test_quotes_are_pulled_from_the_second_pause_on_until_it_is_over():
    backoff = RateBackoff()
    backoff.is_pausing(1, START_NS)
    assert not backoff.must_pull
    backoff.is_pausing(2, START_NS + 2 * NS_PER_S)
    assert backoff.must_pull
    backoff.is_pausing(2, START_NS + 6 * NS_PER_S)
    assert not backoff.must_pull


def test_within_a_pause_one_request_a_second_goes_out_and_outside_all_of_them():
    backoff = RateBackoff()
    assert [backoff.take_turn(0, START_NS) for _ in range(3)] == [True] * 3
    tenths = [backoff.take_turn(1, START_NS + tenth * NS_PER_S // 10) for tenth in range(20)]
    assert [tenth for tenth, went in enumerate(tenths) if went] == [0, 10]
