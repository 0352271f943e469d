"""Both profiles side by side: uptime, pauses, fills and orders, on scenarios and on recorded markets.

    python benchmarks/profiles.py                      # the scenarios
    python benchmarks/profiles.py --recordings DIR     # and the recorded markets in the folders of DIR

Virtual time, so the figures repeat on any machine; `--markdown` prints the README's table instead of JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from market_maker.cli.inside import run_inside
from market_maker.cli.play import Play
from market_maker.config import load_config
from market_maker.summary import RunSummary, as_dict

RECORDED = (
    ("hyperliquid-2025-09-04", "WLFI-USD"),
    ("hyperliquid-2025-09-04", "ETH-USD"),
    ("binance-usdm-2024-08-08", "BTC-USD"),
)
SCENARIOS = (("mixed", 600.0), ("ramp", 600.0), ("crash", 600.0))
PROFILES = ("crypto", "legacy")
MARKETS = ("BTC-USD", "ETH-USD", "WIF-USD")
_SHOWN_SHARE = 0.001


def _play(profile: str, markets: tuple[str, ...], play: Play) -> list[RunSummary]:
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["network=emulator", f"markets={','.join(markets)}", f"journal_dir={folder}"]
        played = run_inside(load_config(overrides, profile=profile), play, show=False).played
    strategy = played.outcome.strategy
    if strategy is None or not strategy.books_agree or played.outcome.remaining:
        msg = f"expected books that agree and nothing open, was {played.outcome}"
        raise RuntimeError(msg)
    return played.runs


def _row(where: str, run: RunSummary) -> dict[str, Any]:
    return {"where": where, **as_dict(run)}


def main(recordings: Path | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Run everything; `seconds` shortens each session."""
    rows = []
    for scenario, length in SCENARIOS:
        for profile in PROFILES:
            play = Play(seconds=seconds or length, scenario=scenario, seed=1, speed=0.0)
            rows += [_row(scenario, run) for run in _play(profile, MARKETS, play)]
    for folder, market in RECORDED if recordings is not None else ():
        for profile in PROFILES:
            path = None if recordings is None else recordings / folder
            play = Play(seconds=seconds or 600.0, scenario="", seed=1, speed=0.0, recording=path)
            rows += [_row(folder, run) for run in _play(profile, (market,), play)]
    return {"benchmark": "profiles", "rows": rows}


def _shares(shares: dict[str, float]) -> str:
    shown = [f"{name} {share:.1%}" for name, share in shares.items() if share >= _SHOWN_SHARE]
    return ", ".join(shown) or "none"


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as the README shows them."""
    head = "| market | profile | uptime | paused or one-sided, by reason | orders/min | fills | PnL, USD |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *(_line(run) for run in rows)])


def _line(run: dict[str, Any]) -> str:
    why = _shares({**run["pauses"], **run["one_sided"]})
    return (
        f"| {run['where']} {run['market']} | {run['profile']} | {run['quote_uptime']:.1%} | {why} |"
        f" {run['orders']['per_minute']:.0f} | {run['fills']['count']} |"
        f" {float(run['pnl_usd']['total']):.2f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    result = main(options.recordings)
    text = markdown(result["rows"]) if options.markdown else json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
