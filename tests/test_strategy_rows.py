"""The records of the strategy: sections that are fit to be settings, rows that are read back as they are."""

import tomllib
from dataclasses import fields, replace
from importlib import resources

import pytest

from market_maker.domain import Action, Decision, Reason
from market_maker.kernel import new_row, row_dtype
from market_maker.strategy_rows import (
    Account,
    BookRow,
    DecisionRow,
    ExtremeAction,
    Params,
    RepriceSettings,
    Slot,
    State,
    read_decision,
)


def test_each_legacy_value_is_a_setting_that_differs_or_is_named_by_the_requirements():
    text = (resources.files("market_maker") / "profiles" / "legacy.toml").read_text(encoding="utf-8")
    sections = {f.name: vars(Params())[f.name] for f in fields(Params)}
    for name, values in tomllib.loads(text).items():
        known = vars(sections[name])
        for key, value in values.items():
            assert key in known, f"[{name}] {key}"
            default = known[key]
            assert default.name if isinstance(value, str) else type(value) is type(default), f"{name}.{key}"


def test_setting_names_are_unique_over_all_sections():
    names = [f.name for s in fields(Params) for f in fields(vars(Params())[s.name])]
    assert len(names) == len(set(names))


def test_each_section_has_at_most_twelve_settings():
    for section in fields(Params):
        assert len(fields(vars(Params())[section.name])) <= 12, section.name


@pytest.mark.parametrize("record", [Params, State, Account, Slot, BookRow, DecisionRow])
def test_a_record_has_one_dtype_whoever_asks(record):
    # Numba knows a dtype by identity: an equal one would compile every kernel once more.
    assert new_row(record()).dtype is row_dtype(record)
    assert row_dtype(record).names == tuple(f.name for f in fields(record))


def test_a_new_decision_row_says_keep():
    assert read_decision(new_row(DecisionRow())) == Decision(Action.KEEP, Reason.NONE, 0, 0, False)


@pytest.mark.parametrize("action", Action)
def test_a_decision_is_read_as_it_was_written(action):
    for reason in Reason:
        written = DecisionRow(int(action), int(reason), 83_988, 1190, reduce_only=True, gate=3)
        decision = read_decision(new_row(written))
        assert decision == Decision(action, reason, 83_988, 1190, True)
        assert (type(decision.action), type(decision.reason)) == (Action, Reason)


def test_a_choice_enters_its_row_as_its_number():
    settings = replace(RepriceSettings(), extreme_action=ExtremeAction.PULL_ALL)
    assert new_row(Params(reprice=settings))[0].reprice.extreme_action == int(ExtremeAction.PULL_ALL)
