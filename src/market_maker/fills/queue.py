"""How much is ahead of an order at its price.

A trade there takes from the front. When the level's size falls by more than was traded, some leave ahead of
us and some behind, and nobody says which. With front F, back B = size − F and a fall of c, the share p of
leavers behind us is f(B) / (f(B) + f(F)), so F' = F − (1 − p)·c + min(B − p·c, 0), and never more than the
new size. f(x) = xⁿ or log(1 + x); a large n says that others leave from the longer part. (R. Rigtorp,
"Estimating order queue position", 2013; hftbacktest's PowerProbQueueFunc and LogProbQueueFunc.) The
risk-averse model lets all of them leave from behind, its opposite (AHEAD) from ahead while there are any:
what a real queue does lies between.

The queue is counted in floats of `lots_per_unit` lots, each order's by itself and in the order of events, so
nothing depends on the order of a sum.
"""

import math
from typing import Final

from market_maker.fills.rows import OrderRow, QueueModel, StrategyRow
from market_maker.kernel import inner_kernel

_RISK_AVERSE: Final = int(QueueModel.RISK_AVERSE)
_LOG: Final = int(QueueModel.LOG)
_TRADE_THROUGH: Final = int(QueueModel.TRADE_THROUGH)
_AHEAD: Final = int(QueueModel.AHEAD)


@inner_kernel
def _weight(s: StrategyRow, amount: float) -> float:
    if s.queue_model == _LOG:
        return math.log(1.0 + max(amount, 0.0))
    if amount < 0.0 and s.queue_power != math.floor(s.queue_power):
        return 0.0
    if amount == 0.0 and s.queue_power <= 0.0:
        return 1.0
    return math.pow(amount, s.queue_power)


@inner_kernel
def share_behind(s: StrategyRow, front: float, back: float) -> float:
    """Share of those who leave a level that stood behind us, 0 to 1."""
    behind = _weight(s, back)
    total = behind + _weight(s, front)
    return behind / total if total > 0.0 else 1.0


@inner_kernel
def on_level(s: StrategyRow, order: OrderRow, before_lots: int, lots: int) -> None:
    """Move an order up after its level changed."""
    if s.queue_model == _TRADE_THROUGH:
        return
    before, after = before_lots / s.lots_per_unit, lots / s.lots_per_unit
    left = before - after - order.traded
    order.traded = 0.0
    front = order.front
    if s.queue_model == _AHEAD and left >= 0.0 and front <= before:
        front = max(front - left, 0.0)
    elif s.queue_model != _RISK_AVERSE and left >= 0.0 and front <= before:
        back = before - front
        behind = share_behind(s, front, back)
        front = front - (1.0 - behind) * left + min(back - behind * left, 0.0)
    order.front = min(front, after)


@inner_kernel
def on_trade(s: StrategyRow, order: OrderRow, lots: int, printed_lots: int) -> int:
    """Take a trade at the order's price from what is ahead of it; return the lots that reach the order.

    `printed_lots` is what the level's next size will be less by, `lots` what our earlier orders left of it.
    """
    if s.queue_model == _TRADE_THROUGH:
        return 0
    order.front -= lots / s.lots_per_unit
    order.traded += printed_lots / s.lots_per_unit
    if order.front >= 0.0:
        return 0
    # Divided by a lot, not multiplied: the same float as where the queue is counted in contracts. To the
    # nearest lot, since a whole lot that is a sum of floats may lack the last bit.
    passed = -order.front / (1.0 / s.lots_per_unit)
    reached = math.floor(passed)
    if passed - reached >= 0.5:
        reached += 1
    if s.partial_fills:
        order.front = 0.0
    return reached
