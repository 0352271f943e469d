"""Which markets can be quoted, and what is said where one cannot."""

from dataclasses import replace
from decimal import Decimal
from io import StringIO

import pytest
from rich.console import Console

from market_maker.gateway import MarketNotFound
from market_maker.instrument import Instrument, MarketStatus
from market_maker.public_markets import (
    Listing,
    MarketChoiceError,
    market_row,
    markets_table,
    rank_markets,
    select_markets,
)


def instrument(name, status=MarketStatus.ACTIVE):
    return Instrument(name, Decimal("0.5"), Decimal("0.001"), Decimal("0.002"), status=status)


AVAILABLE = {name: instrument(name) for name in ("BTC-USD", "ETH-USD", "SOL-USD")}
BTC = Listing(
    AVAILABLE["BTC-USD"],
    bid=Decimal(9999),
    ask=Decimal(10001),
    mark=Decimal(1),
    daily_volume_usd=Decimal(5000),
)


def test_markets_come_in_the_order_wanted():
    assert list(select_markets(AVAILABLE, ["SOL-USD", "BTC-USD"])) == ["SOL-USD", "BTC-USD"]


@pytest.mark.parametrize(
    ("wanted", "hint"), [("BTC-USDT", "BTC-USD"), ("btc-usd", "BTC-USD"), ("EHT-USD", "ETH-USD")]
)
def test_unknown_market_names_close_ones_and_all(wanted, hint):
    with pytest.raises(MarketNotFound) as caught:
        select_markets(AVAILABLE, [wanted])
    text = str(caught.value)
    assert f"no market '{wanted}'; did you mean {hint}" in text
    assert "available: BTC-USD, ETH-USD, SOL-USD" in text


def test_unknown_market_without_a_close_one():
    with pytest.raises(MarketNotFound, match=r"no market 'XXXXXXXX' \(available: BTC-USD"):
        select_markets(AVAILABLE, ["XXXXXXXX"])
    with pytest.raises(MarketNotFound, match="available: none"):
        select_markets({}, ["BTC-USD"])


def test_a_long_list_is_shortened():
    many = {f"M{i:03d}-USD": instrument(f"M{i:03d}-USD") for i in range(399)}
    with pytest.raises(MarketNotFound, match="and 359 more"):
        select_markets(many, ["BTC-USD"])


@pytest.mark.parametrize(
    ("available", "wanted", "message"),
    [
        (AVAILABLE, [], "at least one market"),
        (AVAILABLE, ["BTC-USD", "BTC-USD"], "BTC-USD twice"),
        (
            {"X": instrument("X", MarketStatus.REDUCE_ONLY)},
            ["X"],
            "X: expected status ACTIVE, was REDUCE_ONLY",
        ),
    ],
)
def test_markets_that_cannot_be_quoted_as_asked(available, wanted, message):
    with pytest.raises(MarketChoiceError, match=message):
        select_markets(available, wanted)


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        ({}, ""),
        ({"kind": "SPOT"}, "type SPOT"),
        ({"instrument": instrument("X", MarketStatus.DELISTED)}, "status DELISTED"),
        ({"is_active": False}, "not active"),
        ({"is_rfq": True}, "request for quote"),
        ({"trading_hours": "WEEKDAYS"}, "hours WEEKDAYS"),
    ],
)
def test_obstacles(change, obstacle):
    listing = replace(BTC, **change)
    assert listing.obstacle == obstacle


def test_figures():
    row = market_row(BTC)
    assert row.tick_bps == pytest.approx(0.5)
    assert row.min_size_usd == pytest.approx(20.0)
    assert row.spread_bps == pytest.approx(2.0)
    assert (row.daily_volume_usd, row.max_leverage, row.obstacle) == (5000.0, 50.0, "")
    by_mark = market_row(replace(BTC, bid=None, mark=Decimal(5000)))
    assert (by_mark.tick_bps, by_mark.spread_bps) == (1.0, None)
    unknown = market_row(Listing(AVAILABLE["BTC-USD"]))
    assert (unknown.tick_bps, unknown.min_size_usd, unknown.daily_volume_usd) == (None, None, None)


def test_ranking_and_table():
    listings = [
        replace(BTC, instrument=instrument("RFQ-USD"), is_rfq=True, daily_volume_usd=Decimal(10**9)),
        Listing(instrument("NEW-USD")),
        replace(BTC, instrument=instrument("BIG-USD"), daily_volume_usd=Decimal(10**6)),
        BTC,
    ]
    rows = rank_markets(listings)
    assert [row.name for row in rows] == ["BIG-USD", "BTC-USD", "NEW-USD", "RFQ-USD"]
    console = Console(width=100, file=StringIO(), record=True)
    console.print(markets_table(rows))
    text = console.export_text()
    for words in ("BIG-USD", "1,000,000", "0.500", "request for quote", "50x", "yes"):
        assert words in text
