"""`python -m market_maker` is `mm`."""

import sys

from market_maker.cli import main

if __name__ == "__main__":
    sys.exit(main())
