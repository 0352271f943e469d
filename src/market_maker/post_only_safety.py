"""Distance to the other side of the book at which a post-only order rests.

A post-only order that would cross on arrival is rejected, and the book moves while the order travels. So a
bid stays a few ticks under the best ask and an ask a few ticks over the best bid. How many is learned for
each slot: a rejection adds a tick, orders that rest take it back, and a streak of rejections makes the slot
wait, twice as long each time: the market runs through our price, and the next order would share its fate.

A post-only rejection is not a failure. The exchange did what we asked of it, and nothing about connection,
account or limits is wrong; so it is counted here alone and never feeds the circuit breaker.

The clamp only ever moves a price away from the market. It does not judge whether the price is a good one.
"""

from dataclasses import dataclass
from typing import Final

from market_maker.domain import NS_PER_S, Side
from market_maker.kernel import kernel, new_row

_BUY: Final = int(Side.BUY)
_MAX_DOUBLINGS: Final = 40  # far beyond any sensible ceiling, and still exact in a float


@dataclass(frozen=True)
class PostOnlySettings:
    """Distance to the other side of the book, and how it adapts.

    Raises
    ------
    ValueError
        For fewer than one tick or rejection, or a time that is negative.
    """

    post_only_safety_ticks: int = 1  # ticks, least distance to the other side's best price
    adaptive_pof_enabled: bool = True  # learn from post-only rejections
    pof_max_safety_ticks: int = 5  # ticks, largest distance that is learned
    pof_streak_for_backoff: int = 3  # rejections in a row, from which on the slot waits
    pof_backoff_base_s: float = 0.5  # s, first wait; each further rejection doubles it
    pof_backoff_max_s: float = 8.0  # s, longest wait
    pof_reset_s: float = 30.0  # s without a rejection, after which all is forgotten

    def __post_init__(self) -> None:
        for name in ("post_only_safety_ticks", "pof_max_safety_ticks", "pof_streak_for_backoff"):
            self._require(name, 1)
        for name in ("pof_backoff_base_s", "pof_backoff_max_s", "pof_reset_s"):
            self._require(name, 0)

    def _require(self, name: str, low: int) -> None:
        value = self.__dict__[name]
        if not low <= value <= 1e6:
            msg = f"{name}: expected {low} to 1000000, was {value!r}"
            raise ValueError(msg)


@dataclass
class PostOnlyState:
    """What one slot learned. The initial value is also what `reset` returns to."""

    streak: int = 0  # rejections not yet made up for
    dynamic_ticks: int = 0  # ticks, on top of the least distance
    backoff_until_ns: int = 0
    last_rejection_ns: int = 0


@kernel
def effective_ticks(settings: PostOnlySettings, state: PostOnlyState) -> int:
    """Distance that is kept from the other side's best price, ticks ≥ 1."""
    base = max(settings.post_only_safety_ticks, 1)
    if not settings.adaptive_pof_enabled:
        return base
    return min(base + state.dynamic_ticks, max(base, settings.pof_max_safety_ticks))


@kernel
def clamp_price(
    settings: PostOnlySettings,
    state: PostOnlyState,
    side: int,
    price_ticks: int,
    bid_ticks: int,
    ask_ticks: int,
) -> int:
    """Move a price away from the other side of the book where it is too near.

    Parameters
    ----------
    settings, state
        Records.
    side
        +1 for a bid, −1 for an ask.
    price_ticks
        Wanted price; it is never improved.
    bid_ticks, ask_ticks
        Best prices; 0 where a side of the book is empty, which then clamps nothing.

    Returns
    -------
    int
        Price in ticks; 0 where no positive price is far enough below the best ask.
    """
    ticks = effective_ticks(settings, state)
    if side == _BUY:
        return min(price_ticks, max(ask_ticks - ticks, 0)) if ask_ticks > 0 else price_ticks
    return max(price_ticks, bid_ticks + ticks) if bid_ticks > 0 else price_ticks


@kernel
def reset(state: PostOnlyState) -> None:
    """Forget all rejections, as for a new slot."""
    state.streak = 0
    state.dynamic_ticks = 0
    state.backoff_until_ns = 0
    state.last_rejection_ns = 0


@kernel
def _is_forgotten(settings: PostOnlySettings, state: PostOnlyState, now_ns: int) -> bool:
    return float(now_ns - state.last_rejection_ns) >= settings.pof_reset_s * NS_PER_S


@kernel
def on_rejection(settings: PostOnlySettings, state: PostOnlyState, now_ns: int) -> None:
    """Learn from a post-only rejection: one tick more, and a wait from the set streak on.

    The wait is base · 2^(streak − threshold), at most its ceiling.
    """
    if not settings.adaptive_pof_enabled:
        return
    if _is_forgotten(settings, state, now_ns):
        reset(state)
    room = settings.pof_max_safety_ticks - settings.post_only_safety_ticks
    state.streak += 1
    state.dynamic_ticks = max(0, min(state.dynamic_ticks + 1, room))
    state.last_rejection_ns = now_ns
    doublings = state.streak - settings.pof_streak_for_backoff
    if doublings >= 0:
        wait_s = settings.pof_backoff_base_s * 2.0 ** float(min(doublings, _MAX_DOUBLINGS))
        state.backoff_until_ns = now_ns + int(min(wait_s, settings.pof_backoff_max_s) * NS_PER_S)


@kernel
def on_success(settings: PostOnlySettings, state: PostOnlyState, now_ns: int) -> None:
    """Learn from an order that rests: the wait ends, and one rejection is made up for."""
    if _is_forgotten(settings, state, now_ns):
        reset(state)
        return
    state.streak = max(0, state.streak - 1)
    state.dynamic_ticks = min(state.dynamic_ticks, state.streak)
    state.backoff_until_ns = 0


@kernel
def backing_off(state: PostOnlyState, now_ns: int) -> bool:
    """Tell whether the slot is to wait before its next order."""
    return now_ns < state.backoff_until_ns


class PostOnlySafety:
    """The post-only safety of one slot, for the bench: it keeps the state and calls the kernels."""

    def __init__(self, settings: PostOnlySettings) -> None:
        self._settings = new_row(settings)
        self._state = new_row(PostOnlyState())

    def clamp_price(self, side: Side, price_ticks: int, bid_ticks: int, ask_ticks: int) -> int:
        """Price that rests: see the function of the same name."""
        return clamp_price(
            self._settings[0], self._state[0], int(side), int(price_ticks), int(bid_ticks), int(ask_ticks)
        )

    def effective_ticks(self) -> int:
        """Distance that is kept now, ticks."""
        return effective_ticks(self._settings[0], self._state[0])

    def on_rejection(self, now_ns: int) -> None:
        """Learn from a post-only rejection."""
        on_rejection(self._settings[0], self._state[0], int(now_ns))

    def on_success(self, now_ns: int) -> None:
        """Learn from an order that rests."""
        on_success(self._settings[0], self._state[0], int(now_ns))

    def backing_off(self, now_ns: int) -> bool:
        """Tell whether the slot is to wait."""
        return backing_off(self._state[0], int(now_ns))

    def reset(self) -> None:
        """Forget all rejections."""
        reset(self._state[0])
