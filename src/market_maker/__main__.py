"""The entry of `mm`: signals are met before anything heavy is imported."""

import signal
import sys
from types import FrameType


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run `mm`; SIGTERM before a session has begun ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from market_maker.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("mm: stopped before it began; nothing was sent.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
