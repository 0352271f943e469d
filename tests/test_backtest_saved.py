"""Saved results: what comes back equals what was given, and anything else is refused with what was found."""

import json
from dataclasses import fields, replace
from decimal import Decimal

import numpy as np
import pytest

from market_maker.backtest.outcome import (
    BUCKET_DTYPE,
    CURVE_DTYPE,
    FILL_DTYPE,
    Interval,
    Label,
    Markout,
    Outcome,
)
from market_maker.backtest.saved import RESULT_NAME, SavedError, load, save
from market_maker.ledger import PnlParts
from market_maker.round_trips import GridSummary
from market_maker.summary import FillSummary, InventorySummary, OrderCounts, RunSummary, Uptime

HEADER = {"data": {"market": "BTC-USD", "hours": 2}, "calibration": {"sigma": 1.5}}


def rows(dtype, count, seed):
    rng = np.random.default_rng(seed)
    found = np.zeros(count, dtype)
    for name in dtype.names:
        draw = rng.normal(size=count) * 1e3
        found[name] = draw if dtype[name].kind == "f" else draw.astype(np.int64)
    return found


def outcome(name="crypto", count=300, seed=1):
    parts = [Decimal(f"{seed}.00000000000000000000000{i}") for i in range(7)]
    summary = RunSummary(
        name=name,
        market="BTC-USD",
        profile="crypto",
        fill_model="base",
        uptime=Uptime(5, 3_600_000_000_005, 0.9, 0.95, {"STRONG_TREND": 0.05}, {"EXTREME_REGIME": 0.05}),
        pnl=PnlParts(*parts),
        events=1234,
        orders=OrderCounts(1, 2, 3, 4),
        fills=FillSummary(5, 6, 1.0, Decimal("123.450000000000001")),
        inventory=InventorySummary(Decimal("1.5"), Decimal(100), Decimal("-0.5"), 2),
        markouts_bps={1: 0.1, 5: -0.2, 30: 0.3},
        rebates_credited=Decimal("0.01"),
        grid=GridSummary(3, *map(Decimal, ("1.5", "2", "0.50")), 2, -2, Decimal("100.5"), 9.5, Decimal(1), 4),
    )
    return Outcome(
        Label(name, "crypto", "base", 0.25),
        "BTC-USD",
        summary,
        tick=Decimal("0.1"),
        step=Decimal("0.001"),
        intervals={"spread_bps": Interval(0.1 + 0.2, -1.0, 2.0, 0.95, 30)},
        market_volume_usd=Decimal("1000.1"),
        volume_share=0.12,
        conclusions=("Too few fills.",),
        fills=rows(FILL_DTYPE, count, seed),
        fills_stride=4,
        curve=rows(CURVE_DTYPE, count, seed + 1),
        buckets=rows(BUCKET_DTYPE, count, seed + 2),
        markouts=(Markout(1, 0, 5, 0.1, 0.2, 7, 100.0),),
        time_to_fill_s={"p50": 1.5},
    )


def assert_equal(found, expected):
    for field in fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes()
        else:
            assert one == other, field.name


def test_what_was_saved_comes_back(tmp_path):
    outcomes = [outcome(), outcome("legacy", count=0, seed=2)]
    save(tmp_path / "deep" / "run", outcomes, HEADER)
    saved = load(tmp_path / "deep" / "run")
    assert saved.header == HEADER
    for found, expected in zip(saved.outcomes, outcomes, strict=True):
        assert_equal(found, expected)
    assert isinstance(saved.outcomes[0].summary.pnl.total, Decimal)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]


def test_the_same_outcomes_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name, [outcome()], HEADER)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["000-buckets.arrow", "000-curve.arrow", "000-fills.arrow", "result.json"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_result_is_replaced_only_when_asked_and_nothing_else_ever(tmp_path):
    save(tmp_path / "run", [outcome()], HEADER)
    with pytest.raises(SavedError, match="expected no such folder yet"):
        save(tmp_path / "run", [outcome("legacy")], HEADER)
    assert load(tmp_path / "run").outcomes[0].label.name == "crypto"
    save(tmp_path / "run", [outcome("legacy")], HEADER, replace=True)
    assert load(tmp_path / "run").outcomes[0].label.name == "legacy"

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(SavedError, match="was something else"):
        save(tmp_path / "photos", [outcome()], HEADER, replace=True)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", [outcome()], HEADER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photos", "run"]


def test_a_value_that_cannot_come_back_leaves_nothing(tmp_path):
    bad = replace(outcome(), max_drawdown_usd=float("nan"))
    with pytest.raises(SavedError, match="expected finite numbers"):
        save(tmp_path / "run", [outcome(), bad], HEADER)
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_run_left_is_cleared_and_never_read(tmp_path):
    left = tmp_path / ".run.partial"
    left.mkdir()
    (left / "000-fills.arrow").write_bytes(b"half")
    with pytest.raises(SavedError, match="was no such folder"):
        load(tmp_path / "run")
    save(tmp_path / "run", [outcome()], HEADER)
    assert not left.exists()
    assert len(load(tmp_path / "run").outcomes) == 1


def damage(folder, change):
    path = folder / RESULT_NAME
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def drop_file(folder):
    (folder / "000-curve.arrow").unlink()


def cut_file(folder):
    path = folder / "000-fills.arrow"
    path.write_bytes(path.read_bytes()[:-100])


def flip_byte(folder):
    content = bytearray((folder / "000-buckets.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "000-buckets.arrow").write_bytes(content)


def cut_result(folder):
    (folder / RESULT_NAME).write_bytes((folder / RESULT_NAME).read_bytes()[:-50])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_file, r"000-curve\.arrow: expected the file that result\.json names, was not there"),
        (cut_file, r"000-fills\.arrow: expected the CRC-32 [0-9a-f]{8}, was [0-9a-f]{8}"),
        (flip_byte, r"000-buckets\.arrow: expected the CRC-32"),
        (cut_result, r"result\.json: expected a saved backtest, was corrupt or cut off"),
        (lambda f: (f / RESULT_NAME).write_bytes(b"\xff\x00"), r"was corrupt or cut off"),
        (lambda f: (f / RESULT_NAME).write_bytes(b"{}"), r"expected the format 'extended.*', was ''"),
        (lambda f: (f / RESULT_NAME).unlink(), r"was a folder without it"),
        (lambda f: damage(f, lambda c: c.update(version=99)), r"expected version 1 of the format, was 99"),
        (lambda f: damage(f, lambda c: c.update(more=1)), r"expected the fields .* `more`"),
        (
            lambda f: damage(f, lambda c: c["outcomes"][0]["outcome"].pop("label")),
            r"expected the fields .* `label`",
        ),
        (
            lambda f: damage(f, lambda c: c["outcomes"][0]["outcome"]["summary"]["pnl"].update(fees="x")),
            r"expected the fields",
        ),
        (
            lambda f: damage(f, lambda c: c["outcomes"][0]["arrays"].pop("curve")),
            r"expected the arrays fills, curve, buckets, was",
        ),
        (
            lambda f: damage(f, lambda c: c["outcomes"][0]["arrays"]["curve"].update(file="../../x")),
            r"was not there",
        ),
        (
            lambda f: damage(
                f, lambda c: c["outcomes"][0]["arrays"].update(curve=c["outcomes"][0]["arrays"]["fills"])
            ),
            r"000-fills\.arrow: expected 300 rows of ns, mid2_ticks, .*, was 300 of ns, order_id",
        ),
        (
            lambda f: damage(f, lambda c: c["outcomes"][0]["arrays"]["curve"].update(rows=3)),
            r"expected 3 rows of ns",
        ),
    ],
)
def test_a_spoiled_result_is_refused_with_what_was_found(tmp_path, spoil, message):
    save(tmp_path / "run", [outcome()], HEADER)
    spoil(tmp_path / "run")
    with pytest.raises(SavedError, match=message):
        load(tmp_path / "run")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(SavedError, match="was no such folder"):
        load(tmp_path / "run")
    with pytest.raises(SavedError):
        save(tmp_path / "run", [outcome()], HEADER)
