"""Why nothing may be quoted in a market: all reasons in force, and the one to give."""

from market_maker.domain import Reason


class Halts:
    """The reasons in force for which nothing may be quoted.

    Attributes
    ----------
    gravest : Reason
        The highest of them, which is the one to give; NONE where quoting is allowed.
    """

    def __init__(self) -> None:
        self.gravest = Reason.NONE
        self._reasons: set[Reason] = set()

    def put(self, reason: Reason, *, in_force: bool) -> bool:
        """Put a reason in force or lift it; whether that changed anything."""
        if (reason in self._reasons) == in_force:
            return False
        if in_force:
            self._reasons.add(reason)
        else:
            self._reasons.discard(reason)
        self.gravest = max(self._reasons, default=Reason.NONE)
        return True
