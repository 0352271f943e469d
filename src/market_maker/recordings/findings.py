"""What validation finds in a recording while it is read: counted, repaired where a rule exists."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from market_maker.recordings.events import REPAIRABLE_DISORDER_NS, RecordingError


class Findings:
    """Counts by name, and the gaps: from the last stamp before a hole to the first one after it, ns."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gaps: list[tuple[int, int]] = []

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count; one that stays at zero is not told."""
        if number:
            self.counts[name] += number


class Stamps:
    """Stamps of one stream from piece to piece: those that step back a little are raised to the last one."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._newest_ns = 0

    def repaired(self, venue_ns: NDArray[np.int64], place: str = "", first_row: int = 0) -> NDArray[np.int64]:
        """Stamps that never fall; what was raised is counted.

        Raises
        ------
        RecordingError
            If one lies more than a second behind an earlier one; `place` and its row are named.
        """
        raised = np.maximum(np.maximum.accumulate(venue_ns), self._newest_ns)
        late = np.flatnonzero(venue_ns < raised - REPAIRABLE_DISORDER_NS)
        if late.size:
            row = int(late[0])
            msg = (
                f"{place} {first_row + row}: expected a stamp of {int(raised[row])} ns or later, "
                f"was {int(venue_ns[row])}"
            )
            raise RecordingError(msg)
        self._findings.count("stamps_raised", int(np.count_nonzero(raised != venue_ns)))
        self._newest_ns = int(raised[-1])
        return raised
