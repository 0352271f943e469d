"""An exchange, a machine with the trading process on it, whoever starts that again, and what befalls them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np

from market_maker.clock import Entropy, LoopClock
from market_maker.config import Config
from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.requests import OrderRequest, Request
from market_maker.emulator.scenarios import build_quiet_flow, instruments
from market_maker.faultsim.bot_clock import BotClock
from market_maker.faultsim.drawn_rules import draw_rules
from market_maker.faultsim.fault_plan import FaultPlan, PlannedFault, Stretch
from market_maker.faultsim.final_books import check_journals, check_life, check_position
from market_maker.faultsim.invariants import Scene, Watch
from market_maker.faultsim.life import Life, Machine
from market_maker.faultsim.virtual_disk import VirtualDisk
from market_maker.instrument import MarketStatus

# 2026-01-05 00:00 UTC: an hour of funding and a minute of candles begin there.
START_NS: Final = 1_767_571_200 * NS_PER_S
_DEPOSIT_USD: Final = Decimal(10_000)
_SAMPLE_S: Final = 2.0
_SETTLED_NS: Final = 3 * NS_PER_S
_RESTART_S: Final = (1.0, 6.0)
_LONG_DOWN_SHARE: Final = 0.2
_LONG_DOWN_S: Final = (80.0, 110.0)
_LONGEST_END_S: Final = 240.0
# Where the orders of others rest: far enough not to fill in an hour.
_FOREIGN_SHARE: Final = Decimal("0.03")
_FOREIGN_EVERY_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What is simulated.

    Parameters
    ----------
    changes_per_minute : float
        Instants a minute at which something happens in the market.
    foreign : bool
        Whether somebody else has orders on the account too.
    levels : int
        Levels that the bot quotes on each side.
    """

    seed: int
    seconds: float
    market: str
    changes_per_minute: float
    foreign: bool
    requests_per_minute: int
    levels: int = 1


class World:
    """All of one simulation.

    Parameters
    ----------
    configs : pair of Config
        Settings of the bot, and of the second instance that is started by mistake.
    report : callable
        Told of each violation: invariant, detail.

    Attributes
    ----------
    counts : Counter
        How often each fault that is staged here happened.
    lives : list of Life
        Every process that traded.
    may_start : bool
        A process that has ended is started again.
    """

    def __init__(
        self,
        settings: WorldSettings,
        configs: tuple[Config, Config],
        folder: Path,
        plan: FaultPlan,
        report: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.lives: list[Life] = []
        self._plan = plan
        self._report = report
        self._rng = np.random.default_rng([settings.seed, 3])
        self.clock = LoopClock(asyncio.get_running_loop(), START_NS)
        self.exchange = _exchange(settings)
        self.account = self.exchange.account(self.exchange.add_account(_DEPOSIT_USD))
        self.driver = ExchangeDriver(self.exchange, self.clock, self._after_step)
        self._machine = self._new_machine(configs[0], folder / "main", Entropy(settings.seed))
        self._second = self._new_machine(configs[1], folder / "second", Entropy(settings.seed + 1))
        scene = Scene(
            self.exchange, self._machine, plan, settings.market, START_NS, settings.requests_per_minute
        )
        self.watch = Watch(scene, report)
        self.may_start = True
        self._on_fill: Callable[[], None] | None = None
        self._on_request: Callable[[], None] | None = None
        self._trades = 0

    def _new_machine(self, config: Config, folder: Path, entropy: Entropy) -> Machine:
        clock = BotClock(self.clock)
        return Machine(
            self.driver, self.account.account_id, VirtualDisk(folder), clock, config, entropy, self._sent
        )

    def all_counts(self) -> Counter[str]:
        """How often each fault happened that is none of the exchange's own."""
        return self.counts + self._machine.disk.counts

    @property
    def now_s(self) -> float:
        """Seconds since the exchange opened."""
        return (self.clock.now_ns() - START_NS) / NS_PER_S

    async def play(self) -> None:
        """Let everything happen, to the end of its time."""
        self.driver.start()
        self.exchange.plan_faults([fault.window for fault in self._plan.faults if fault.window is not None])
        staged = [fault for fault in self._plan.faults if fault.window is None]
        tasks = [asyncio.ensure_future(self._stage(fault)) for fault in staged]
        tasks += [asyncio.ensure_future(self._look_at_quiet(stretch)) for stretch in self._plan.quiet[:-1]]
        if self.settings.foreign:
            tasks.append(asyncio.ensure_future(self._be_foreign()))
        supervisor = asyncio.ensure_future(self._supervise())
        while self.now_s < self.settings.seconds:
            await asyncio.sleep(_SAMPLE_S)
            self.watch.sample(self.now_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end(supervisor)
        self.driver.check_failure()
        check_journals(self.account, self._machine.disk.folder, self._report)
        self.driver.close()

    async def _end(self, supervisor: "asyncio.Future[None]") -> None:
        """Tell the bot to end, and wait; a last life that does not is a violation."""
        self.may_start = False
        if self.lives:
            self.lives[-1].terminate()
        done, _ = await asyncio.wait([supervisor], timeout=_LONGEST_END_S)
        if not done:
            self._report("stop", f"the process did not end within {_LONGEST_END_S:.0f} s")
            supervisor.cancel()
        elif supervisor.exception() is not None:
            supervisor.result()

    async def _supervise(self) -> None:
        """Start the process, and again whenever it has ended."""
        while self.may_start:
            life = Life(self._machine)
            self.lives.append(life)
            self.watch.life = life
            await life.wait()
            self._on_end(life)
            if self.may_start:
                await self._be_down(life)

    async def _be_down(self, life: Life) -> None:
        """Wait until the process is started again; a machine that went down with it takes minutes."""
        is_long = life.is_killed and self._rng.random() < _LONG_DOWN_SHARE
        self.watch.is_down = is_long
        self.counts["machine_down"] += is_long
        await asyncio.sleep(float(self._rng.uniform(*(_LONG_DOWN_S if is_long else _RESTART_S))))
        self.watch.is_down = False

    def _on_end(self, life: Life) -> None:
        failure = life.failure()
        if failure is not None:
            self._report("crash", f"{type(failure).__name__}: {failure}")
        if life.is_killed or life.outcome is None:
            return
        own = self.watch.own_open()
        # While two run, what is open may be the other's.
        is_alone = self.clock.now_ns() >= self.watch.second_until_ns
        if own and is_alone and not life.outcome.remaining:
            self._report("stop", f"{own[0].request.external_id} is open, though none was said to remain")
        if self.watch.is_quiet(self.now_s):
            check_life(self.exchange, self.account, life, self._report)

    def _after_step(self, now_ns: int) -> None:
        self.watch.after_step(now_ns)
        trades = len(self.account.trades)
        if trades != self._trades:
            self._trades = trades
            if self._on_fill is not None:
                self._on_fill()

    def _sent(self, request: Request | None) -> None:
        self.watch.on_request(request)
        if self._on_request is not None and request is not None:
            self._on_request()

    async def until(self, at_s: float) -> None:
        """Wait for an instant, s since the exchange opened."""
        await asyncio.sleep(max(0.0, at_s - self.now_s))

    async def _look_at_quiet(self, stretch: Stretch) -> None:
        """At the end of a quiet stretch positions agree, if nothing filled just now."""
        await self.until(stretch.end_s - _SAMPLE_S)
        life, trades = self.watch.life, self.account.trades
        settled = not trades or self.clock.now_ns() - trades[-1].time_ns > _SETTLED_NS
        if life is not None and not life.is_over and settled:
            check_position(self.account, life, self.settings.market, self._report)

    async def _be_foreign(self) -> None:
        """Place an order of somebody else now and then, far from the market."""
        instrument = instruments([self.settings.market])[0]
        number = 0
        while True:
            await asyncio.sleep(float(self._rng.uniform(1.0, _FOREIGN_EVERY_S)))
            number += 1
            side = Side.BUY if self._rng.integers(2) else Side.SELL
            mark = self.exchange.mark(self.settings.market)
            ticks = instrument.ticks_down(mark * (1 - side * _FOREIGN_SHARE))
            request = OrderRequest(
                market=self.settings.market,
                external_id=f"manual{number}",
                side=side,
                price=instrument.price(ticks),
                qty=instrument.min_size,
                expire_ns=self.clock.now_ns() + 7200 * NS_PER_S,
            )
            self.exchange.submit(self.account.account_id, request, self.clock.now_ns())
            await asyncio.sleep(_SAMPLE_S)
            order = self.account.by_external.get(request.external_id)
            if order is not None and order.is_open:
                self.counts["foreign_orders"] += 1
                self.watch.add_foreign(order)

    async def _stage(self, fault: PlannedFault) -> None:
        """Let one fault happen that is none of the exchange's own."""
        await self.until(fault.start_s)
        self.counts[fault.name] += 1
        undo = _STAGES[fault.name](self, fault)
        await self.until(fault.end_s)
        undo()

    def clock_off(self, fault: PlannedFault) -> Callable[[], None]:
        """Our clock goes wrong by so many seconds."""
        ahead_ns = round(fault.value * NS_PER_S)
        clock = self._machine.clock
        clock.ahead_ns += ahead_ns

        def undo() -> None:
            clock.ahead_ns -= ahead_ns

        return undo

    def flip_funding(self, fault: PlannedFault) -> Callable[[], None]:
        """The premium jumps."""
        self.exchange.shift_funding(self.settings.market, fault.value)
        return lambda: self.exchange.shift_funding(self.settings.market, 0.0)

    def shrink_margin(self, fault: PlannedFault) -> Callable[[], None]:
        """The account's leverage is cut."""
        leverages, market = self.account.leverages, self.settings.market
        before = self.account.leverage_in(market)
        leverages[market] = Decimal(repr(round(fault.value, 2)))

        def undo() -> None:
            leverages[market] = before

        return undo

    def close_market(self, fault: PlannedFault) -> Callable[[], None]:
        """The market takes reducing orders only, or none."""
        market = self.settings.market
        is_delisted = fault.name == "market_delisted"
        status = MarketStatus.DELISTED if is_delisted else MarketStatus.REDUCE_ONLY
        self.exchange.set_market_status(market, status)
        return lambda: self.exchange.set_market_status(market, MarketStatus.ACTIVE)

    def fill_disk(self, fault: PlannedFault) -> Callable[[], None]:
        """The disk is full."""
        disk = self._machine.disk
        disk.is_full = True

        def undo() -> None:
            disk.is_full = False

        return undo

    def slow_disk(self, fault: PlannedFault) -> Callable[[], None]:
        """Writes take long."""
        disk = self._machine.disk
        disk.delay_s = fault.value

        def undo() -> None:
            disk.delay_s = 0.0

        return undo

    def terminate(self, fault: PlannedFault) -> Callable[[], None]:
        """SIGTERM."""
        if self.lives:
            self.lives[-1].terminate()
        return _nothing

    def kill(self, fault: PlannedFault) -> Callable[[], None]:
        """SIGKILL: now, just after the next fill or request, or soon after a start."""
        torn_share = float(self._rng.uniform(0.0, 2.0)) % 1.0 if self._rng.integers(2) else 0.0
        delay_s = float(self._rng.uniform(0.0, 0.1))
        done = asyncio.Event()

        def kill_now() -> None:
            if self.lives and not done.is_set():
                done.set()
                self._on_fill = self._on_request = None
                self.lives[-1].kill(torn_share)

        def kill_soon() -> None:
            self._on_fill = self._on_request = None
            asyncio.get_running_loop().call_later(delay_s, kill_now)

        if fault.value < _AT_FILL:
            self._on_fill = kill_soon
        elif fault.value < _AT_REQUEST:
            self._on_request = kill_soon
        elif fault.value < _AT_START:
            self.lives[-1].kill(torn_share)
            delay_s = float(self._rng.uniform(0.0, 8.0))
            kill_soon()
        else:
            kill_now()
        return kill_now

    def start_second(self, fault: PlannedFault) -> Callable[[], None]:
        """Somebody starts the bot once more."""
        life = Life(self._second, "second")
        self.watch.second, self.watch.second_until_ns = life, _FOREVER_NS

        def undo() -> None:
            life.kill(0.0)
            # What it left is cancelled by the first, if that is there and can.
            self.watch.second_until_ns = self.clock.now_ns() + _LEFT_NS

        return undo


_FOREVER_NS: Final = 1 << 62
_LEFT_NS: Final = 60 * NS_PER_S
_AT_FILL: Final = 0.4
_AT_REQUEST: Final = 0.6
_AT_START: Final = 0.8


def _nothing() -> None:
    """There is nothing to undo."""


def _exchange(settings: WorldSettings) -> Exchange:
    rules = draw_rules(settings.seed, settings.requests_per_minute)
    flow = build_quiet_flow(settings.market, settings.changes_per_minute, settings.seed, START_NS)
    rng = np.random.default_rng([settings.seed, 1])
    return Exchange(instruments([settings.market]), [flow], rules, rng, START_NS)


_STAGES: Final[dict[str, Callable[[World, PlannedFault], Callable[[], None]]]] = {
    "clock_skew": World.clock_off,
    "clock_jump": World.clock_off,
    "funding_flip": World.flip_funding,
    "margin_shrink": World.shrink_margin,
    "market_reduce_only": World.close_market,
    "market_delisted": World.close_market,
    "full_disk": World.fill_disk,
    "slow_disk": World.slow_disk,
    "sigterm": World.terminate,
    "kill": World.kill,
    "second_instance": World.start_second,
}
