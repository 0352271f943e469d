"""The crash days in the study: one table from the JSON of `mm backtest --stress`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from study_tables import table

from market_maker.backtest.fill_models import BASE
from market_maker.backtest.report_columns import ABSENT

_SESSIONS: Final = {
    "day": "whole day",
    "crash": "crash",
    "shared": "crash, one account",
}
_HEADS: Final = (
    *("day", "session", "profile", "uptime", "fills", "PnL, USD", "largest fall and way out, USD"),
    *("its limit, USD", "max inventory, USD", "margin used at most", "stopped by", "holds"),
)

Entry = Mapping[str, Any]


def stress_table(entries: Sequence[Entry]) -> str:
    """A row for each day, session and profile.

    Figures are those of base fills; the largest fall, what stopped it and whether it holds are the worst of
    all fill models.
    """
    groups: dict[tuple[str, ...], list[Entry]] = {}
    # Of an account that is shared, the whole is what its limits are about.
    wholes = [one for one in entries if one["session"] != "shared" or len(one["markets"]) > 1]
    for entry in wholes:
        names = " ".join(name.removesuffix("-USD") for name in entry["markets"])
        key = (f"{entry['date']} {names}", _SESSIONS[entry["session"]], entry["name"])
        groups.setdefault(key, []).append(entry)
    return table(_HEADS, ([*key, *_cells(group)] for key, group in groups.items()))


def _cells(group: Sequence[Entry]) -> list[str]:
    shown = next((entry for entry in group if entry["fill_model"] == BASE), group[0])
    uptime, inventory = shown.get("quote_uptime"), shown.get("max_inventory_usd")
    halts = sorted({entry["halt"] for entry in group if entry["halt"]})
    return [
        ABSENT if uptime is None else f"{uptime:.1%}",
        f"{shown['fills']:,}",
        f"{shown['pnl_usd']:+,.0f}",
        f"{max(entry['largest_fall_flattened_usd'] for entry in group):,.0f}",
        f"{shown['stress_loss_limit_usd']:,.0f}",
        ABSENT if inventory is None else f"{inventory:,.0f}",
        f"{max(entry['max_margin_ratio'] for entry in group):.1%}",
        ", ".join(halts) or ABSENT,
        "yes" if all(entry["holds"] for entry in group) else "NO",
    ]
