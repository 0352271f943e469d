"""Takes orders off the exchange and shows that they are gone: what `mm cancel-all` and `mm flatten` share."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S, OrderState
from market_maker.gateway import CredentialsRefused, Gateway, OrderReport, VenueError
from market_maker.instrument import Instrument

PATIENCE_S: Final = 30.0
_ROUND_S: Final = 0.5
_LOOKED_UP: Final = 100
Wanted = Callable[[OrderReport], bool]


@dataclass(frozen=True, slots=True)
class Cleared:
    """What became of the orders that were found open; `remaining` are open still.

    `came_late` counts those that came while others were cancelled: somebody is quoting on the account.
    """

    gone: tuple[OrderReport, ...]
    remaining: tuple[OrderReport, ...]
    came_late: int = 0


async def clear_orders(
    gateway: Gateway, clock: Clock, wanted: Wanted, *, whole_markets: bool, patience_s: float = PATIENCE_S
) -> Cleared:
    """Cancel orders until the exchange says that none of them is open, or patience ends.

    Parameters
    ----------
    wanted : callable
        Which orders are to go.
    whole_markets : bool
        Everything in a market may be cancelled at once; else only the wanted orders, one by one.

    Raises
    ------
    VenueError
        If to the end the exchange did not say what is open.
    """
    deadline_ns = clock.now_ns() + round(patience_s * NS_PER_S)
    seen: dict[int, OrderReport] = {}
    first: int | None = None
    while True:
        is_late = clock.now_ns() >= deadline_ns
        try:
            found = [report for report in await gateway.open_orders() if wanted(report)]
        except CredentialsRefused:
            raise
        except VenueError:
            if is_late:
                raise
            await asyncio.sleep(_ROUND_S)
            continue
        seen |= {report.order_id: report for report in found}
        first = len(seen) if first is None else first
        if not found or is_late:
            break
        await _cancel(gateway, found, whole_markets=whole_markets)
        # A cancel is accepted first and carried out later.
        await asyncio.sleep(_ROUND_S)
    remaining = {report.order_id for report in found}
    gone = [report for order_id, report in seen.items() if order_id not in remaining]
    return Cleared(tuple(await _as_they_ended(gateway, gone)), tuple(found), len(seen) - first)


async def _cancel(gateway: Gateway, found: Sequence[OrderReport], *, whole_markets: bool) -> None:
    """Ask once; what fails is asked for again in the next round."""
    try:
        if whole_markets:
            await gateway.mass_cancel(sorted({report.market for report in found}))
            return
        for report in found:
            await gateway.cancel(report.market, report.external_id)
    except CredentialsRefused:
        raise
    except VenueError:
        return


async def _as_they_ended(gateway: Gateway, gone: Sequence[OrderReport]) -> list[OrderReport]:
    """Orders with their last state, where the exchange says it: some may have filled meanwhile."""
    ended = []
    for report in gone[:_LOOKED_UP]:
        try:
            last = await gateway.order(report.external_id) if report.external_id else None
        except CredentialsRefused:
            raise
        except VenueError:
            last = None
        ended.append(
            _of_unknown_end(report)
            if last is None
            else report._replace(state=last.state, filled_lots=last.filled_lots)
        )
    return [*ended, *map(_of_unknown_end, gone[_LOOKED_UP:])]


def _of_unknown_end(report: OrderReport) -> OrderReport:
    """Say of an order that is open no more only this: it was cancelled or filled, and nobody told which."""
    return report._replace(state=OrderState.UNKNOWN)


def order_line(report: OrderReport, instruments: Mapping[str, Instrument]) -> dict[str, object]:
    """An order for people and for JSON: price in USD, sizes in base units, None where nothing is known."""
    rules = instruments.get(report.market)
    return {
        "market": report.market,
        "external_id": report.external_id,
        "side": report.side.name,
        "price": str(rules.price(report.price_ticks)) if rules else None,
        "size": str(rules.size(report.size_lots)) if rules else None,
        "filled": str(rules.size(report.filled_lots)) if rules else None,
        "state": report.state.name,
    }
