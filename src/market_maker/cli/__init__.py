"""The command line, `mm`: one file per verb."""

from market_maker.cli import (
    backtest,
    calibrate,
    config,
    correlation,
    data,
    demo,
    doctor,
    download,
    emulator,
    markets,
    orders,
    reconcile,
    record,
    replay,
    report_html,
    resume,
    run,
    simulate,
    soak,
    status,
)
from market_maker.cli.app import main

# Importing a verb's module declares the verb.
_VERBS = (
    backtest,
    calibrate,
    config,
    correlation,
    data,
    demo,
    doctor,
    download,
    emulator,
    markets,
    orders,
    reconcile,
    record,
    replay,
    report_html,
    resume,
    run,
    simulate,
    soak,
    status,
)

__all__ = ["main"]
