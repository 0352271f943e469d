"""`mm backtest --stress`: profiles on days of a crash, in a book made of the day's bars.

A day is played three times: each market alone, from midnight; each alone with an account that comes unhurt to
within an hour or two of the deepest fall, so that the limits which end a losing day early do not spare it the
crash; and from there all markets of the date in one account, whose loss of a day and drawdown they share.

What has to hold each time: no liquidation, and the largest fall of equity, with what it then costs to get out
at once, is no more than the stress loss that the risk manager is set to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.fill_models import MODELS, TRADE_THROUGH, Fees, fill_row
from market_maker.backtest.host import Contestant, MarketMakerRun, RunSettings
from market_maker.backtest.outcome import Label
from market_maker.backtest.stress_account import AccountPath, HourBooks
from market_maker.backtest.stress_bars import MINUTES_PER_HOUR, NS_PER_MINUTE, BarDay, crash_hour
from market_maker.backtest.stress_book import StressBook
from market_maker.backtest.stress_outcome import Session, StressOutcome
from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.domain import NS_PER_S, Reason
from market_maker.exposure import PUSD_PER_USD
from market_maker.fills.rows import LogRow
from market_maker.kernel import row_dtype
from market_maker.orderbook_manager import BookSettings
from market_maker.recordings.store import CODE_MASK, NS_PER_HOUR, TRADE_BUY, TRADE_SELL, Hour
from market_maker.risk_manager import RiskSettings

_MODELS: Final = tuple(name for name in MODELS if name != TRADE_THROUGH)

_CALM_HOURS: Final = 1  # before the hour of the crash, to warm up in
_CRASH_HOURS: Final = 5
_SLICE_NS: Final = 5 * NS_PER_S  # between two looks at the equity of a shared account

OnHour = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StressSettings:
    """How the days are played."""

    latency_s: float = 1.0  # s, to the exchange, and as long again back
    seed: int = 1  # of the generated books
    fill_models: tuple[str, ...] = _MODELS
    fees: Fees = field(default_factory=Fees)
    start_equity_usd: float = 10_000.0


class _Played:
    """A market that is being played: all contestants beside each other."""

    def __init__(
        self, day: BarDay, configs: Mapping[str, Config], settings: StressSettings, session: Session
    ) -> None:
        self._day = day
        self._settings = settings
        self._session = session
        self._labels: list[Label] = []
        self._risks: list[RiskSettings] = []
        self._paths: list[AccountPath] = []
        self._logs: list[NDArray[Any]] = [np.zeros(0, row_dtype(LogRow))]
        self._last: HourBooks | None = None
        self._volume = 0
        entered = [
            self._enter(profile, config, model)
            for profile, config in configs.items()
            for model in settings.fill_models
        ]
        book = next(iter(configs.values())).of(BookSettings, day.market)
        self.run = MarketMakerRun(
            day.instrument, entered, RunSettings(book=book, start_equity_usd=settings.start_equity_usd)
        )

    def _enter(self, profile: str, config: Config, model: str) -> Contestant:
        settings, instrument = self._settings, self._day.instrument
        fills = fill_row(MODELS[model], settings.latency_s, settings.fees, instrument)
        risk = config.of(RiskSettings, self._day.market)
        leverage = config.of(SessionSettings).account_leverage
        self._labels.append(Label(profile, profile, model, settings.latency_s))
        self._risks.append(risk)
        self._paths.append(AccountPath(instrument, fills, settings.start_equity_usd, leverage))
        if self._session is Session.SHARED:
            # These two are looked at for all markets together.
            risk = replace(risk, max_day_loss_usd=0.0, max_drawdown_usd=0.0)
        return Contestant(config.strategy_params(self._day.market), risk, fills)

    def feed(self, rows: Hour) -> None:
        """Run a part of an hour."""
        self._logs += [piece.log for piece in self.run.feed(rows)]

    def end_hour(self, hour: Hour) -> None:
        """Value the accounts over an hour that was fed."""
        self._last = HourBooks(hour)
        self._volume += traded_tick_lots(hour)
        for path, log in self._by_contestant():
            path.take(log, self._last)

    def gains_usd(self) -> NDArray[np.float64]:
        """What each contestant has gained up to now, at the mark it knows."""
        gains = np.zeros(len(self._paths))
        tick_lot_usd = float(self._day.instrument.value(1, 1))
        for k in range(len(gains)):
            account, lot_pusd = self.run.bench.world.strategies[k], self.run.bench.risks[k].lot_pusd
            cash = account.flow_tick_lots - account.fees + account.rebates + account.funding
            gains[k] = cash * tick_lot_usd + account.position_lots * (lot_pusd / PUSD_PER_USD)
        return gains

    def halt(self, k: int, reason: Reason) -> None:
        """Let a contestant only reduce from its next mark on."""
        self.run.bench.risks[k].halt = int(reason)

    def finish(self) -> list[StressOutcome]:
        """End the day."""
        if self._last is None:
            return []
        self._logs += [piece.log for piece in self.run.finish()]
        for path, log in self._by_contestant():
            path.finish(log, self._last)
        return [self._outcome(k, path) for k, path in enumerate(self._paths)]

    def _by_contestant(self) -> Iterator[tuple[AccountPath, NDArray[Any]]]:
        log, self._logs = np.concatenate(self._logs), self._logs[:1]
        for k, path in enumerate(self._paths):
            yield path, log[log["strategy"] == k]

    def _outcome(self, k: int, path: AccountPath) -> StressOutcome:
        start_usd = self._settings.start_equity_usd
        return StressOutcome(
            session=self._session,
            market=self._day.market,
            date=self._day.date,
            label=self._labels[k],
            uptime=self.run.uptime(k),
            orders=self.run.counts(k),
            fills=path.fill_count,
            volume_usd=path.volume_usd,
            market_volume_usd=self._volume * float(self._day.instrument.value(1, 1)),
            pnl_usd=path.end.equity_usd - start_usd,
            fees_usd=path.fees_usd,
            loss_usd=max(start_usd - path.least_usd, 0.0),
            max_fall_usd=path.max_fall_usd,
            risk=self._risks[k],
            max_position_usd=path.max_position_usd,
            max_margin_use=path.max_margin_use,
            max_margin_ratio=path.max_margin_ratio,
            liquidated_ns=path.liquidated_ns,
            halt=Reason(int(self.run.bench.risks[k].halt)),
            max_loss_usd=max(path.max_loss_usd, path.worst.loss_usd, path.max_fall_usd),
            worst=path.worst,
            dearest=path.dearest,
            end=path.end,
            gain_usd=np.concatenate(path.equity_usd) - start_usd,
        )


class _SharedAccount:
    """Loss of a day and drawdown of the markets that share an account, for each contestant."""

    def __init__(self, played: Sequence[_Played], risks: Sequence[RiskSettings]) -> None:
        self._played = played
        self._risks = risks
        self._peak = np.zeros(len(risks))
        self._halted = [Reason.NONE] * len(risks)

    def look(self) -> None:
        """Halt who has lost too much."""
        gains = np.sum([played.gains_usd() for played in self._played], axis=0)
        self._peak = np.maximum(self._peak, gains)
        for k, risk in enumerate(self._risks):
            if self._halted[k] is not Reason.NONE:
                continue
            self._halted[k] = _verdict(risk, float(self._peak[k] - gains[k]), float(-gains[k]))
            if self._halted[k] is not Reason.NONE:
                for played in self._played:
                    played.halt(k, self._halted[k])


def _verdict(risk: RiskSettings, fall_usd: float, loss_usd: float) -> Reason:
    if 0 < risk.max_drawdown_usd <= fall_usd:
        return Reason.RISK_DRAWDOWN
    if 0 < risk.max_day_loss_usd <= loss_usd:
        return Reason.RISK_DAY_LOSS
    return Reason.NONE


def traded_tick_lots(hour: Hour) -> int:
    """Volume of an hour's trades, price × size."""
    codes = hour.kind & CODE_MASK
    trades = (codes == TRADE_BUY) | (codes == TRADE_SELL)
    return int((hour.ticks[trades].astype(np.int64) * hour.lots[trades].astype(np.int64)).sum())


@dataclass(frozen=True)
class _Game:
    """What all sessions have in common."""

    configs: Mapping[str, Config]
    settings: StressSettings
    on_hour: OnHour | None

    def play(
        self, days: Sequence[BarDay], session: Session, first: int = 0, count: int | None = None
    ) -> list[StressOutcome]:
        """Play some hours of markets beside each other, up to the end of the shortest."""
        played = [_Played(day, self.configs, self.settings, session) for day in days]
        risks = [
            config.of(RiskSettings) for config in self.configs.values() for _ in self.settings.fill_models
        ]
        account = _SharedAccount(played, risks)
        name = f"{days[0].date} {' '.join(day.market for day in days)}, {session.value}"
        total = -(-min(len(day.lots) for day in days) // MINUTES_PER_HOUR) - first
        books = [StressBook(day, self.settings.seed).hours(first, count) for day in days]
        for number, hours in enumerate(zip(*books, strict=False), 1):
            if session is Session.SHARED:
                _feed_together(played, hours, account)
            for one, hour in zip(played, hours, strict=True):
                if session is not Session.SHARED:
                    one.feed(hour)
                one.end_hour(hour)
            if self.on_hour is not None:
                self.on_hour(name, number, min(total, count or total))
        return [outcome for one in played for outcome in one.finish()]


def _feed_together(played: Sequence[_Played], hours: Sequence[Hour], account: _SharedAccount) -> None:
    for parts in zip(*(_slices(hour) for hour in hours), strict=True):
        for one, rows in zip(played, parts, strict=True):
            one.feed(rows)
        account.look()


def _slices(hour: Hour) -> list[Hour]:
    """Parts of an hour, each as long as the time between two looks at a shared account."""
    start_ns = int(hour.venue_ns[0]) // NS_PER_MINUTE * NS_PER_MINUTE
    edges = start_ns + np.arange(0, NS_PER_HOUR, _SLICE_NS)
    rows = [*np.searchsorted(hour.venue_ns, edges).tolist(), len(hour.venue_ns)]
    parts = []
    for first, after in pairwise(rows):
        columns: list[Any] = [column[first:after] for column in hour]
        parts.append(Hour(*columns))
    return parts


def run_stress(
    days: Sequence[BarDay],
    configs: Mapping[str, Config],
    settings: StressSettings | None = None,
    on_hour: OnHour | None = None,
) -> list[StressOutcome]:
    """Play the sessions of each date with all contestants and fill models beside each other.

    Parameters
    ----------
    configs : mapping of str to Config
        Settings of each contestant, by its name.
    on_hour : callable, optional
        Is told what is played, how many of its hours are done, and of how many.
    """
    game = _Game(configs, settings or StressSettings(), on_hour)
    found: list[StressOutcome] = []
    for _, group in groupby(sorted(days, key=_start), _start):
        markets = list(group)
        first = max(crash_hour(markets) - _CALM_HOURS, 0)
        for day in markets:
            found += game.play([day], Session.DAY)
            found += game.play([day], Session.CRASH, first, _CRASH_HOURS)
        if len(markets) > 1:
            found += game.play(markets, Session.SHARED, first, _CRASH_HOURS)
    return found


def _start(day: BarDay) -> int:
    return day.start_ns
