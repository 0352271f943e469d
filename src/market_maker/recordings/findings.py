"""What validation finds in a recording while it is read: counted, repaired where a rule exists."""

from collections import Counter


class Findings:
    """Counts by name, and the gaps: from the last stamp before a hole to the first one after it, ns."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gaps: list[tuple[int, int]] = []

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count; one that stays at zero is not told."""
        if number:
            self.counts[name] += number
