"""`mm record`: write down what the network of the settings tells of its markets."""

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from market_maker.cli.app import ConfigOption, JsonOption, SetOption, app, examples, load_settings

if TYPE_CHECKING:
    from market_maker.config import Config
    from market_maker.recorder import Recorder

_SHOWN_EVERY_S = 0.5


@app.command(
    epilog=examples(
        "mm record --market BTC-USD --market ETH-USD --to heard --set network=mainnet",
        "mm record --market BTC-USD --to heard --seconds 3600",
        "mm data convert heard --to data",
    )
)
def record(
    market: Annotated[list[str], typer.Option("--market", "-m", help="Market to record; may be repeated.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the segments.")],
    *,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="How long; 0: until Ctrl-C.")] = 0,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record the public streams of markets, losslessly: book, best quote, trades, mark, index, funding.

    No key is needed, and none is sent. A process that is killed loses a second at most; what is on the disk
    stays readable, and a recording may be started again into the same folder.
    """
    counts = asyncio.run(_record(load_settings(config, settings, None), market, to, seconds))
    if as_json:
        print(json.dumps({"folder": str(to), "events": counts}))
    else:
        Console().print(
            f"{sum(sum(kinds.values()) for kinds in counts.values()):,} events recorded below {to}"
        )


async def _record(config: "Config", markets: list[str], folder: Path, seconds: float) -> dict[str, Any]:
    from market_maker.cli.connection import connect_public
    from market_maker.clock import SystemClock
    from market_maker.config_sections import SessionSettings
    from market_maker.public_markets import find_markets
    from market_maker.recorder import Recorder

    clock = SystemClock()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    gateway = await connect_public(config, clock)
    try:
        names = list(find_markets(await gateway.instruments(()), markets))
        recorder = Recorder(gateway, folder, clock, config.of(SessionSettings).network.value)
        task = asyncio.create_task(recorder.run(names))
        await _watch(task, recorder, stopped, seconds)
        return _counts(recorder)
    finally:
        await gateway.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _watch(
    task: "asyncio.Task[None]", recorder: "Recorder", stopped: asyncio.Event, seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds if seconds else float("inf")
    wish = asyncio.create_task(stopped.wait())
    try:
        with Live(console=Console(stderr=True), auto_refresh=False) as live:
            while not (task.done() or wish.done()) and loop.time() < ends:
                await asyncio.wait(
                    {task, wish},
                    timeout=min(_SHOWN_EVERY_S, ends - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                live.update(Text(_line(recorder)), refresh=True)
    finally:
        wish.cancel()
        task.cancel()
        # What the recorder failed of is told; that it was cancelled is not.
        [ended] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended


def _line(recorder: "Recorder") -> str:
    parts = [
        f"{market}: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        for market, kinds in sorted(_counts(recorder).items())
    ]
    return "\n".join(parts) or "nothing heard yet"


def _counts(recorder: "Recorder") -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (market, kind), count in recorder.counts.items():
        found.setdefault(market, {})[kind] = count
    return found
