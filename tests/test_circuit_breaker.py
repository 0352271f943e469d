"""When the breaker opens, and that it starts afresh."""

from market_maker.circuit_breaker import CircuitBreaker
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
