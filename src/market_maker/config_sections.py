"""The settings sections of the asynchronous shell, which has no decision module to define them.

Like every section they are frozen dataclasses with defaults; the comment behind a field is its meaning in the
settings reference. A name is unique over all sections: it is also the environment variable MM_<NAME>.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from market_maker.access import check_exposure

_MASK: Final = "********"
_SYMBOL_OF_MARKET: Final = re.compile(r"[A-Za-z0-9_-]{1,40}=[A-Za-z0-9]{1,40}")
# No user, no query: what is sent there is a path that we make.
_STREAM_URL: Final = re.compile(r"wss?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._/-]*)?")


class Network(Enum):
    """Which exchange is traded on. Only `mainnet` is real money."""

    TESTNET = "testnet"
    MAINNET = "mainnet"
    EMULATOR = "emulator"


class StopAction(Enum):
    """What becomes of a position when the bot stops."""

    HOLD = "hold"
    REDUCE = "reduce"
    FLATTEN = "flatten"


class FillModelName(Enum):
    """How our orders are assumed to fill where no exchange fills them."""

    PESSIMISTIC = "pessimistic"
    BASE = "base"
    OPTIMISTIC = "optimistic"
    TRADE_THROUGH = "trade_through"


class ForeignOrders(Enum):
    """What to do where the account has open orders that are not ours."""

    REFUSE = "refuse"
    LEAVE = "leave"


class OutsideVenue(Enum):
    """Whose prices are heard beside the exchange's own."""

    NONE = "none"
    BINANCE = "binance"


class Secret:
    """A value that never prints: not in a table, a log, an error or a JSON dump.

    >>> print(Secret("swordfish"), repr([Secret("swordfish")]), Secret(""))
    ******** [Secret(********)] (not set)
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value itself, for the one place that signs or sends it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return _MASK if self._value else "(not set)"

    def __repr__(self) -> str:
        return f"Secret({self})"


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"{name}: expected {low:g} to {high:g}, was {value:g}"
        raise ValueError(msg)


NO_SECRET: Final = Secret()


@dataclass(frozen=True)
class SessionSettings:
    """What is traded, where, and what is done on the way in and out."""

    markets: tuple[str, ...] = ("BTC-USD", "ETH-USD")  # markets to quote
    profile: str = "crypto"  # named set of defaults: crypto, or legacy (the static behaviour of old)
    network: Network = Network.TESTNET  # exchange to trade on: testnet, mainnet or emulator
    stop_action: StopAction = StopAction.HOLD  # what becomes of the position at a stop
    warm_from_candles: bool = True  # seed the volatility from past candles, so that no warm-up is needed
    foreign_orders: ForeignOrders = ForeignOrders.REFUSE  # open orders of others: refuse to start, or leave
    stop_reduce_s: float = 30.0  # longest time that a stop spends on reducing or flattening
    position_refresh_s: float = 30.0  # between two comparisons of our positions with the exchange's
    idle_look_s: float = 0.25  # between two looks at everything where nothing is heard
    assumed_latency_s: float = 0.1  # order latency that is reckoned with until one is measured
    account_leverage: float = 0.0  # leverage to set in each market at the start; 0: leave it as it is


@dataclass(frozen=True)
class ConnectionSettings:
    """The way to the exchange: requests, streams, and what to do when either fails.

    Raises
    ------
    ValueError
        For a number out of its range.
    """

    emulator_url: str = "http://127.0.0.1:8790"  # where the exchange of network = emulator listens
    emulator_token: Secret = (
        NO_SECRET  # what an emulator that others reach asks for; from the environment or .env
    )
    request_timeout_s: float = 5.0  # longest wait for the reply to a request
    requests_per_minute: int = 1000  # the exchange's limit for this address, all requests together
    cancel_reserve_share: float = 0.2  # share of that limit which only cancels may use
    ping_interval_s: float = 5.0  # between pings on a stream; one that is not answered by the next loses it
    stream_silence_s: float = 90.0  # longest silence of a book stream, which has a snapshot each minute
    reconnect_first_s: float = 0.25  # pause before the first try to connect again; doubles with each
    reconnect_longest_s: float = 4.0  # longest such pause
    max_clock_skew_s: float = 3.0  # furthest that our clock may be off the exchange's

    def __post_init__(self) -> None:
        _require("request_timeout_s", self.request_timeout_s, 0.1, 600)
        _require("requests_per_minute", self.requests_per_minute, 10, 1_000_000)
        _require("cancel_reserve_share", self.cancel_reserve_share, 0, 0.9)
        _require("ping_interval_s", self.ping_interval_s, 0.5, 60)
        _require("stream_silence_s", self.stream_silence_s, 1, 3600)
        _require("reconnect_first_s", self.reconnect_first_s, 0.01, self.reconnect_longest_s)
        _require("reconnect_longest_s", self.reconnect_longest_s, 0.01, 600)
        _require("max_clock_skew_s", self.max_clock_skew_s, 0.1, 3600)


@dataclass(frozen=True)
class MetricsSettings:
    """Prometheus metrics over HTTP.

    Raises
    ------
    ValueError
        For a number that is no port, and for an address that others reach without a token.
    """

    metrics_enabled: bool = False  # serve metrics
    metrics_port: int = 9464  # port to listen on
    metrics_host: str = "127.0.0.1"  # address to listen on; any but a loopback address asks for the token
    metrics_token: Secret = NO_SECRET  # what requests have to bring; from the environment or .env

    def __post_init__(self) -> None:
        _require("metrics_port", self.metrics_port, 1, 65535)
        if self.metrics_enabled:
            check_exposure("metrics_host", self.metrics_host, self.metrics_token.reveal(), "MM_METRICS_TOKEN")


@dataclass(frozen=True)
class CircuitBreakerSettings:
    """Stop sending orders after repeated failures of the exchange; a rejected post-only order is none.

    Raises
    ------
    ValueError
        For a breaker that would open without a failure, or that has no window.
    """

    breaker_max_failures: int = 5  # failures within the window that open the breaker
    breaker_window_s: float = 60.0  # window in which failures count
    breaker_cooldown_s: float = 5.0  # pause before the next try

    def __post_init__(self) -> None:
        _require("breaker_max_failures", self.breaker_max_failures, 1, 1000)
        _require("breaker_window_s", self.breaker_window_s, 1, 86_400)
        _require("breaker_cooldown_s", self.breaker_cooldown_s, 1, 86_400)


@dataclass(frozen=True)
class DeadMansSwitchSettings:
    """The exchange cancels all orders of the account unless we keep calling.

    Raises
    ------
    ValueError
        If a call does not come well before the countdown ends.
    """

    dead_man_enabled: bool = True  # arm the switch before the first order
    dead_man_countdown_s: float = 60.0  # the exchange cancels this long after the last call
    dead_man_interval_s: float = 20.0  # time between calls

    def __post_init__(self) -> None:
        _require("dead_man_countdown_s", self.dead_man_countdown_s, 1, 86_400)
        _require("dead_man_interval_s", self.dead_man_interval_s, 0.1, self.dead_man_countdown_s / 2)


@dataclass(frozen=True)
class PaperSettings:
    """`mm run --paper`: live data of the network, no key, no order sent; our fills are the backtest's.

    Raises
    ------
    ValueError
        For a number out of its range.
    """

    paper_fill_model: FillModelName = FillModelName.BASE  # pessimistic, base, optimistic or trade_through
    paper_latency_ms: float = 50.0  # from news at the exchange to our answer there; and as long for its reply
    paper_balance_usd: float = 10_000.0  # money at the start
    paper_maker_fee_bps: float = 0.0  # fee of what rested, of its value
    paper_taker_fee_bps: float = 2.5  # fee of what took, of its value
    paper_leverage: float = 10.0  # leverage in each market, at most the market's own maximum
    paper_funding_every_s: float = 3600.0  # time between two instants of funding, from midnight UTC on

    def __post_init__(self) -> None:
        _require("paper_latency_ms", self.paper_latency_ms, 1, 2_000)
        _require("paper_balance_usd", self.paper_balance_usd, 1, 1e12)
        _require("paper_maker_fee_bps", self.paper_maker_fee_bps, 0, 1_000)
        _require("paper_taker_fee_bps", self.paper_taker_fee_bps, 0, 1_000)
        _require("paper_leverage", self.paper_leverage, 1, 1_000)
        _require("paper_funding_every_s", self.paper_funding_every_s, 1, 86_400)


@dataclass(frozen=True)
class HedgerSettings:
    """The reference market of a portfolio: the one that betas are to, and that hedges trade in."""

    hedge_market: str = ""  # one of the quoted markets; empty: the first of them


@dataclass(frozen=True)
class OutsideSettings:
    """Prices of another venue, public and without a key, for `reference_source = "outside"`.

    Raises
    ------
    ValueError
        If a symbol or the address is of another form, or a market is named twice.
    """

    outside_venue: OutsideVenue = OutsideVenue.NONE  # venue to listen to: none, or binance (USD-M futures)
    outside_symbols: tuple[str, ...] = (
        "BTC-USD=BTCUSDT",
        "ETH-USD=ETHUSDT",
    )  # our markets and their symbols there
    outside_url: str = "wss://fstream.binance.com/public"  # where the venue's streams are

    def __post_init__(self) -> None:
        for pair in self.outside_symbols:
            if not _SYMBOL_OF_MARKET.fullmatch(pair):
                msg = f"outside_symbols: expected MARKET=SYMBOL such as BTC-USD=BTCUSDT, was {pair!r}"
                raise ValueError(msg)
        if len(self.symbols) < len(self.outside_symbols):
            msg = f"outside_symbols: expected each market once, was {', '.join(self.outside_symbols)}"
            raise ValueError(msg)
        if not _STREAM_URL.fullmatch(self.outside_url):
            msg = f"outside_url: expected ws:// or wss://, a host and maybe a path, was {self.outside_url!r}"
            raise ValueError(msg)

    @property
    def symbols(self) -> dict[str, str]:
        """Symbol of each market that has one."""
        pairs = (pair.partition("=") for pair in self.outside_symbols)
        return {market: symbol for market, _, symbol in pairs}


@dataclass(frozen=True)
class CredentialSettings:
    """Keys of the exchange account; an emulator hands out its own. From the environment or .env only."""

    api_key: Secret = NO_SECRET  # API key of the sub-account
    stark_private_key: Secret = NO_SECRET  # key that signs orders


SHELL_SECTIONS: Final[dict[str, type]] = {
    "session": SessionSettings,
    "connection": ConnectionSettings,
    "metrics": MetricsSettings,
    "circuit_breaker": CircuitBreakerSettings,
    "dead_mans_switch": DeadMansSwitchSettings,
    "paper": PaperSettings,
    "outside": OutsideSettings,
    "hedger": HedgerSettings,
    "credentials": CredentialSettings,
}
