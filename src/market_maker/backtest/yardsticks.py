"""The baselines of a market, fitted on its first part alone; or why one does not play."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from market_maker.backtest import baselines
from market_maker.backtest.baselines import BaselineRefused
from market_maker.backtest.contest import Conditions, Entrant, limit_lots, order_lots
from market_maker.backtest.fill_models import BASE, fill_row
from market_maker.backtest.host import Contestant, RunSettings
from market_maker.backtest.rows import QuoterRow
from market_maker.backtest.widths import with_symmetric_width
from market_maker.fills.rows import StrategyRow
from market_maker.fitting.calibration import Part, calibrate
from market_maker.fitting.record import Calibration
from market_maker.instrument import Instrument
from market_maker.recordings.store import Hour

# What is fitted on, from its beginning each time it is called.
FirstPart = Callable[[], Iterable[Hour]]


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """What the first part gave: the calibration, lines by baseline, and why a baseline is left out."""

    calibration: Calibration
    quoters: Mapping[str, QuoterRow]
    left_out: Mapping[str, str]


def find_yardsticks(
    hours: FirstPart,
    part: Part,
    entered: Sequence[Entrant],
    instrument: Instrument,
    conditions: Conditions,
    run: RunSettings,
) -> Yardsticks:
    """Calibrate on the first part, and draw the line of each baseline that is entered.

    The symmetric one finds its width under the base fill model (or the only one there is) at the middle
    latency.
    """
    calibration = calibrate(hours(), instrument.name, part)
    first = entered[0]
    size = order_lots(first, calibration.mid_ticks, instrument)
    names = [entrant.baseline for entrant in entered if entrant.baseline]
    if baselines.SYMMETRIC in names and calibration.mid_ticks > 0.0:
        player = Contestant(first.params, first.risk, _middle(conditions, instrument))
        calibration = with_symmetric_width(calibration, hours(), instrument, player, run)
    limit = limit_lots(first, calibration.mid_ticks, instrument)
    quoters, left_out = {}, {}
    for name in names:
        try:
            quoters[name] = baselines.quoter(name, calibration, size, limit)
        except BaselineRefused as refused:
            left_out[name] = str(refused)
    return Yardsticks(calibration, quoters, left_out)


def _middle(conditions: Conditions, instrument: Instrument) -> StrategyRow:
    models, latencies_s = conditions.models, sorted(conditions.latencies_s)
    model = next((model for model in models if model.name == BASE), models[0])
    return fill_row(model, latencies_s[len(latencies_s) // 2], conditions.fees, instrument)
