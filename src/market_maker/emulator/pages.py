"""Pages of long answers: newest first, continued after the id that is the cursor."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Page(NamedTuple):
    """Part of an answer: rows older than the id `cursor`, at most `limit`; None: from the newest, all."""

    cursor: int | None = None
    limit: int | None = None


WHOLE: Final = Page()


class Wanted(NamedTuple):
    """Which rows are wanted; what is empty does not matter."""

    markets: tuple[str, ...] = ()
    side: str = ""
    kind: str = ""

    def admits(self, market: str, side: str, kind: str = "") -> bool:
        """Whether a row of these is wanted."""
        return (
            (not self.markets or market in self.markets)
            and (not self.side or side == self.side)
            and (not self.kind or kind == self.kind)
        )


ANY: Final = Wanted()


def page_body(rows: Iterable[T], id_of: Callable[[T], int], page: Page) -> bytes:
    """Body of a reply with one page of rows, which come newest first."""
    rest = rows if page.cursor is None else (row for row in rows if id_of(row) < page.cursor)
    chosen = list(islice(rest, page.limit))
    pagination: dict[str, int] = {"count": len(chosen)}
    if chosen:
        pagination["cursor"] = id_of(chosen[-1])
    return _encode({"status": "OK", "data": chosen, "pagination": pagination})
