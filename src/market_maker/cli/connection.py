"""The way to the exchange of the settings, for every verb that takes it: which keys, which address."""

from typing import Final

from market_maker.cli.app import note
from market_maker.clock import Clock
from market_maker.config import Config, ConfigError
from market_maker.config_sections import (
    ConnectionSettings,
    CredentialSettings,
    Network,
    OutsideSettings,
    OutsideVenue,
    SessionSettings,
)
from market_maker.exchanges.credentials import Keys, emulator_keys
from market_maker.exchanges.endpoints import Endpoint, endpoint_of
from market_maker.exchanges.extended import ExtendedGateway
from market_maker.exchanges.outside import outside_feed
from market_maker.reference_feed import ReferenceFeed
from market_maker.reference_price import PriceSource, ReferenceSettings

_KEY_PAGES: Final = {
    Network.TESTNET: "https://starknet.sepolia.extended.exchange/api-management",
    Network.MAINNET: "https://app.extended.exchange/api-management",
}


def endpoint_in(config: Config) -> Endpoint:
    """Address of the network of the settings.

    Raises
    ------
    EndpointError
        If that is the emulator, and its URL is none.
    """
    connection = config.of(ConnectionSettings)
    return endpoint_of(config.of(SessionSettings).network, connection.emulator_url, connection.emulator_token)


def keys_in(config: Config) -> Keys | None:
    """Keys of the settings; None where the network is the emulator and none are set.

    Raises
    ------
    ConfigError
        If one is missing, or both where there must be keys.
    """
    credentials, network = config.of(CredentialSettings), config.of(SessionSettings).network
    found = {
        "MM_API_KEY": credentials.api_key,
        "MM_STARK_PRIVATE_KEY": credentials.stark_private_key,
    }
    missing = [name for name, key in found.items() if not key]
    if not missing:
        return Keys(credentials.api_key, credentials.stark_private_key)
    if network is Network.EMULATOR:
        if len(missing) < len(found):
            raise ConfigError([f"{missing[0]}: expected both keys or none (the emulator's own), was not set"])
        return None
    where = f"create the keys of a sub-account of the bot's own at {_KEY_PAGES[network]}"
    how = "and put them into the environment or into .env (chmod 600 .env)"
    free = "; mm demo needs none" if network is Network.TESTNET else ""
    raise ConfigError(
        [f"{' and '.join(missing)}: expected for {network.value}, not set; {where} {how}{free}"]
    )


async def connect(config: Config, clock: Clock, account: int | None = None) -> ExtendedGateway:
    """Connect to an account on the network of the settings.

    Parameters
    ----------
    account : int or None
        Account of an emulator whose keys to take, instead of those of the settings.

    Raises
    ------
    ConfigError
        If keys are missing, or an account is chosen on a network that is no emulator.
    EndpointError
        If the emulator's URL is none.
    CredentialsRefused, Unreachable
        If the exchange does not accept the keys, or there is no way to it.
    """
    network, settings = config.of(SessionSettings).network, config.of(ConnectionSettings)
    if account is not None and network is not Network.EMULATOR:
        raise ConfigError([f"--account: expected with network = emulator only, was with {network.value}"])
    endpoint = endpoint_in(config)
    keys = keys_in(config) if account is None else None
    if keys is None:
        keys = await emulator_keys(endpoint, account or 0)
    return await ExtendedGateway.connect(endpoint, keys, settings, clock)


async def connect_public(config: Config, clock: Clock) -> ExtendedGateway:
    """Connect to the network of the settings without an account: markets and prices alone.

    Raises
    ------
    EndpointError, Unreachable
        If the emulator's URL is none, or there is no way to the exchange.
    """
    return await ExtendedGateway.connect(endpoint_in(config), None, config.of(ConnectionSettings), clock)


def outside_in(config: Config, clock: Clock) -> ReferenceFeed | None:
    """Feed of the outside venue of the settings, where a market wants one; whoever asks closes it.

    Where one is wanted and there is none, or has no symbol for it, that is said, and the market goes without.
    """
    outside = config.of(OutsideSettings)
    wanting = [
        market
        for market in config.of(SessionSettings).markets
        if config.of(ReferenceSettings, market).reference_source is PriceSource.OUTSIDE
    ]
    has_venue = outside.outside_venue is not OutsideVenue.NONE
    known = [market for market in wanting if has_venue and market in outside.symbols]
    for market in wanting:
        if market not in known:
            lacking = f"{market} to be among outside_symbols" if has_venue else "an outside_venue"
            note(f"{market} is quoted without a reference: reference_source = outside expects {lacking}")
    return outside_feed(outside, config.of(ConnectionSettings), clock) if known else None
