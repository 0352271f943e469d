"""What holds for all tests: how fast a machine draws examples, or runs them, is no failure; signals are met.

The examples are the same in every run, so that a change fails by its own doing; `make fuzz` draws others.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="MM_FUZZ_EXAMPLES" not in os.environ,
)
settings.load_profile("steady")

_AT_START = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def _signals_as_at_the_start():
    """The host ignores signals once a session is over; the tests after it, and their processes, do not."""
    for number, handler in _AT_START.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
