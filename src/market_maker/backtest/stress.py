"""`mm backtest --stress`: profiles on days of a crash, in a book made of the day's bars.

A day is played three times: each market alone, from midnight; each alone with an account that comes unhurt to
within an hour or two of the deepest fall, so that the limits which end a losing day early do not spare it the
crash; and from there all markets of the date in one account, whose loss of a day and drawdown they share.

What has to hold each time: no liquidation, and the largest fall of equity, with what it then costs to get out
at once, is no more than the stress loss that the risk manager is set to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.fill_models import MODELS, TRADE_THROUGH, Fees, fill_row
from market_maker.backtest.host import Contestant, MarketMakerRun, RunSettings
from market_maker.backtest.outcome import Label
from market_maker.backtest.portfolio import Seat, SharedAccount, side_by_side
from market_maker.backtest.stress_account import AccountPath, HourBooks
from market_maker.backtest.stress_bars import MINUTES_PER_HOUR, BarDay, crash_hour
from market_maker.backtest.stress_book import StressBook
from market_maker.backtest.stress_outcome import Session, StressOutcome
from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.domain import NS_PER_S, Reason
from market_maker.fills.rows import LogRow
from market_maker.kernel import row_dtype
from market_maker.orderbook_manager import BookSettings
from market_maker.recordings.store import CODE_MASK, TRADE_BUY, TRADE_SELL, Hour
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

    def seats(self) -> dict[Label, Seat]:
        """Where each contestant plays."""
        return {label: Seat(self.run, row) for row, label in enumerate(self._labels)}

    def risks(self) -> dict[Label, RiskSettings]:
        """Limits of each contestant."""
        return dict(zip(self._labels, self._risks, strict=True))

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
        account = _account(played) if session is Session.SHARED else None
        name = f"{days[0].date} {' '.join(day.market for day in days)}, {session.value}"
        total = -(-min(len(day.lots) for day in days) // MINUTES_PER_HOUR) - first
        books = [StressBook(day, self.settings.seed).hours(first, count) for day in days]
        for number, hours in enumerate(zip(*books, strict=False), 1):
            if account is not None:
                _feed_together(played, hours, account)
            for one, hour in zip(played, hours, strict=True):
                if account is None:
                    one.feed(hour)
                one.end_hour(hour)
            if self.on_hour is not None:
                self.on_hour(name, number, min(total, count or total))
        return [outcome for one in played for outcome in one.finish()]


def _account(played: Sequence[_Played]) -> SharedAccount:
    seats: dict[Label, list[Seat]] = {}
    for one in played:
        for label, seat in one.seats().items():
            seats.setdefault(label, []).append(seat)
    return SharedAccount(seats, played[0].risks())


def _feed_together(played: Sequence[_Played], hours: Sequence[Hour], account: SharedAccount) -> None:
    for slices in side_by_side([[hour] for hour in hours], int(hours[0].venue_ns[0]), _SLICE_NS):
        for one, pieces in zip(played, slices, strict=True):
            for rows in pieces:
                one.feed(rows)
        account.look()


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
