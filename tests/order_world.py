"""One order manager on one fake exchange, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

from fakes import START_NS, FakeGateway, pump

from market_maker.clock import Entropy, LoopClock
from market_maker.domain import Action, Decision, OrderState, Reason, Side, SlotId
from market_maker.exposure import NO_LIMIT, AccountView, Exposure, MarketRisk, MarketRules, Portfolio
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.gateway import (
    FillReport,
)
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderObservers, OrderSettings
from market_maker.risk_manager import Approved, OrderStyle, RiskManager, RiskSettings

S = OrderState
MARKET = "X-USD"
BID = SlotId(MARKET, Side.BUY, 0)
ASK = SlotId(MARKET, Side.SELL, 0)
_UNLIMITED = RiskSettings(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_RULES = MarketRules(10**6, NO_LIMIT, NO_LIMIT * 10**12, NO_LIMIT * 10**12, 1)


def approve(
    slot: SlotId,
    action: Action = Action.PLACE,
    price: int = 100,
    lots: int = 10,
    *,
    reduce_only: bool = False,
    style: OrderStyle = OrderStyle.POST_ONLY,
) -> Approved:
    risk = MarketRisk(_RULES, 0, Exposure(), 10**9)
    portfolio = Portfolio({slot.market: risk}, AccountView(10**22, 10**22, 0))
    decision = Decision(action, Reason.NEW_QUOTE, price, lots, reduce_only)
    verdict = RiskManager(_UNLIMITED).approve(slot, decision, portfolio, START_NS, style)
    assert isinstance(verdict, Approved)
    return verdict


class World:
    """One manager on one fake exchange; what the observers heard."""

    def __init__(self, settings: OrderSettings | None = None) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.gateway = FakeGateway()
        self.clock = LoopClock(asyncio.get_running_loop(), START_NS)
        self.settings = settings or OrderSettings(order_expiry_s=90.0)
        self.orders = OrderManager(
            self.gateway,
            self.clock,
            Entropy(1),
            self.settings,
            OrderObservers(
                on_fill=self._on_fill,
                on_level_freed=lambda slot, state, reason: self.heard.append(("freed", slot, state, reason)),
                on_post_only_rejected=lambda slot: self.heard.append(("post_only", slot)),
                on_rejected=lambda slot, reason: self.heard.append(("rejected", slot, reason)),
            ),
        )

    def _on_fill(self, slot: SlotId | None, report: FillReport) -> None:
        self.heard.append(("fill", slot, report.fill.size_lots))

    async def do(self, slot: SlotId, action: Action = Action.PLACE, **kwargs) -> None:
        await self.orders.apply(slot, approve(slot, action, **kwargs))

    async def quote(self, slot: SlotId = BID, **kwargs) -> str:
        """Place an order and hear that it rests; its external id."""
        await self.do(slot, **kwargs)
        self.pump()
        order = self.orders.slot_order(slot)
        assert order is not None
        assert order.state == S.LIVE
        return order.external_id

    def pump(self) -> None:
        pump(self.gateway, self.orders)

    def traded(self) -> int:
        return sum(item[2] for item in self.heard if item[0] == "fill")

    def state(self, slot: SlotId = BID) -> OrderState | None:
        order = self.orders.slot_order(slot)
        return None if order is None else order.state

    def lots(self) -> tuple[int, int]:
        exposure = self.orders.exposure(MARKET)
        return exposure.buy_lots, exposure.sell_lots

    def requests(self, name: str) -> int:
        return sum(call == name for call, _ in self.gateway.calls)


def virtual(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        await test(World())

    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main())

    run.__name__ = test.__name__
    return run
