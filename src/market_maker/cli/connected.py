"""Hosts a session on an exchange behind sockets, in real time: testnet, mainnet or an emulator."""

import asyncio
import sys
from dataclasses import dataclass
from threading import Timer
from typing import Final

import uvloop

from market_maker import cross_market, opening
from market_maker.cli.app import note
from market_maker.cli.child import EmulatorProcess
from market_maker.cli.confirmation import check_word, confirm
from market_maker.cli.connection import connect, outside_in
from market_maker.cli.host import Began, Played, Seat, play_session
from market_maker.cli.loop_watch import LoopWatch
from market_maker.cli.paper import ACCOUNT as PAPER_ACCOUNT
from market_maker.cli.paper import connect_paper
from market_maker.clock import Clock, Entropy, SystemClock
from market_maker.config import Config
from market_maker.config_sections import Network, SessionSettings
from market_maker.exchanges import level_scanner, paper_market
from market_maker.exchanges.extended import ExtendedGateway
from market_maker.gateway import Gateway
from market_maker.strategy import MarketMakerStrategy

_SWITCH_S: Final = 0.0005
# Loading from the cache takes a second or two.
_COMPILES_FOR_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Visit:
    """How an exchange is traded on.

    Parameters
    ----------
    seconds : float or None
        How long to quote; None: until stopped.
    account : int or None
        Account of an emulator to take, instead of the one that the keys of the settings belong to.
    confirmed : str or None
        The word that confirms mainnet, where nobody is there to type it.
    paper : bool
        Take the exchange's data alone, and fill orders here.
    """

    seconds: float | None
    account: int | None = None
    confirmed: str | None = None
    paper: bool = False


def run_connected(
    config: Config, visit: Visit, *, show: bool, emulator: EmulatorProcess | None = None
) -> Played:
    """Run a session on the network of the settings.

    Parameters
    ----------
    emulator : EmulatorProcess or None
        The exchange, where it is a child of ours: the session ends with it.

    Raises
    ------
    ConfigError, EndpointError, NotConfirmed
        If the settings do not say where to trade, or nobody confirms mainnet.
    VenueError, StartRefused, OSError
        If it can not begin. What ends it later is in what is returned, beside the summary.
    """
    if visit.confirmed is not None and config.of(SessionSettings).network is Network.MAINNET:
        check_word(visit.confirmed)
    compile_kernels()
    if visit.paper:
        paper_market.warm_up()
    # The threads of the journal and the view give way to the loop sooner than after the usual 5 ms.
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config, visit, emulator, show=show))


def compile_kernels() -> None:
    """Compile whatever is compiled, or load it from the cache, before anybody waits for it."""
    slow = Timer(
        _COMPILES_FOR_S, note, ("compiling the decision core: once per installation, a few minutes",)
    )
    slow.daemon = True
    slow.start()
    try:
        opening.warm_up()
        cross_market.warm_up()
        level_scanner.warm_up()
    finally:
        slow.cancel()


async def _run(config: Config, visit: Visit, emulator: EmulatorProcess | None, *, show: bool) -> Played:
    clock = SystemClock()
    watch = LoopWatch(clock)
    watch.install(asyncio.get_running_loop())
    gateway, account = await _joined(config, clock, visit)
    began = _ends_with(emulator) if emulator is not None else _nothing
    lasts = emulator is None and not visit.paper
    seat = Seat(gateway, clock, Entropy(), account, watch, began, outside_in(config, clock), lasts)
    # A task of the loop's own, so that its steps are timed too.
    return await asyncio.ensure_future(play_session(seat, config, visit.seconds, show=show))


async def _joined(config: Config, clock: Clock, visit: Visit) -> tuple[Gateway, str]:
    """The account that is traded on, and its name; real money is confirmed first."""
    if visit.paper:
        return await connect_paper(config, clock, visit.account), PAPER_ACCOUNT
    gateway = await connect(config, clock, visit.account)
    account = "" if gateway.account is None else str(gateway.account.account_id)
    try:
        await _confirm(config, account, gateway, visit)
    except BaseException:
        await gateway.close()
        raise
    return gateway, account


async def _confirm(config: Config, account: str, gateway: ExtendedGateway, visit: Visit) -> None:
    if config.of(SessionSettings).network is Network.MAINNET:
        await confirm(config, account, (await gateway.balance()).equity, visit.confirmed)


def _nothing(_strategy: MarketMakerStrategy) -> None:
    """Need nothing of the strategy."""


def _ends_with(emulator: EmulatorProcess) -> Began:
    """Ask the strategy to stop once the emulator, or its market, is gone: there is nothing to trade."""

    def began(strategy: MarketMakerStrategy) -> None:
        loop = asyncio.get_running_loop()

        def gone() -> None:
            if why := emulator.hear():
                loop.remove_reader(emulator.output)
                strategy.stop.ask(why)

        loop.add_reader(emulator.output, gone)

    return began
