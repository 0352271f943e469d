"""Parity of the fill engine with hftbacktest: the same grid in both, compared order by order, fill by fill.

hftbacktest lives in an environment of its own (`make parity` makes it), so its half is another process, and
the two exchange arrays in a temporary folder. A table is written to standard error, JSON to standard output;
the exit status is 1 on any difference. Without the recording or the environment it says what is missing,
status 0.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import grid
import numpy as np
import our_side

HERE: Final = Path(__file__).parent
RECORDING: Final = "binance-usdm-2024-08-08"
MOST_USD: Final = 1e-6
_ORDER: Final = list(grid.JOURNAL_DTYPE.names or ())


def compare(market: grid.Market, folder: Path, count: int) -> dict[str, Any]:
    """Compare what both engines wrote down of a market."""
    ours, cash = our_side.run(market, folder, count)
    with np.load(folder / f"{market.name}.theirs.npz") as theirs:
        journal, their_cash = theirs["journal"], theirs["cash"]
    rows = [_setting(k, ours, journal, np.abs(cash[k] - their_cash[k]).max()) for k in range(count)]
    return {
        "market": market.name,
        "settings": count,
        "equal": sum(row["equal"] for row in rows),
        **{kind: sum(row[kind] for row in rows) for kind in grid.KINDS},
        "cash_difference_usd": max(row["cash_difference_usd"] for row in rows),
        "different": [row for row in rows if not row["equal"]],
    }


def _setting(k: int, ours: Any, theirs: Any, difference: float) -> dict[str, Any]:  # noqa: ANN401  (arrays)
    """Lines of a setting side by side; the first ones that only one engine has."""
    sides = [np.sort(journal[journal["setting"] == k], order=_ORDER) for journal in (ours, theirs)]
    same = sides[0].tobytes() == sides[1].tobytes()
    counts = {kind: int((sides[0]["kind"] == number).sum()) for number, kind in enumerate(grid.KINDS)}
    row = {"setting": k, "equal": same and bool(difference <= MOST_USD), "cash_difference_usd": difference}
    if not same:
        mine, other = (set(map(tuple, side.tolist())) for side in sides)
        row["only_ours"] = sorted(mine - other, key=lambda line: line[2])[:5]
        row["only_theirs"] = sorted(other - mine, key=lambda line: line[2])[:5]
    return row | counts


def _table(rows: list[dict[str, Any]]) -> str:
    names = ("market", "settings", "equal", *grid.KINDS, "cash_difference_usd")
    lines = ["  ".join(f"{name:>10}" for name in names)]
    lines += ["  ".join(f"{_text(row[name]):>10}" for name in names) for row in rows]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)


def _missing(data: Path, peer: Path) -> str:
    absent = [m.name for m in grid.MARKETS if not (data / RECORDING / f"{m.name}.gz").is_file()]
    if absent:
        names = ", ".join(absent)
        return f"{data / RECORDING}: expected recordings of {names}, was none (--data names the folder)"
    return "" if peer.is_file() else f"{peer}: expected hftbacktest's environment, was none (make parity)"


def main() -> int:
    """Run both engines on both markets; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the recordings")
    parser.add_argument("--peer", type=Path, default=Path(".venv-parity/bin/python"))
    parser.add_argument("--settings", type=int, default=grid.SETTINGS)
    options = parser.parse_args()
    missing = _missing(options.data, options.peer)
    if missing:
        sys.stderr.write(missing + "\n")
        sys.stdout.write(json.dumps({"missing": missing}) + "\n")
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for market in grid.MARKETS:
            source = options.data / RECORDING / f"{market.name}.gz"
            theirs = [str(options.peer), str(HERE / "hft_side.py")]
            events = Path(folder) / f"{market.name}.npy"
            subprocess.run([*theirs, "convert", str(source), str(events)], check=True, stdout=sys.stderr)
            subprocess.run([*theirs, "run", market.name, folder, str(options.settings)], check=True)
            rows.append(compare(market, Path(folder), options.settings))
    sys.stderr.write(_table(rows))
    sys.stdout.write(json.dumps({"markets": rows}, indent=2) + "\n")
    return int(any(row["different"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
