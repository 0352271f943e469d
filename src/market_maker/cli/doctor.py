"""`mm doctor`: whether everything is ready to trade, in one table."""

import asyncio
import json
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_maker.cli.app import (
    ConfigOption,
    EnvFileOption,
    ExitCode,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
    note,
)
from market_maker.cli.orders import AccountOption

if TYPE_CHECKING:
    from market_maker.cli.checks import Examination
    from market_maker.exchanges.extended import ExtendedGateway

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command(
    epilog=examples("mm doctor", "mm doctor --set network=mainnet", "mm doctor --config my.toml --json")
)
def doctor(
    *,
    account: AccountOption = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether everything is ready: network, clock, keys, money, markets, streams, limits.

    It places no order and changes nothing. Exits with 0 if the bot can start, else with 1.
    """
    from market_maker.cli.checks import Examination
    from market_maker.clock import SystemClock

    loaded = load_settings(config, settings, profile, env_file)
    examination = Examination(loaded, SystemClock())
    asyncio.run(_examine(examination, account))
    if as_json:
        found = [
            {"check": it.check, "verdict": it.verdict.value, "found": it.found, "advice": it.advice}
            for it in examination.findings
        ]
        print(json.dumps({"ready": examination.is_ready, "checks": found}, indent=2))
    else:
        Console().print(_table(examination))
        note("ready to trade" if examination.is_ready else "not ready: see what failed")
    raise typer.Exit(ExitCode.OK if examination.is_ready else ExitCode.FAILED)


def _table(examination: "Examination") -> Table:
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("")
    # What does not fit is for the next line: a host that is cut off says nothing.
    table.add_column("found", ratio=1, overflow="fold")
    table.add_column("what to do")
    for it in examination.findings:
        style = _STYLES[it.verdict.value]
        table.add_row(Text(it.check), Text(it.verdict.value, style), Text(it.found), Text(it.advice))
    return table


async def _examine(examination: "Examination", account: int | None) -> None:
    """Look at everything, as far as one gets."""
    if not await _public(examination):
        return
    gateway = await _logged_in(examination, account)
    if gateway is None:
        return
    try:
        await _private(examination, gateway)
    finally:
        await gateway.close()


async def _public(examination: "Examination") -> bool:
    """Network, clock and markets, without an account; whether the exchange can be reached at all."""
    from market_maker.cli.checks import Verdict
    from market_maker.cli.connection import connect_public, endpoint_in
    from market_maker.config_sections import Network, SessionSettings
    from market_maker.gateway import Unreachable, VenueError

    config = examination.config
    session, endpoint = config.of(SessionSettings), endpoint_in(config)
    examination.note("settings", Verdict.OK, f"{len(config.origins)} settings, profile {session.profile}")
    gateway = await connect_public(config, examination.clock)
    where = f"{endpoint.network} at {endpoint.host}"
    try:
        try:
            await gateway.listings(session.markets[:1])
        except Unreachable as error:
            examination.note("network", Verdict.FAIL, str(error))
            return False
        except VenueError as error:
            found = str(error)
            named = found if endpoint.host in found else f"{where}: {found}"
            examination.note("network", Verdict.FAIL, named, "is this the exchange's address?")
            return False
        is_real = session.network is Network.MAINNET
        advice = "this is real money" if is_real else ""
        examination.note("network", Verdict.WARN if is_real else Verdict.OK, where, advice)
        await examination.look("clock", examination.clock_skew(gateway))
        await examination.look("markets", examination.markets(gateway))
    finally:
        await gateway.close()
    return True


async def _logged_in(examination: "Examination", account: int | None) -> "ExtendedGateway | None":
    """The account of the keys; None where there is none."""
    from market_maker.cli.checks import Verdict
    from market_maker.cli.connection import connect
    from market_maker.config import ConfigError
    from market_maker.gateway import VenueError

    try:
        gateway = await connect(examination.config, examination.clock, account)
    except (ConfigError, VenueError) as error:
        examination.note("keys", Verdict.FAIL, str(error))
        return None
    info = gateway.account
    name = "" if info is None else f"sub-account {info.account_id}, vault {info.vault}, {info.status}"
    is_active = info is not None and info.status == "ACTIVE"
    examination.note("keys", Verdict.OK if is_active else Verdict.FAIL, name)
    return gateway


async def _private(examination: "Examination", gateway: "ExtendedGateway") -> None:
    await examination.look("balance", examination.balance(gateway))
    await examination.look("leverage", examination.leverage(gateway))
    await examination.look("open orders", examination.orders(gateway))
    await examination.look("rate limit", examination.rate(gateway))
    await examination.look("latency", examination.latency(gateway))
    await examination.look("dead man's switch", examination.switch(gateway))
    await examination.look("streams", _streams(examination, gateway))


async def _streams(examination: "Examination", gateway: "ExtendedGateway") -> None:
    from market_maker.config_sections import SessionSettings

    instruments = await gateway.instruments(())
    await examination.look("stream of the account", examination.account_stream(gateway))
    for market in examination.config.of(SessionSettings).markets:
        if market in instruments:
            await examination.look(f"stream of {market}", examination.book(gateway, market))
