"""`mm config`: what the settings are, where each came from, whether they are fit to run with."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
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

if TYPE_CHECKING:
    from market_maker.config import Config

config_app = typer.Typer(
    name="config",
    help="Show and check the settings.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples("mm config show", "mm config check --config configs/legacy.toml"),
)
app.add_typer(config_app)


@config_app.command(
    epilog=examples(
        "mm config show --section trend",
        "MM_TREND_ENABLED=no mm config show --market ETH-USD",
        "mm config show --profile legacy --json",
    )
)
def show(
    config: ConfigOption = None,
    overrides: SetOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    section: Annotated[str, typer.Option("--section", help="Only this section.")] = "",
    market: Annotated[str, typer.Option("--market", "-m", help="As they are for this market.")] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Show every setting with its value, unit, origin and meaning."""
    settings = load_settings(config, overrides, profile, env_file)
    sections = [section] if section else list(settings.schema.sections)
    if section and section not in settings.schema.sections:
        known = ", ".join(settings.schema.sections)
        message = f"expected one of {known}, was {section!r}"
        raise typer.BadParameter(message, param_hint="--section")
    if as_json:
        print(json.dumps(settings.as_dict(sections, market), indent=2))
        return
    Console().print(_table(settings, sections, market))
    _note_own_markets(settings)


@config_app.command(
    epilog=examples("mm config check", "mm config check --config my.toml --set trend_mode=fade")
)
def check(
    config: ConfigOption = None,
    overrides: SetOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check the settings: exit code 0 if they are fit to run with, 2 and every problem if not."""
    from market_maker.config import ConfigError

    try:
        settings = load_settings(config, overrides, profile, env_file)
    except ConfigError as error:
        if not as_json:
            raise
        print(json.dumps({"ok": False, "problems": error.problems}, indent=2))
        raise typer.Exit(ExitCode.USAGE) from error
    counts = Counter(settings.origins.values())
    if as_json:
        print(json.dumps({"ok": True, "problems": [], "origins": counts}, indent=2))
        return
    print(f"All {counts.total()} settings are fit to run with:")
    for origin, count in counts.most_common():
        print(f"  {count:4} from {origin}")
    _note_own_markets(settings)


@config_app.command(epilog=examples("mm config reference > docs/reference/settings.md"))
def reference() -> None:
    """Print the reference of all settings as Markdown."""
    from market_maker.cli.settings_reference import markdown

    print(markdown(), end="")


def _table(settings: "Config", sections: Iterable[str], market: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"Settings for {market}" if market else None)
    table.add_column("name", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("unit")
    table.add_column("origin", overflow="fold")
    table.add_column("meaning", ratio=1, overflow="fold")
    origins = settings.market_origins(market)
    for section in sections:
        table.add_section()
        table.add_row(Text(f"[{section}]", style="bold cyan"))
        for setting in settings.schema.settings.values():
            if setting.section != section:
                continue
            value = setting.shown(settings.value(setting.name, market))
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            origin = origins[setting.name]
            style = "" if origin == "default" else "bold green"
            table.add_row(
                Text(setting.name, style),
                Text(text.lower() if isinstance(value, bool) else text, style),
                setting.unit,
                Text(origin, style or "dim"),
                Text(setting.meaning),
            )
    return table


def _note_own_markets(settings: "Config") -> None:
    for market in settings.own_markets:
        names = ", ".join(settings.own_settings(market))
        note(f"{market} has values of its own: {names} (mm config show --market {market})")
