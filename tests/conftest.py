"""What holds for all tests: how fast a machine draws examples, or runs them, is no failure.

The examples are the same in every run, so that a change fails by its own doing; `make fuzz` draws others.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="MM_FUZZ_EXAMPLES" not in os.environ,
)
settings.load_profile("steady")
