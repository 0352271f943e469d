"""The result of a backtest as JSON: the runs as every host tells them, with what a backtest knows besides."""

import dataclasses
from typing import Any, Final

import msgspec

from market_maker.backtest.intervals import Difference, differences
from market_maker.backtest.outcome import Outcome
from market_maker.backtest.saved import Saved
from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.summary import as_dict, money

_MS_PER_S: Final = NS_PER_S // NS_PER_MS


def run_dict(outcome: Outcome) -> dict[str, Any]:
    """One entry of `runs`: the summary's fields, and the backtest's."""
    return {
        **as_dict(outcome.summary),
        "latency_ms": outcome.label.latency_s * _MS_PER_S,
        "intervals": {name: dataclasses.asdict(found) for name, found in outcome.intervals.items()},
        "conclusions": list(outcome.conclusions),
        "liquidated": outcome.liquidated,
        "market_volume_usd": money(outcome.market_volume_usd),
        "volume_share": outcome.volume_share,
        "turnover_per_day": outcome.turnover_per_day,
        "max_drawdown_usd": outcome.max_drawdown_usd,
        "fill_ratio": outcome.fill_ratio,
        "time_to_fill_s": dict(outcome.time_to_fill_s),
        "queue_ahead_lots": dict(outcome.queue_ahead_lots),
        "pnl_per_hour_usd": outcome.pnl_per_hour_usd,
        "pnl_per_inventory_risk": outcome.pnl_per_inventory_risk,
        "sigma_bps": outcome.sigma_bps,
        "mean_abs_inventory_usd": outcome.mean_abs_inventory_usd,
        "markouts": [markout._asdict() for markout in outcome.markouts],
    }


def _difference_dict(found: Difference) -> dict[str, Any]:
    named = found._asdict()
    named["latency_ms"] = named.pop("latency_s") * _MS_PER_S
    return {**named, "pnl_per_hour_usd": dataclasses.asdict(found.pnl_per_hour_usd)}


def result_json(saved: Saved) -> str:
    """The runs, the first contestant against the others, and what the header says of data and calibration."""
    runs = [run_dict(one) for one in saved.outcomes]
    pairs = [_difference_dict(one) for one in differences(saved.outcomes)]
    return msgspec.json.encode({"runs": runs, "differences": pairs, **saved.header}).decode()
