"""What the markets of a session are to one another: betas for limits, and the inventory that a skew sees.

The matrix goes by what stood last in each second, so mids are kept until their second is over; betas change
then, and the skew of a market with them when its account is written next.

Markets that are quoted by a model see one another through its Γ (models.md, section 3), all others, and they
all others, through betas.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from market_maker.correlation import MAX_MARKETS, Correlation, CorrelationSettings
from market_maker.domain import NS_PER_S
from market_maker.glft_solution import QuotedMarkets, model_values_usd
from market_maker.pricing_engine import OffsetMode
from market_maker.strategy_rows import Params


class ModelledMarket(NamedTuple):
    """A market's model, as `glft_solution.QuotedMarkets` has them."""

    gamma: float
    a_per_s: float
    k_per_bps: float
    order_usd: float


def modelled_market(params: Params) -> ModelledMarket | None:
    """The model that a market is quoted by; None where it is quoted by none, or by one not calibrated."""
    row = params.model_row
    by_model = params.offset.offset_mode in (OffsetMode.AVELLANEDA_STOIKOV, OffsetMode.GLFT)
    if not by_model or row.gamma <= 0.0:
        return None
    return ModelledMarket(row.gamma, row.a_per_s, row.k_per_bps, params.quote.level_size_usd)


class CrossMarket:
    """Mids in; betas, and what the other markets add to an inventory, out.

    Parameters
    ----------
    names : sequence of str
        The quoted markets. Those beyond `MAX_MARKETS` are seen alone, and their betas count as 1.
    reference : str
        The market that betas are to, one of the names.
    models : mapping, optional
        Models of the markets that are quoted by one.

    Attributes
    ----------
    betas : dict
        By market, what a USD there moves like in the reference market, USD; 1 as far as that is unknown.
    """

    def __init__(
        self,
        names: Sequence[str],
        settings: CorrelationSettings,
        reference: str,
        models: Mapping[str, ModelledMarket | None] | None = None,
    ) -> None:
        seen = sorted(names, key=lambda name: name != reference)[:MAX_MARKETS]
        self.reference = reference
        self.betas = dict.fromkeys(names, 1.0)
        self._matrix = Correlation(seen, settings)
        self._share = settings.portfolio_skew_share if settings.portfolio_enabled else 0.0
        found = {name: (models or {}).get(name) for name in seen}
        self._models = {name: model for name, model in found.items() if model is not None}
        # What Γ makes of the values of these markets, found once for all of them.
        self._by_model: dict[str, float] = {}
        self._modelled_values: tuple[float, ...] = ()
        self._heard: dict[str, float] = {}
        self._heard_ns = 0

    @property
    def matrix(self) -> Correlation:
        """The covariance of the markets and what is made of it."""
        return self._matrix

    def on_mid(self, name: str, mid: float, now_ns: int) -> None:
        """Take a market's mid price in."""
        if len(self._matrix.names) == 1 or name not in self._matrix.names:
            return
        if now_ns // NS_PER_S != self._heard_ns // NS_PER_S:
            self._end_second(now_ns)
        self._heard[name] = mid
        self._heard_ns = now_ns

    def _end_second(self, now_ns: int) -> None:
        if self._heard:
            self._matrix.update(self._heard, self._heard_ns)
            self._heard.clear()
        self._matrix.update({}, now_ns)
        self.betas.update(self._matrix.cautious_betas(self.reference))
        self._modelled_values = ()

    def net_beta_usd(self, values_usd: Mapping[str, float]) -> float:
        """Position in the reference market that positions of these values count as, USD, signed."""
        return sum(self.betas[name] * value for name, value in values_usd.items())

    def known_net_beta_usd(self, values_usd: Mapping[str, float]) -> float:
        """The same as far as it was measured, for hedges: one against what is not known would be a bet."""
        seen = {name: values_usd[name] for name in self._matrix.names}
        return self._matrix.net_beta_usd(self.reference, seen)

    def others_lots(self, name: str, values_usd: Mapping[str, float], lot_usd: float) -> float:
        """What the positions of the other markets add to a market's inventory, its lots, signed."""
        if len(self._matrix.names) == 1 or name not in self._matrix.names:
            return 0.0
        seen = {other: values_usd[other] for other in self._matrix.names}
        if name not in self._models or lot_usd <= 0.0:
            return self._matrix.others_lots(name, seen, lot_usd)
        plain = {other: value for other, value in seen.items() if other not in self._models}
        lean_usd = self._seen_by_model(seen)[name] - seen[name]
        return self._share * lean_usd / lot_usd + self._matrix.others_lots(name, plain, lot_usd)

    def _seen_by_model(self, values_usd: Mapping[str, float]) -> dict[str, float]:
        values = tuple(values_usd[name] for name in self._models)
        if values != self._modelled_values:
            self._modelled_values = values
            columns = (np.array(column) for column in zip(*self._models.values(), strict=True))
            places = [self._matrix.names.index(name) for name in self._models]
            covariance = self._matrix.covariance()[np.ix_(places, places)]
            found = model_values_usd(QuotedMarkets(*columns), covariance, np.array(values))
            self._by_model = dict(zip(self._models, found.tolist(), strict=True))
        return self._by_model


def warm_up() -> None:
    """Compile what a session calls here, or load it from the cache, before a frame waits for it."""
    together = CrossMarket(("A", "B"), CorrelationSettings(), "A")
    for second in range(3):
        together.on_mid("A", 1.0, second * NS_PER_S)
    together.others_lots("A", {"A": 1.0, "B": 1.0}, 1.0)
    together.matrix.covariance()
    together.known_net_beta_usd({"A": 1.0, "B": 1.0})
