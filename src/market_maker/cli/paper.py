"""The account of `mm run --paper`: live data of the network of the settings, and no key."""

from decimal import Decimal
from typing import Final

from market_maker.backtest.fill_models import MODELS, Fees, fill_row
from market_maker.backtest.host import market_row
from market_maker.cli.connection import connect_public
from market_maker.clock import Clock
from market_maker.config import Config, ConfigError
from market_maker.config_sections import PaperSettings, SessionSettings
from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.exchanges.paper import PaperGateway, TermsOf
from market_maker.exchanges.paper_market import Terms
from market_maker.exchanges.paper_money import Purse
from market_maker.gateway import Gateway
from market_maker.instrument import Instrument

ACCOUNT: Final = "paper"
_MS_PER_S: Final = NS_PER_S / NS_PER_MS


def announcement(config: Config) -> str:
    """What is to be known before a session on paper begins."""
    network, paper = config.of(SessionSettings).network.value, config.of(PaperSettings)
    return (
        f"PAPER: live data of {network}, no key is asked for and no order leaves this machine. Orders fill by"
        f" the model {paper.paper_fill_model.value} at a latency of {paper.paper_latency_ms:g} ms each way."
        f" The account begins flat with {paper.paper_balance_usd:,.2f} USD and is in memory alone:"
        " a restart begins anew."
    )


async def connect_paper(config: Config, clock: Clock, account: int | None = None) -> PaperGateway:
    """Open an account on paper, on the public data of the network of the settings.

    Raises
    ------
    ConfigError
        If an account of the exchange is chosen.
    EndpointError, Unreachable
        If the emulator's URL is none, or there is no way to the exchange.
    """
    if account is not None:
        raise ConfigError(["--account: expected without --paper, which takes no account of the exchange"])
    return paper_gateway(config, await connect_public(config, clock), clock)


def paper_gateway(config: Config, public: Gateway, clock: Clock) -> PaperGateway:
    """An account on paper beside the public data of a gateway."""
    paper = config.of(PaperSettings)
    return PaperGateway(
        public,
        terms_in(config),
        Purse(Decimal(str(paper.paper_balance_usd)), Decimal(str(paper.paper_leverage))),
        clock,
        funding_every_s=paper.paper_funding_every_s,
        simulated=f"paper-{paper.paper_fill_model.value}",
    )


def terms_in(config: Config) -> TermsOf:
    """How orders are matched on paper: as the backtest matches them."""
    paper = config.of(PaperSettings)
    model, fees = (
        MODELS[paper.paper_fill_model.value],
        Fees(paper.paper_maker_fee_bps, paper.paper_taker_fee_bps),
    )
    latency_s = paper.paper_latency_ms / _MS_PER_S

    def terms_of(instrument: Instrument) -> Terms:
        return Terms(market_row(instrument), fill_row(model, latency_s, fees, instrument))

    return terms_of
