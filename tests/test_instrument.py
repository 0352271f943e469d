"""Decimal to ticks and lots and back, on odd grids as on even ones."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.instrument import Instrument, InstrumentError

ODD = Instrument("ODD-USD", tick=Decimal("0.25"), step=Decimal("0.003"), min_size=Decimal("0.01"))
GRIDS = [
    ODD,
    Instrument("BTC-USD", tick=Decimal("1"), step=Decimal("0.00001"), min_size=Decimal("0.0001")),
    Instrument("BIG-USD", tick=Decimal("0.00001"), step=Decimal("7"), min_size=Decimal("70")),
]


@pytest.mark.parametrize("instrument", GRIDS)
@given(ticks=st.integers(0, 10**9), lots=st.integers(-(10**9), 10**9))
def test_ticks_and_lots_survive_the_round_trip(instrument: Instrument, ticks: int, lots: int) -> None:
    assert instrument.ticks(instrument.price(ticks)) == ticks
    assert instrument.lots(instrument.size(lots)) == lots
    assert instrument.value(ticks, lots) == instrument.price(ticks) * instrument.size(lots)


def _by_fractions(value: Decimal, unit: Decimal) -> int | None:
    quotient = Fraction(value) / Fraction(unit)
    return int(quotient) if quotient.denominator == 1 else None


@pytest.mark.parametrize("instrument", GRIDS)
@given(
    count=st.integers(-(10**20), 10**20),
    off=st.sampled_from(["0", "0", "1e-40", "-1e-9", "0.1", "3"]),
    zeros=st.integers(0, 30),
)
def test_the_grid_is_decided_exactly(instrument: Instrument, count: int, off: str, zeros: int) -> None:
    with localcontext() as context:
        context.prec = 100
        value = instrument.tick * count + Decimal(off)
        value = value.quantize(Decimal(1).scaleb(min(value.as_tuple().exponent, 0) - zeros))
    expected = _by_fractions(value, instrument.tick)
    if expected is None:
        with pytest.raises(InstrumentError, match="expected a multiple"):
            instrument.ticks(value)
    else:
        assert instrument.ticks(value) == expected


@pytest.mark.parametrize("text", ["1e999999999", "-1e40", "sNaN"])
def test_what_no_market_holds_is_refused_at_once(text: str) -> None:
    with pytest.raises(InstrumentError, match="expected a multiple"):
        ODD.lots(Decimal(text))


@given(price=st.decimals("0.01", "1000000", places=7))
def test_rounding_brackets_the_price_within_one_tick(price: Decimal) -> None:
    down, up = ODD.ticks_down(price), ODD.ticks_up(price)
    assert ODD.price(down) <= price <= ODD.price(up)
    assert up - down in (0, 1)


def test_sizes_are_floored_on_steps_that_are_no_power_of_ten() -> None:
    assert ODD.lots_down(Decimal("0.0089")) == 2
    assert ODD.min_lots == 4


@pytest.mark.parametrize("text", ["10.1", "NaN", "Infinity"])
def test_a_price_off_the_grid_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(InstrumentError, match=r"ODD-USD: price expected a multiple of 0\.25"):
        ODD.ticks(Decimal(text))


@pytest.mark.parametrize("field", ["tick", "step", "min_size"])
def test_a_grid_that_is_not_positive_is_refused(field: str) -> None:
    values = {"tick": Decimal(1), "step": Decimal(1), "min_size": Decimal(1), field: Decimal(0)}
    with pytest.raises(InstrumentError, match=f"expected a positive {field}, was 0"):
        Instrument("X-USD", **values)
