"""`mm emulator`: the exchange on this machine, with its real protocol on a socket."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market_maker.cli.app import JsonOption, app, examples, load_settings
from market_maker.cli.play import LONGEST_S, RICHEST_USD

if TYPE_CHECKING:
    from market_maker.config_sections import Secret

_MOST_ACCOUNTS = 100
_MOST_SKEW_S = 3600.0


@app.command(
    epilog=examples(
        "mm emulator",
        "mm emulator --port 8790 --accounts 2 --scenario trend --latency-ms 40",
        "mm emulator --fault silent_streams@60+20 --fault lost_replies=0.2@120+30",
        "mm emulator --recording FOLDER --market ETH-USD",
    )
)
def emulator(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = 8790,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but a loopback address needs MM_EMULATOR_TOKEN.")
    ] = "127.0.0.1",
    accounts: Annotated[int, typer.Option(min=1, max=_MOST_ACCOUNTS, help="How many test accounts.")] = 2,
    deposit: Annotated[
        float, typer.Option(min=0.0, max=RICHEST_USD, help="Money of each account, USD.")
    ] = 10_000.0,
    scenario: Annotated[
        str, typer.Option(help="Generated market: calm, choppy, trend, crash, mixed, ramp or flat.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated market and of the keys.")] = 1,
    recording: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Follow a recorded market instead: folder or file.")
    ] = None,
    offset: Annotated[
        float, typer.Option(min=0.0, max=LONGEST_S, help="Where in the recording to begin, s.")
    ] = 0.0,
    market: Annotated[
        list[str] | None,
        typer.Option("--market", "-m", help="Market to offer; may be repeated. (default: all)"),
    ] = None,
    funding_every: Annotated[
        float,
        typer.Option(min=1.0, max=LONGEST_S, help="Time between funding payments, s; 3600 on the exchange."),
    ] = 3600.0,
    latency_ms: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=60_000.0, help="Time of each way, to the exchange and back. (default: as at home)"
        ),
    ] = None,
    requests_per_minute: Annotated[
        int, typer.Option(min=1, help="Requests that an account may send in a minute.")
    ] = 1000,
    one_limit: Annotated[
        bool,
        typer.Option(
            "--one-limit", help="All clients share that limit, as all of one address do on the exchange."
        ),
    ] = False,
    clock_ahead: Annotated[
        float,
        typer.Option(min=-_MOST_SKEW_S, max=_MOST_SKEW_S, help="How far the exchange's clock is ahead, s."),
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]@FROM+FOR",
            help="Fail from a second on, so long; may be repeated. 'list' tells what there is.",
        ),
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not check signatures: faster.")] = False,
    exit_with_stdin: Annotated[
        bool,
        typer.Option("--exit-with-stdin", help="End when standard input closes; leave Ctrl-C to others."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Be the exchange, on this machine: REST and streams for any client, and test accounts with money."""
    from market_maker.cli.emulation import Emulation, exchange_rules, run_emulation
    from market_maker.emulator.assembly import MarketSource
    from market_maker.emulator.faults import known_faults, parse_fault
    from market_maker.emulator.scenarios import market_names
    from market_maker.emulator.server_rules import ServerRules

    if fault == ["list"]:
        print(f"Faults, with the value that each has where none is given:\n{known_faults()}")
        return
    generated = () if recording else market_names()
    emulation = Emulation(
        source=MarketSource(tuple(market or generated), scenario, seed, recording, offset),
        rules=exchange_rules(latency_ms, funding_every, requests_per_minute, one_rate_limit=one_limit),
        server_rules=ServerRules(verify_signatures=not no_verify),
        faults=tuple(parse_fault(each) for each in fault or ()),
        accounts=accounts,
        deposit=Decimal(str(deposit)),
        host=host,
        port=port,
        clock_ahead_s=clock_ahead,
        token=_token(host),
    )
    run_emulation(emulation, exit_with_stdin=exit_with_stdin, as_json=as_json)


def _token(host: str) -> "Secret":
    """Token of the environment or of .env that requests have to bring, where others reach the address."""
    from market_maker.access import Exposed, check_exposure, is_loopback
    from market_maker.config import ConfigError
    from market_maker.config_sections import NO_SECRET, ConnectionSettings

    if is_loopback(host):
        return NO_SECRET
    token = load_settings(None, None, None).of(ConnectionSettings).emulator_token
    try:
        check_exposure("--host", host, token.reveal(), "MM_EMULATOR_TOKEN")
    except Exposed as error:
        raise ConfigError([str(error)]) from error
    return token
