"""May this decision become an order? Numbers in, a verdict out.

Exposure is the worst case (exposure.py). An order that cannot carry the position past flat even then reduces,
and is always allowed: caps, margin, day loss, drawdown and the order rate bind only what adds risk, so a cap
that the price drifts across never freezes a position.

Money is whole picodollars, limits whole microdollars and parts per million of what the settings say, a lot's
value at the mark is rounded up: so no limit is passed by a rounding. `Approved` is made here alone, and an
order manager takes nothing else. It refuses to size, price or cancel anything by itself.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from market_maker.domain import NS_PER_S, Action, Decision, Reason, Side, SlotId
from market_maker.exposure import (
    NO_LIMIT,
    PPM,
    PUSD_PER_USD,
    AccountView,
    MarketRisk,
    NetBetaSettings,
    Portfolio,
    gross_pusd,
    initial_margin,
    is_near_liquidation,
    net_beta_room,
    order_cost,
    with_order,
    worst_case,
)

_NS_PER_DAY: Final = 86_400 * NS_PER_S
# The exchange counts resting orders at their own prices and at a mark that is newer than ours by the way of
# an order: this part of equity is left for the difference.
_MARGIN_RESERVE_PPM: Final = 20_000


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """Limits. The first three bind each market, the others the account; for all of them 0 means no limit."""

    max_position_size: float = 0.0  # contracts (base units) of a market
    max_position_notional_usd: float = 10_000.0  # at the mark
    max_order_notional_usd: float = 2_500.0  # at the order's price
    max_gross_notional_usd: float = 30_000.0  # sum of the markets' worst cases, at the mark
    max_margin_utilisation: float = 0.8  # initial margin of the worst case / equity
    min_liquidation_distance: float = 0.05  # |mark − liquidation price| / mark
    stress_move: float = 0.1  # fraction by which every market moves against the worst case
    max_stress_loss_usd: float = 3_000.0  # loss under that move
    mark_price_band: float = 0.03  # how far a buy may lie above, a sell below the mark
    max_orders_per_s: float = 12.0  # places and replaces; also the size of a burst; Extended: 16.6 with all
    max_day_loss_usd: float = 1_000.0  # since 00:00 UTC
    max_drawdown_usd: float = 1_000.0  # from the peak of equity


class OrderStyle(IntEnum):
    """How an approved order trades: as a maker only, as it comes, or at once and never resting."""

    POST_ONLY = 0
    LIMIT = 1
    IMMEDIATE_OR_CANCEL = 2


class RiskState(NamedTuple):
    """What must outlive a reload and a restart: the equity's peak, and its start of the day."""

    peak_pusd: int = 0
    day_start_pusd: int = 0
    day: int = -1  # days since the epoch, UTC; −1 before the first equity
    equity_pusd: int = 0
    halt: Reason = Reason.NONE  # day loss or drawdown; latched


class _Seal:
    """Shown by whoever may approve."""


_SEAL: Final = _Seal()


@dataclass(frozen=True, slots=True)
class Approved:
    """A decision that passed the limits, for immediate use. Only this module can make one.

    Raises
    ------
    TypeError
        If anybody else tries.
    """

    slot: SlotId
    decision: Decision
    style: OrderStyle
    seal: _Seal

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            msg = "an Approved comes from the risk manager alone"
            raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class Refused:
    """A decision that did not pass, and why; for a replacement, `instead` is the cancel of the old order."""

    reason: Reason
    instead: Approved | None = None


class _Limits(NamedTuple):
    """The account's limits in whole units."""

    gross_pusd: int
    margin_ppm: int
    liquidation_ppm: int
    stress_ppm: int
    stress_loss_pusd: int
    band_ppm: int
    rate_n_per_s: int
    day_loss_pusd: int
    drawdown_pusd: int
    net_beta_pusd: int


def limit_pusd(usd: float) -> int:
    """Picodollars of a limit in USD, to the microdollar; `NO_LIMIT` dollars where it is 0."""
    return round(usd * PPM) * (PUSD_PER_USD // PPM) if usd > 0 else NO_LIMIT * PUSD_PER_USD


def _ppm(fraction: float) -> int:
    return round(fraction * PPM)


def _limits(settings: RiskSettings, net_beta: NetBetaSettings) -> _Limits:
    return _Limits(
        gross_pusd=limit_pusd(settings.max_gross_notional_usd),
        margin_ppm=_ppm(settings.max_margin_utilisation) or NO_LIMIT,
        liquidation_ppm=_ppm(settings.min_liquidation_distance),
        stress_ppm=_ppm(settings.stress_move),
        stress_loss_pusd=limit_pusd(settings.max_stress_loss_usd),
        band_ppm=_ppm(settings.mark_price_band) or NO_LIMIT,
        rate_n_per_s=round(settings.max_orders_per_s * NS_PER_S) or NO_LIMIT * NS_PER_S,
        day_loss_pusd=limit_pusd(settings.max_day_loss_usd),
        drawdown_pusd=limit_pusd(settings.max_drawdown_usd),
        net_beta_pusd=limit_pusd(net_beta.max_net_beta_usd),
    )


_NET_BETA: Final = NetBetaSettings()


def limits_in_force(
    settings: RiskSettings, market: str, portfolio: Portfolio, net_beta: NetBetaSettings = _NET_BETA
) -> tuple[int, int]:
    """Largest long and short position of a market, lots, by whichever limit binds.

    Contracts, notional at the mark (ours and the exchange's), and what the other markets leave of the gross,
    stress and margin limits, and of the net beta on either side. Own orders of this market do not narrow it.
    Both are 0 without a mark.
    """
    return _limits_in_force(_limits(settings, net_beta), market, portfolio)


def _limits_in_force(limits: _Limits, market: str, portfolio: Portfolio) -> tuple[int, int]:
    risk = portfolio.markets[market]
    if risk.lot_pusd <= 0:
        return 0, 0
    gross = margin = 0
    for name, other in portfolio.markets.items():
        if name != market:
            other_gross = gross_pusd(other)
            gross += other_gross
            margin += other_gross * other.rules.initial_margin_ppm
    room = min(risk.rules.max_position_pusd, limits.gross_pusd - gross)
    if limits.stress_ppm:
        room = min(room, limits.stress_loss_pusd * PPM // limits.stress_ppm - gross)
    if portfolio.account is not None and risk.rules.initial_margin_ppm:
        left = portfolio.account.equity_pusd * limits.margin_ppm - margin
        room = min(room, left // risk.rules.initial_margin_ppm)
    lots = max(0, min(risk.rules.max_position_lots, room // risk.lot_pusd))
    long, short = net_beta_room(portfolio.markets, market, limits.net_beta_pusd)
    return min(lots, long), min(lots, short)


def equity_verdict(settings: RiskSettings, state: RiskState) -> Reason:
    """Day loss or drawdown that calls for a halt, or NONE; from the peak, so that closing losses are seen."""
    if state.day < 0:
        return Reason.NONE
    if state.peak_pusd - state.equity_pusd >= limit_pusd(settings.max_drawdown_usd):
        return Reason.RISK_DRAWDOWN
    if state.day_start_pusd - state.equity_pusd >= limit_pusd(settings.max_day_loss_usd):
        return Reason.RISK_DAY_LOSS
    return Reason.NONE


def _market_reason(
    limits: _Limits, before: MarketRisk, slot: SlotId, decision: Decision, lots: int
) -> Reason:
    """First limit of the market that an order breaks; `lots` is the worst case on its side with it."""
    rules = before.rules
    value = decision.price_ticks * rules.tick_lot_pusd
    band = before.lot_pusd * limits.band_ppm
    if before.lot_pusd <= 0:
        return Reason.MARK_MISSING
    if value * decision.size_lots > rules.max_order_pusd:
        return Reason.RISK_ORDER_SIZE
    if slot.side * (value - before.lot_pusd) * PPM > band:
        return Reason.RISK_PRICE_BAND
    if lots > rules.max_position_lots:
        return Reason.RISK_POSITION
    if lots * before.lot_pusd > rules.max_position_pusd:
        return Reason.RISK_NOTIONAL
    return Reason.NONE


def _account_reason(
    limits: _Limits, slot: SlotId, decision: Decision, portfolio: Portfolio, worst_lots: int
) -> Reason:
    """First limit of the account that an order breaks; `worst_lots` is its market's worst case with it."""
    account = portfolio.account
    if account is None:
        return Reason.RISK_NO_ACCOUNT
    if is_near_liquidation(portfolio.markets, limits.liquidation_ppm):
        return Reason.RISK_LIQUIDATION
    if account.margin_ratio_ppm > limits.margin_ppm:
        return Reason.RISK_MARGIN
    risk = portfolio.markets[slot.market]
    cost = order_cost(risk, slot.side, decision.price_ticks, decision.size_lots)
    # The exchange asks no money for reduce-only orders; from all others also where the worst case stays.
    if not decision.reduce_only and cost > _spendable(portfolio, account):
        return Reason.RISK_MARGIN
    added = worst_lots * risk.lot_pusd - gross_pusd(risk)
    if added <= 0:
        return Reason.NONE
    if added * risk.rules.initial_margin_ppm > account.available_pusd * PPM:
        return Reason.RISK_MARGIN
    return _aggregate_reason(limits, portfolio, account, added, risk.rules.initial_margin_ppm)


def _spendable(portfolio: Portfolio, account: AccountView) -> int:
    """Equity less what is bound and the reserve, 10⁻¹⁸ USD; the exchange's own figure may be seconds old."""
    bound = sum(initial_margin(risk) for risk in portfolio.markets.values())
    return account.equity_pusd * (PPM - _MARGIN_RESERVE_PPM) - bound


def _aggregate_reason(
    limits: _Limits, portfolio: Portfolio, account: AccountView, added: int, margin_ppm: int
) -> Reason:
    """First limit on the sum of all markets that `added` picodollars of worst case break."""
    gross = added
    margin = added * margin_ppm
    for other in portfolio.markets.values():
        other_gross = gross_pusd(other)
        gross += other_gross
        margin += other_gross * other.rules.initial_margin_ppm
    if gross > limits.gross_pusd:
        return Reason.RISK_GROSS
    if gross * limits.stress_ppm > limits.stress_loss_pusd * PPM:
        return Reason.RISK_STRESS
    if margin > account.equity_pusd * limits.margin_ppm:
        return Reason.RISK_MARGIN
    return Reason.NONE


def _net_beta_reason(limits: _Limits, slot: SlotId, portfolio: Portfolio, lots: int) -> Reason:
    """RISK_NET_BETA where an order takes the markets together past it; `lots` as for `_market_reason`."""
    room = net_beta_room(portfolio.markets, slot.market, limits.net_beta_pusd)
    return Reason.RISK_NET_BETA if lots > room[0 if slot.side == Side.BUY else 1] else Reason.NONE


class RiskManager:
    """The limits, the equity state behind two of them, and the order-rate bucket.

    Parameters
    ----------
    settings : RiskSettings
        The limits; `reload` exchanges them and keeps the state.
    net_beta : NetBetaSettings
        The limit over all markets by their betas.
    """

    def __init__(self, settings: RiskSettings, net_beta: NetBetaSettings = _NET_BETA) -> None:
        self._settings = settings
        self._net_beta = net_beta
        self._limits = _limits(settings, net_beta)
        self._state = RiskState()
        self._halt = Reason.NONE
        # The order-rate bucket, in 10⁻⁹ orders; full at first, as it would be a second later.
        self._tokens_n = max(self._limits.rate_n_per_s, NS_PER_S)
        self._tokens_at_ns = 0

    @property
    def halt_reason(self) -> Reason:
        """Day loss or drawdown as of the last equity; NONE while there is no breach."""
        return self._halt

    def export(self) -> RiskState:
        """State to be kept over a restart."""
        return self._state

    def restore(self, state: RiskState) -> None:
        """Take up a state that was exported before."""
        self._state = state
        self._halt = state.halt or equity_verdict(self._settings, state)

    def reload(self, settings: RiskSettings, net_beta: NetBetaSettings | None = None) -> None:
        """New limits over the same state: neither peak nor day's start moves; a halt is judged anew."""
        self._settings = settings
        self._net_beta = net_beta or self._net_beta
        self._limits = _limits(settings, self._net_beta)
        self._latch(equity_verdict(settings, self._state))

    def on_equity(self, equity_pusd: int, now_ns: int) -> Reason:
        """Book the account's equity; the reason to halt, or NONE. A new UTC day starts from this equity.

        A halt is latched: equity that comes back does not lift it, only new limits do, or for the loss of a
        day the next one.
        """
        day = now_ns // _NS_PER_DAY
        state = self._state
        if equity_pusd == state.equity_pusd and day == state.day:
            return self._halt
        state_day = state.day
        if state.day < 0:
            state = state._replace(peak_pusd=equity_pusd)
        if day != state.day:
            state = state._replace(day=day, day_start_pusd=equity_pusd)
        peak = max(state.peak_pusd, equity_pusd)
        self._state = state._replace(equity_pusd=equity_pusd, peak_pusd=peak)
        is_over = self._halt == Reason.RISK_DAY_LOSS and day != state_day
        if self._halt == Reason.NONE or is_over:
            self._latch(equity_verdict(self._settings, self._state))
        return self._halt

    def _latch(self, reason: Reason) -> None:
        self._halt = reason
        self._state = self._state._replace(halt=reason)

    def limits_in_force(self, market: str, portfolio: Portfolio) -> tuple[int, int]:
        """Largest long and short position of a market under the present settings, lots."""
        return _limits_in_force(self._limits, market, portfolio)

    def approve(
        self,
        slot: SlotId,
        decision: Decision,
        portfolio: Portfolio,
        now_ns: int,
        style: OrderStyle = OrderStyle.POST_ONLY,
    ) -> Approved | Refused:
        """Approve or refuse a decision against the worst case, its own order included.

        A replacement counts beside the order it replaces, which may fill first. KEEP and CANCEL always pass.
        """
        if decision.action in (Action.KEEP, Action.CANCEL):
            return Approved(slot, decision, style, _SEAL)
        reason = self._refusal(slot, decision, portfolio, now_ns)
        if reason == Reason.NONE:
            return Approved(slot, decision, style, _SEAL)
        if decision.action == Action.REPLACE and reason != Reason.RISK_ORDER_RATE:
            # The old quote was judged wrong: it must not rest on because its successor may not. A rate that
            # is used up passes in a moment; to cancel for it would cost one request more, then another.
            cancel = Decision(Action.CANCEL, reason, 0, 0, decision.reduce_only)
            return Refused(reason, Approved(slot, cancel, style, _SEAL))
        return Refused(reason)

    def _refusal(self, slot: SlotId, decision: Decision, portfolio: Portfolio, now_ns: int) -> Reason:
        if decision.size_lots <= 0 or decision.price_ticks <= 0:
            return Reason.RISK_ORDER_SIZE
        risk = portfolio.markets[slot.market]
        exposure = with_order(risk.exposure, slot.side, decision.size_lots, reduce_only=decision.reduce_only)
        long_lots, short_lots = worst_case(risk.position_lots, exposure)
        lots = long_lots if slot.side == Side.BUY else short_lots
        if lots <= 0:
            # Reducing, it may find the bucket empty; it is never refused, and leaves it empty.
            self._tokens_n = max(0, self._refill(now_ns) - NS_PER_S)
            return Reason.NONE
        reason = (
            self._halt
            or _market_reason(self._limits, risk, slot, decision, lots)
            or _account_reason(self._limits, slot, decision, portfolio, max(long_lots, short_lots))
            or _net_beta_reason(self._limits, slot, portfolio, lots)
        )
        if reason != Reason.NONE:
            return reason
        if self._refill(now_ns) < NS_PER_S:
            return Reason.RISK_ORDER_RATE
        self._tokens_n -= NS_PER_S
        return Reason.NONE

    def _refill(self, now_ns: int) -> int:
        rate_n_per_s = self._limits.rate_n_per_s
        gained_n = max(0, now_ns - self._tokens_at_ns) * rate_n_per_s // NS_PER_S
        self._tokens_n = min(max(rate_n_per_s, NS_PER_S), self._tokens_n + gained_n)
        self._tokens_at_ns = max(now_ns, self._tokens_at_ns)
        return self._tokens_n
