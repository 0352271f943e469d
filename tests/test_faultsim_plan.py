"""The plan of a simulation: the same for the same seed, storms with quiet between, names checked."""

import numpy as np
import pytest

from market_maker.emulator.faults import FaultError
from market_maker.faultsim.fault_plan import (
    FAULT_NAMES,
    FaultPlan,
    PlannedFault,
    Spans,
    Stretch,
    chosen_faults,
    meaning_of,
    plan_faults,
)


def plan(seed: int, names=FAULT_NAMES, seconds=3600.0):
    return plan_faults(names, seconds, np.random.default_rng(seed))


def test_a_seed_draws_one_plan_whatever_the_order_of_the_names():
    assert plan(3) == plan(3) == plan(3, list(reversed(FAULT_NAMES)))
    assert plan(3) != plan(4)


def test_every_class_is_drawn_and_has_a_meaning():
    drawn = {fault.name for seed in range(40) for fault in plan(seed).faults}
    assert drawn == set(FAULT_NAMES)
    assert all(meaning_of(name) for name in FAULT_NAMES)


@pytest.mark.parametrize("seed", range(10))
def test_quiet_is_quiet_and_long_enough_and_the_last_lasts_to_the_end(seed):
    chosen = plan(seed)
    for stretch in chosen.quiet:
        assert stretch.end_s - stretch.start_s >= 60.0
        assert not any(f.start_s < stretch.end_s and f.end_s > stretch.start_s for f in chosen.faults)
    assert chosen.quiet[-1].end_s == 3600.0
    assert chosen.quiet[-1].end_s - chosen.quiet[-1].start_s >= 150.0


def test_a_maintenance_ends_in_post_only_mode_within_its_time():
    fault = next(f for seed in range(99) for f in plan(seed).faults if f.name == "maintenance")
    window = fault.window
    assert window.faults.maintenance == 1
    assert window.end_s + window.faults.post_only_after_s == pytest.approx(fault.end_s)


def test_without_names_nothing_goes_wrong():
    assert plan(1, ()).faults == ()
    assert plan(1, ()).quiet == (Stretch(0.0, 3600.0),)


def test_names_are_read_and_checked():
    assert chosen_faults("all") == FAULT_NAMES
    assert chosen_faults("none") == ()
    assert chosen_faults("kill, full_disk") == ("kill", "full_disk")
    with pytest.raises(FaultError, match="no fault 'kil'; there are drop_frames"):
        chosen_faults("kil")


def test_spans_are_joined_and_say_for_how_long_they_are_over():
    spans = Spans([Stretch(5, 9), Stretch(1, 3), Stretch(2, 4)])
    assert [spans.over_for_s(at) for at in (0.5, 1, 3.5, 4, 4.5, 6, 9, 12)] == [0.5, 0, 0, 0, 0.5, 0, 0, 3]


def test_a_clock_that_falls_back_makes_pauses_longer_by_as_much():
    ahead = PlannedFault("clock_jump", 13.0, 100.0, 120.0)
    behind = PlannedFault("clock_jump", -13.0, 300.0, 320.0)
    chosen = FaultPlan((ahead, behind), ())
    spans = chosen.spans((), with_clocks=True)
    over_s = [spans.over_for_s(at_s) for at_s in (110.0, 125.0, 134.0, 310.0, 314.0)]
    assert over_s == [110.0, 0.0, 1.0, 0.0, 1.0]
    assert chosen.spans(()).over_for_s(110.0) == 110.0
