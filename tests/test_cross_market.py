"""What markets are to one another: betas for limits, inventory for the skew, and the limit that is kept."""

import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.config import ConfigError, load_config
from market_maker.correlation import MAX_MARKETS, Correlation, CorrelationSettings
from market_maker.cross_market import CrossMarket, ModelledMarket, modelled_market, warm_up
from market_maker.domain import NS_PER_S, Side
from market_maker.exposure import PPM, PUSD_PER_USD, net_beta, worst_case
from market_maker.glft_solution import QuotedMarkets, model_values_usd
from market_maker.model_quotes import ModelRow
from market_maker.session_report import portfolio_of, status_of

ETH, SOL = "ETH-USD", "SOL-USD"
ALL = (BTC, ETH, SOL)
START_NS = 1_767_571_200 * NS_PER_S
QUICK = CorrelationSettings(portfolio_return_s=2.0, portfolio_warmup_s=10.0, portfolio_halflife_s=120.0)


def walk(seconds: int, seed: int = 1):
    """Mids of two markets at odd times, one with twice the moves of the other: (name, mid, instant)."""
    rng = np.random.default_rng(seed)
    now_ns, level = START_NS, 0.0
    while now_ns < START_NS + seconds * NS_PER_S:
        now_ns += int(rng.integers(1, 900)) * 1_000_000
        level += 1e-4 * rng.standard_normal()
        if rng.random() < 0.5:
            yield BTC, 84_000.0 * math.exp(level), now_ns
        else:
            yield ETH, 2_400.0 * math.exp(2.0 * level), now_ns


def test_mids_kept_until_their_second_is_over_are_the_same_as_each_at_once():
    kept, matrix = CrossMarket((BTC, ETH), QUICK, BTC), Correlation((BTC, ETH), QUICK)
    for name, mid, now_ns in walk(90):
        kept.on_mid(name, mid, now_ns)
        matrix.update({name: mid}, now_ns)
        assert kept.betas == matrix.cautious_betas(BTC)
    assert 1.2 < kept.betas[ETH] < 2.5


def test_what_is_not_known_counts_as_the_reference_in_limits_and_as_nothing_in_a_hedge():
    cross = CrossMarket((BTC, ETH), QUICK, BTC)
    values = {BTC: -500.0, ETH: 2_000.0}
    assert cross.betas == {BTC: 1.0, ETH: 1.0}
    assert cross.net_beta_usd(values) == 1_500.0
    assert cross.known_net_beta_usd(values) == -500.0
    assert cross.others_lots(BTC, values, 0.84) == 0.0


def test_the_skew_sees_the_others_by_their_betas():
    cross = CrossMarket((BTC, ETH), QUICK, BTC)
    for name, mid, now_ns in walk(90):
        cross.on_mid(name, mid, now_ns)
    values = {BTC: 300.0, ETH: 2_000.0}
    beta = cross.betas[ETH]
    assert cross.others_lots(BTC, values, 0.84) == pytest.approx(beta * 2_000.0 / 0.84)
    assert cross.others_lots(BTC, values, 0.0) == 0.0
    assert cross.known_net_beta_usd(values) == pytest.approx(300.0 + beta * 2_000.0)
    off = CrossMarket((BTC, ETH), CorrelationSettings(portfolio_enabled=False), BTC)
    assert off.others_lots(BTC, values, 0.84) == 0.0


def model_of(market: str, *settings: str):
    return modelled_market(load_config([f"markets={market}", *settings]).strategy_params(market))


CALIBRATED = ("model_a_per_s=0.5", "model_k_per_bps=0.4", "model_sigma_bps=8", "model_gamma=0.01")


def test_a_model_counts_where_it_is_calibrated_and_quoted_by():
    assert model_of(BTC, "offset_mode=glft", *CALIBRATED) == ModelledMarket(0.01, 0.5, 0.4, 1_000.0)
    assert model_of(BTC, "offset_mode=avellaneda_stoikov", *CALIBRATED) is not None
    assert model_of(BTC, "offset_mode=volatility", *CALIBRATED) is None
    params = load_config(["offset_mode=glft", *CALIBRATED]).strategy_params(BTC)
    assert modelled_market(replace(params, model_row=ModelRow())) is None


def test_markets_that_are_quoted_by_models_see_one_another_through_the_model():
    models = {
        BTC: ModelledMarket(0.01, 0.5, 0.4, 1_000.0),
        ETH: ModelledMarket(0.02, 0.8, 0.3, 500.0),
        SOL: None,
    }
    half = CorrelationSettings(**{**vars(QUICK), "portfolio_skew_share": 0.5})
    cross, plain = CrossMarket(ALL, half, BTC, models), CrossMarket(ALL, half, BTC)
    off = CrossMarket(ALL, CorrelationSettings(portfolio_enabled=False), BTC, models)
    values = {BTC: 300.0, ETH: 2_000.0, SOL: -700.0}
    assert cross.others_lots(BTC, values, 0.84) == 0.0
    for name, mid, now_ns in walk(60):
        for one in (cross, plain, off):
            one.on_mid(name, mid, now_ns)
            one.on_mid(SOL, 0.002 * mid, now_ns)
    together = QuotedMarkets(*(np.array(column) for column in zip(models[BTC], models[ETH], strict=True)))
    places = np.ix_([0, 1], [0, 1])
    seen = model_values_usd(together, cross.matrix.covariance()[places], np.array([300.0, 2_000.0]))
    sol_only = {BTC: 0.0, ETH: 0.0, SOL: -700.0}
    for i, name in enumerate((BTC, ETH)):
        by_beta = plain.others_lots(name, sol_only, 0.84)
        expected = 0.5 * (seen[i] - values[name]) / 0.84 + by_beta
        assert by_beta != 0.0
        assert cross.others_lots(name, values, 0.84) == pytest.approx(expected)
        assert off.others_lots(name, values, 0.84) == 0.0
    assert cross.others_lots(SOL, values, 0.14) == plain.others_lots(SOL, values, 0.14)
    assert cross.others_lots(BTC, values, 0.0) == 0.0


def test_a_market_alone_has_only_itself():
    cross = CrossMarket((BTC,), QUICK, BTC)
    cross.on_mid(BTC, 84_000.0, START_NS)
    assert cross.betas == {BTC: 1.0}
    assert cross.others_lots(BTC, {BTC: 100.0}, 1.0) == 0.0
    assert cross.known_net_beta_usd({BTC: 100.0}) == 100.0


def test_markets_beyond_what_the_matrix_holds_are_seen_alone_and_never_the_reference():
    names = tuple(f"M{i}" for i in range(MAX_MARKETS + 2))
    cross = CrossMarket(names, QUICK, names[-1])
    assert cross.matrix.names[0] == names[-1]
    left_out = set(names) - set(cross.matrix.names)
    assert len(left_out) == 2
    alone = left_out.pop()
    values = dict.fromkeys(names, 10.0)
    for second in range(3):
        cross.on_mid(alone, 5.0, START_NS + second * NS_PER_S)
    assert cross.betas[alone] == 1.0
    assert cross.others_lots(alone, values, 1.0) == 0.0
    assert cross.net_beta_usd(values) == 10.0 * len(names)
    assert cross.known_net_beta_usd(values) == 10.0


def test_warming_up_leaves_nothing_to_compile():
    warm_up()


# The reference market is a setting.


def test_the_reference_market_is_one_that_is_quoted():
    for chosen in ("", "hedge_market=ETH-USD"):
        load_config(["markets=BTC-USD,ETH-USD", *([chosen] if chosen else [])])
    with pytest.raises(ConfigError, match="hedge_market: expected one of the quoted markets") as refused:
        load_config(["markets=BTC-USD,ETH-USD"], environ=MappingProxyType({"MM_HEDGE_MARKET": "SOL-USD"}))
    assert "hedge_market = SOL-USD (from MM_HEDGE_MARKET), markets = BTC-USD,ETH-USD" in str(refused.value)


# Sessions.


@pytest.mark.slow
def test_the_net_beta_limit_holds_at_every_order_that_is_sent():
    """What an order could lead to with all others is within the limit, unless it reduces its own market."""
    limit = 1_500 * PUSD_PER_USD * PPM
    found = []

    async def main():
        inside = Inside("mixed", ALL, 5, deposit="20000")

        def prepare(gateway):
            place = gateway.place

            async def watched(order):
                strategy = strategies[0]
                markets = strategy.session.portfolio(strategy.orders, strategy.account).markets
                own = worst_case(markets[order.market].position_lots, markets[order.market].exposure)
                side = 0 if order.side == Side.BUY else 1
                found.append((own[side] <= 0, net_beta(markets)[side], strategy.session.limits[order.market]))
                return await place(order)

            gateway.place = watched

        strategies = []

        async def during(strategy):
            strategies.append(strategy)

        settings = ("max_net_beta_usd=1500", "level_size_usd=400", "portfolio_return_s=1")
        run = await inside.session(
            15.0, *settings, "portfolio_warmup_s=5", prepare=prepare, during=during, profile="crypto"
        )
        return inside, run

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert all(worst <= limit for reduces, worst, _ in found if not reduces)
    assert max(worst for reduces, worst, _ in found if not reduces) > 0.7 * limit
    assert any(long != short for _, _, (long, short) in found)


@pytest.mark.slow
@pytest.mark.parametrize("enabled", ["true", "false"])
def test_a_position_elsewhere_is_inventory_here(enabled):
    """A long position in ETH-USD: the other markets are asked as if they were long too."""
    seen = {}

    async def main():
        inside = Inside("mixed", (BTC, ETH), 3, deposit="20000")
        await inside.until(1.0)
        await inside.order(
            Side.BUY, inside.best(Side.SELL, ETH) + 100, 3_000, ETH, account_id=inside.account_id
        )

        async def during(strategy):
            session = strategy.session
            await inside.until(9.0)
            session.refresh_limits(strategy.orders, strategy.account)
            for name, desk in session.desks.items():
                seen[name] = (
                    session.ledger.position_lots(name),
                    float(desk._account["effective_inventory_lots"][0]),
                )
            seen["status"] = status_of(session, "RUNNING", run_folder, []).net_beta_usd
            seen["net"] = session.net_beta_usd()
            seen["portfolio"] = portfolio_of(session)

        return inside, await inside.session(
            12.0,
            "portfolio_return_s=1",
            "portfolio_warmup_s=3",
            "level_size_usd=100",
            f"portfolio_enabled={enabled}",
            during=during,
            profile="crypto",
        )

    run_folder = "journal"
    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    own, effective = seen[BTC]
    assert seen["status"] == f"{seen['net']:,.2f}"
    assert seen["net"] > 1_000.0
    portfolio = seen["portfolio"]
    assert portfolio["reference"] == BTC
    assert portfolio["betas"][BTC] == 1.0
    assert list(portfolio["correlations"]) == [f"{BTC} {ETH}"]
    assert portfolio["net_beta_usd"] == pytest.approx(seen["net"], abs=1e-3)
    assert portfolio["largest_net_beta_usd"] >= portfolio["net_beta_usd"]
    if enabled == "true":
        assert effective > own + 100
    else:
        assert (effective, seen[ETH][1]) == (own, seen[ETH][0])
