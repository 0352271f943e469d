"""The border between Decimal money and the risk manager's whole numbers; roundings go against us."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

from market_maker.exposure import (
    NO_LIMIT,
    PPM,
    PUSD_PER_USD,
    AccountView,
    Exposure,
    MarketRisk,
    MarketRules,
    beta_ppm,
)
from market_maker.gateway import BalanceReport
from market_maker.instrument import Instrument
from market_maker.risk_manager import RiskSettings, limit_pusd

_EXACT: Final = Context(prec=60)


def _whole(value: Decimal, unit: int, rounding: str) -> int:
    return int(_EXACT.multiply(value, unit).to_integral_value(rounding, _EXACT))


def pusd_down(usd: Decimal) -> int:
    """Picodollars of an amount that we own, rounded down.

    >>> pusd_down(Decimal("1.0000000000019"))
    1000000000001
    """
    return _whole(usd, PUSD_PER_USD, ROUND_FLOOR)


def pusd_up(usd: Decimal) -> int:
    """Picodollars of an amount at risk, rounded up."""
    return _whole(usd, PUSD_PER_USD, ROUND_CEILING)


def market_rules(
    instrument: Instrument, settings: RiskSettings, leverage: Decimal | None = None
) -> MarketRules:
    """Limits of one market: the stricter of ours and the exchange's, fixed for the session.

    The initial margin is that of the largest tier the limits admit, or 1 / leverage if that is more.
    """
    contracts = Decimal(repr(settings.max_position_size))
    position_pusd = min(
        limit_pusd(settings.max_position_notional_usd), pusd_down(instrument.max_position_value)
    )
    order_pusd = min(limit_pusd(settings.max_order_notional_usd), pusd_down(instrument.max_limit_order_value))
    margins = [Decimal(1) / leverage] if leverage else []
    for tier in instrument.margin_tiers:
        margins.append(tier.initial_margin)
        if pusd_down(tier.upper_bound) >= position_pusd:
            break
    return MarketRules(
        tick_lot_pusd=pusd_up(instrument.value(1, 1)),
        max_position_lots=instrument.lots_down(contracts) if contracts else NO_LIMIT,
        max_position_pusd=position_pusd,
        max_order_pusd=order_pusd,
        initial_margin_ppm=_whole(max(margins, default=Decimal(1)), PPM, ROUND_CEILING),
    )


class MarketRiskBuilder:
    """One market's instrument and rules, turning what the shell knows of it into a `MarketRisk`.

    Parameters
    ----------
    leverage : Decimal, optional
        The account's leverage setting in this market.
    """

    def __init__(
        self, instrument: Instrument, settings: RiskSettings, leverage: Decimal | None = None
    ) -> None:
        self._step = instrument.step
        self.rules = market_rules(instrument, settings, leverage)

    def build(
        self,
        mark: Decimal | None,
        position_lots: int,
        exposure: Exposure,
        liquidation_price: Decimal | None = None,
        beta: float = 1.0,
    ) -> MarketRisk:
        """The market at a mark price, USD, and its beta; without a mark only reducing orders will pass."""
        return MarketRisk(
            rules=self.rules,
            position_lots=position_lots,
            exposure=exposure,
            lot_pusd=0 if mark is None else pusd_up(mark * self._step),
            liquidation_lot_pusd=(
                None if liquidation_price is None else pusd_up(liquidation_price * self._step)
            ),
            beta_ppm=beta_ppm(beta),
        )


def account_view(report: BalanceReport) -> AccountView:
    """The account's money as the risk manager reads it."""
    return AccountView(
        equity_pusd=pusd_down(report.equity),
        available_pusd=pusd_down(report.available_for_trade),
        margin_ratio_ppm=_whole(report.margin_ratio, PPM, ROUND_CEILING),
    )
