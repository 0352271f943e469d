"""The command line, `mm`: one file per verb."""

from market_maker.cli import config, demo, markets
from market_maker.cli.app import main

# Importing a verb's module declares the verb.
_VERBS = (config, demo, markets)

__all__ = ["main"]
