"""Why a session may not begin as things are."""

from typing import Final

# In place of names, where nobody could tell which orders are open.
UNKNOWN_ORDERS: Final = "unknown"


class StartRefused(Exception):
    """The session may not begin as things are; the message says what is wrong and what to do."""


class ClockSkewed(StartRefused):
    """Our clock and the exchange's are too far apart: orders would expire, and data look old or new."""


class AccountEmpty(StartRefused):
    """The account has no money to trade with."""


class LeverageNotSet(StartRefused):
    """The exchange did not set the leverage as wanted."""


class ForeignOrdersFound(StartRefused):
    """The account has open orders that are not ours."""


class AnotherBotQuotes(StartRefused):
    """Orders under our prefix do not go, or come anew: another bot places them."""


class BooksDisagree(StartRefused):
    """Our journal and the exchange say different things of a position.

    Attributes
    ----------
    remaining : tuple of str
        Our orders that may be open all the same; the others were cancelled.
    """

    def __init__(self, message: str, remaining: tuple[str, ...] = ()) -> None:
        left = f"; orders that may be open (mm cancel-all): {', '.join(remaining)}" if remaining else ""
        super().__init__(message + left)
        self.remaining = remaining


class StoppedByLadder(StartRefused):
    """The kill ladder ended an earlier session, and nobody has resumed since."""
