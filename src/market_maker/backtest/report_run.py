"""Figures of one run: what it quoted and did in time, where its fills went, how long they waited.

A figure is what plotly.js draws: a mapping of `data` and `layout`. Numbers go in as base64. Instants that
many lines share are there once, as `time`, and the page puts them where `SHARED_TIME` stands.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.outcome import ALL_LEVELS, HORIZONS_S, Markout, Outcome
from market_maker.backtest.report_data import (
    drawdown,
    instants,
    packed,
    seconds,
    shares_up_to,
    spread_out,
    thinned,
)
from market_maker.domain import Side

Figure = Mapping[str, Any]

SHARED_TIME: Final = "@time"

# Okabe and Ito's colours: told apart without red and green. Sides have shapes besides, parts dashes.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY, INK = "#CC79A7", "#56B4E9", "#8a8f98", "#1d232b"
PARTS: Final = {
    "spread": (BLUE, "solid"),
    "adverse_selection": (RED, "solid"),
    "inventory": (ORANGE, "dash"),
    "fees": (PURPLE, "dot"),
    "rebates": (GREEN, "dashdot"),
    "funding": (SKY, "longdash"),
}
# Bands, by the number that the heatmap has for them: regimes, trends, quotes.
BANDS: Final[tuple[tuple[str, str], ...]] = (
    ("calm", "#dce6f0"),
    ("normal", "#a9c7e0"),
    ("elevated", "#efb65f"),
    ("extreme", "#a63603"),
    ("strongly down", RED),
    ("down", "#f2c09f"),
    ("none", "#eceef1"),
    ("up", "#9ecae1"),
    ("strongly up", BLUE),
    ("both sides", "#eceef1"),
    ("one side", "#b9a6d3"),
    ("none", "#3d434c"),
)
BAND_ROWS: Final = {"regime": slice(0, 4), "trend": slice(4, 9), "quotes": slice(9, 12)}
# Strengths from which there is a trend, and a strong one, at the default settings.
_TREND_FROM, _STRONG_FROM = 0.25, 0.5
_SIDES: Final = ((Side.BUY, "buys", "triangle-up", BLUE), (Side.SELL, "sells", "triangle-down", RED))
_LEVEL_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")
_MOST_SHARES: Final = 200
_MARK_SIZE: Final = 9.0
_MANY_MARKS: Final = 300


def words(name: str) -> str:
    """Name of a part as it is read.

    >>> words("adverse_selection")
    'adverse selection'
    """
    return name.replace("_", " ")


def axis(title: str, domain: tuple[float, float], **more: object) -> dict[str, Any]:
    """A vertical axis in a part of the figure."""
    return {"title": {"text": title}, "domain": list(domain), "automargin": True, **more}


def timeline(outcome: Outcome, most: int) -> Figure:
    """Prices with our quotes and fills, bands, inventory, PnL by part, drawdown, turnover; one time axis.

    Parameters
    ----------
    most : int
        Points that a line has, about.
    """
    curve = thinned(outcome.curve, ("total", "position_lots"), most)
    tick, lot_usd = float(outcome.tick), float(outcome.tick * outcome.step)
    x = SHARED_TIME
    inventory = curve["position_lots"] * (curve["mid2_ticks"] / 2) * lot_usd
    total = np.asarray(curve["total"], np.float64)
    fills = outcome.fills[spread_out(len(outcome.fills), most)]
    traded = outcome.fills["lots"] * outcome.fills["price_ticks"] * (lot_usd * outcome.fills_stride)
    thin: dict[str, object] = {"width": 1, "shape": "hv"}
    alone: dict[str, Any] = {"showlegend": False}
    data: list[dict[str, Any]] = [
        _line(x, _known(curve["ask_ticks"] * tick), "our ask", {**thin, "color": RED}),
        _line(x, _known(curve["mid2_ticks"] * tick / 2), "mid", {"color": INK, "width": 1.2}),
        _line(x, _known(curve["bid_ticks"] * tick), "our bid", {**thin, "color": BLUE}),
        *_fill_marks(fills, tick, float(outcome.step)),
        _bands(curve),
        _line(x, packed(inventory), "inventory", {"color": INK}, yaxis="y3", fill="tozeroy", **alone),
        *_parts(curve),
        _line(x, packed(drawdown(total)), "drawdown", {"color": RED}, yaxis="y5", fill="tozeroy", **alone),
        _line(
            instants(fills["ns"]),
            packed(np.cumsum(traded)[spread_out(len(traded), most)]),
            "turnover",
            {"color": INK, "shape": "hv"},
            yaxis="y6",
            **alone,
        ),
    ]
    layout = _timeline_layout(f"{outcome.summary.inventory.limit:,.0f}")
    return {"data": data, "layout": layout, "time": instants(curve["ns"])}


def _timeline_layout(limit: str) -> dict[str, Any]:
    return {
        "height": 1180,
        "xaxis": {"type": "date", "anchor": "y6", "title": {"text": "time, UTC"}},
        "yaxis": axis("price, USD", (0.66, 1.0), tickformat=",~r"),
        "yaxis2": axis("", (0.595, 0.65), fixedrange=True),
        "yaxis3": axis(f"inventory, USD<br>(limit {limit})", (0.465, 0.58), tickformat=",~r"),
        "yaxis4": axis("PnL, USD", (0.24, 0.45)),
        "yaxis5": axis("drawdown,<br>USD", (0.125, 0.225)),
        "yaxis6": axis("turnover,<br>USD", (0.0, 0.11), tickformat=",~s"),
        "hovermode": "x",
    }


def _line(x: object, y: object, name: str, line: Mapping[str, object], **more: object) -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": dict(line), **more}


def _known(prices: NDArray[np.float64]) -> dict[str, str]:
    return packed(np.where(prices > 0, prices, np.nan), "f8")


def _fill_marks(fills: NDArray[Any], tick: float, step: float) -> list[dict[str, Any]]:
    marks = []
    size = _MARK_SIZE if len(fills) < _MANY_MARKS else _MARK_SIZE / 2
    for side, name, symbol, color in _SIDES:
        mine = fills[fills["side"] == side]
        marks.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": instants(mine["ns"]),
                "y": packed(mine["price_ticks"] * tick, "f8"),
                "customdata": packed(mine["lots"] * step),
                "hovertemplate": "%{customdata:,.6~g} at %{y:,}<extra>" + name + "</extra>",
                "name": name,
                "marker": {
                    "symbol": symbol,
                    "size": size,
                    "color": color,
                    "line": {"color": "white", "width": size / 12},
                },
            }
        )
    return marks


def _bands(curve: NDArray[Any]) -> dict[str, Any]:
    trend = np.digitize(curve["trend"], (-_STRONG_FROM, -_TREND_FROM, _TREND_FROM, _STRONG_FROM))
    missing = (curve["bid_ticks"] == 0).astype(int) + (curve["ask_ticks"] == 0)
    rows = np.stack([BAND_ROWS["quotes"].start + missing, BAND_ROWS["trend"].start + trend, curve["regime"]])
    steps = [[edge / len(BANDS), color] for at, (_, color) in enumerate(BANDS) for edge in (at, at + 1)]
    return {
        "type": "heatmap",
        "x": SHARED_TIME,
        "y": ["quotes", "trend", "regime"],
        "z": {**packed(rows, "i1"), "shape": f"{rows.shape[0]},{rows.shape[1]}"},
        "zmin": -0.5,
        "zmax": len(BANDS) - 0.5,
        "colorscale": steps,
        "showscale": False,
        "hoverinfo": "skip",
        "yaxis": "y2",
        "ygap": 2,
    }


def _parts(curve: NDArray[Any]) -> list[dict[str, Any]]:
    lines = [
        _line(SHARED_TIME, packed(curve[name]), words(name), {"color": color, "dash": dash}, yaxis="y4")
        for name, (color, dash) in PARTS.items()
        if curve[name].any()
    ]
    total = packed(curve["total"])
    return [*lines, _line(SHARED_TIME, total, "PnL", {"color": INK, "width": 2.5}, yaxis="y4")]


def markout_figure(outcome: Outcome) -> Figure:
    """Markouts by side and level against the horizon: from the fill's price, and from the mid at the fill."""
    data = []
    for side, name, _, color in _SIDES:
        mine = [markout for markout in outcome.markouts if markout.side == side]
        for level in sorted({markout.level for markout in mine} - {ALL_LEVELS}):
            of_level = {markout.horizon_s: markout for markout in mine if markout.level == level}
            for axis_name, values in zip(("", "2"), _markout_lines(of_level), strict=True):
                data.append(
                    {
                        "type": "scatter",
                        "mode": "lines+markers",
                        "x": [f"{horizon} s" for horizon in (0, *HORIZONS_S)],
                        "y": values,
                        "name": f"{name}, level {level}",
                        "legendgroup": f"{side} {level}",
                        "showlegend": not axis_name,
                        "xaxis": f"x{axis_name}",
                        "yaxis": f"y{axis_name}",
                        "line": {"color": color, "dash": _LEVEL_DASHES[level % len(_LEVEL_DASHES)]},
                        "hovertemplate": "%{y:+.2f} bps",
                    }
                )
    layout = _halves("after the fill", "after the fill")
    layout["yaxis"] |= {"title": {"text": "from the fill's price, bps"}, "zeroline": True}
    layout["yaxis2"] |= {"title": {"text": "from the mid at the fill, bps"}, "zeroline": True}
    return {"data": data, "layout": layout}


def _markout_lines(by_horizon: Mapping[int, Markout]) -> tuple[list[float | None], list[float | None]]:
    """From the price and from the mid, beginning at the fill itself: there the half spread, and nothing."""
    known = [by_horizon[horizon] for horizon in HORIZONS_S if by_horizon[horizon].fills]
    rest: list[None] = [None] * (len(HORIZONS_S) - len(known))
    if not known:
        return [None, *rest], [None, *rest]
    first = known[0]
    from_price = [first.bps_from_price - first.bps, *(markout.bps_from_price for markout in known)]
    return [*from_price, *rest], [0.0, *(markout.bps for markout in known), *rest]


def waiting_figure(outcome: Outcome) -> Figure:
    """Shares of the fills by time in the book, and by what stood in front when the order came to rest."""
    fills, step = outcome.fills, float(outcome.step)
    data = []
    for side, name, _, color in _SIDES:
        mine = fills[fills["side"] == side]
        waited = seconds(mine["age_ns"][mine["age_ns"] > 0])
        ahead = mine["queue_ahead_lots"][mine["queue_ahead_lots"] >= 0] * step
        for at, values in (("", waited), ("2", ahead)):
            x, y = shares_up_to(values, _MOST_SHARES)
            data.append(
                _line(
                    packed(x),
                    packed(y),
                    name,
                    {"color": color, "shape": "hv", "dash": "solid" if side > 0 else "dash"},
                    xaxis=f"x{at}",
                    yaxis=f"y{at}",
                    legendgroup=name,
                    showlegend=not at,
                )
            )
    layout = _halves("seconds from resting to the fill", "size in front when it came to rest, base units")
    layout["xaxis"] |= {"type": "log"}
    for name in ("yaxis", "yaxis2"):
        layout[name] |= {"title": {"text": "share of the fills"}, "tickformat": ".0%", "range": [0, 1.02]}
    return {"data": data, "layout": layout}


def _halves(left: str, right: str) -> dict[str, Any]:
    return {
        "height": 360,
        "xaxis": {"domain": [0.0, 0.44], "title": {"text": left}},
        "xaxis2": {"domain": [0.56, 1.0], "anchor": "y2", "title": {"text": right}},
        "yaxis": {"automargin": True},
        "yaxis2": {"anchor": "x2", "automargin": True},
    }
