"""The entry of `mm`: signals are met before anything heavy is imported."""

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # Not an exception: raised in the middle of an import it would come out as any other. No session has
    # begun, so nothing is at stake; once one has, the event loop meets the signals (strategy.Stop).
    os.write(2, b"mm: stopped; no session had begun, and nothing was sent.\n")
    if "--json" in sys.argv:
        # Nobody asked the exchange: what an earlier run left open there is not known.
        account = f'{{"open_orders":null,"stopped_by":"{signal.Signals(number).name}"}}'
        os.write(1, f'{{"runs":[],"account":{account}}}\n'.encode())
    os._exit(_INTERRUPTED)


def main() -> int:
    """Run `mm`; a signal before a session has begun ends it with one message."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    from market_maker.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
