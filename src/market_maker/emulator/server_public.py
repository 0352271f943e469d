"""Public REST calls: markets, books, trades, candles, funding. No key is asked for."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from aiohttp import web

from market_maker.domain import NS_PER_MS
from market_maker.emulator import frames
from market_maker.emulator.market_queries import CANDLE_KINDS, CandleShape
from market_maker.emulator.rules import Mode
from market_maker.emulator.server_calls import (
    MARKET_NOT_FOUND,
    NOT_FOUND,
    Arguments,
    CallRefused,
    Desk,
    respond,
)
from market_maker.emulator.server_rules import REST_PATH, ServerRules
from market_maker.emulator.validation import Refusal

_INTERVAL_MINUTES: Final = {
    "PT1M": 1,
    "PT5M": 5,
    "PT15M": 15,
    "PT30M": 30,
    "PT1H": 60,
    "PT2H": 120,
    "PT4H": 240,
    "PT8H": 480,
    "PT12H": 720,
    "PT24H": 1_440,
    "P1D": 1_440,
    "P7D": 10_080,
}
_MOST_CANDLES: Final = 10_000
_USUAL_CANDLES: Final = 100
_INTERVAL_REFUSED: Final = Refusal(400, 1005)
_SETTLEMENT_CONTRACT: Final = "0x0"

Look = Callable[[Arguments], bytes]


def candle_minutes(asked: Arguments) -> int:
    """Length of the candles that a call asks for."""
    minutes = _INTERVAL_MINUTES.get(asked.word("interval"))
    if minutes is None:
        raise CallRefused(_INTERVAL_REFUSED)
    return minutes


class PublicCalls:
    """Answers what anybody may ask."""

    def __init__(self, desk: Desk, rules: ServerRules) -> None:
        self._desk = desk
        self._exchange = desk.driver.exchange
        self._queries = desk.driver.exchange.queries
        self._clock = desk.driver.clock
        self._rules = rules

    def routes(self) -> Iterable[web.RouteDef]:
        """Paths and what answers them."""
        looks: dict[str, Look] = {
            "/info/markets": lambda asked: self._queries.instruments(asked.texts("market")),
            "/info/markets/{market}/stats": lambda asked: self._queries.stats(self._market(asked)),
            "/info/markets/{market}/orderbook": lambda asked: self._queries.order_book(self._market(asked)),
            "/info/markets/{market}/trades": lambda asked: self._queries.recent_trades(self._market(asked)),
            "/info/candles/{market}/{kind}": self._candles,
            "/info/{market}/funding": self._funding,
            "/info/{market}/open-interests": self._open_interests,
            "/info/assets": lambda _: self._queries.assets(),
            "/info/assets/{asset}/price": self._asset_price,
            "/info/settings": lambda _: frames.ok({"starkExContractAddress": _SETTLEMENT_CONTRACT}),
        }
        yield from (web.get(REST_PATH + path, self._handler(look)) for path, look in looks.items())
        yield web.get(f"{REST_PATH}/info/status", self._status)

    def _handler(self, look: Look) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._desk.look_up(self._desk.pool(request), lambda: look(Arguments(request)))

        return handle

    async def _status(self, _: web.Request) -> web.StreamResponse:
        """Tell whether the exchange is open; in maintenance this is the one call that is answered."""
        in_maintenance = self._exchange.venue.mode is Mode.MAINTENANCE
        word = "MAINTENANCE" if in_maintenance else "OPERATIONAL"
        return respond(200, frames.ok({"operationalStatus": word}))

    def _market(self, asked: Arguments) -> str:
        market = asked.part("market")
        if market not in self._exchange.venue.markets:
            raise CallRefused(MARKET_NOT_FOUND)
        return market

    def _candles(self, asked: Arguments) -> bytes:
        market, kind = self._market(asked), asked.part("kind")
        if kind not in CANDLE_KINDS:
            raise CallRefused(NOT_FOUND)
        minutes = candle_minutes(asked)
        end_ms = asked.number("endTime")
        shape = CandleShape(kind, minutes, None if end_ms is None else end_ms * NS_PER_MS)
        count = min(asked.number("limit") or _USUAL_CANDLES, _MOST_CANDLES)
        return self._queries.candles(market, count, self._clock.now_ns(), shape)

    def _funding(self, asked: Arguments) -> bytes:
        start_ms, end_ms = asked.required_number("startTime"), asked.required_number("endTime")
        page = asked.page(self._rules.page_limit)
        market = self._market(asked)
        return self._queries.funding_rates(market, start_ms * NS_PER_MS, end_ms * NS_PER_MS, page)

    def _open_interests(self, asked: Arguments) -> bytes:
        if asked.word("interval") not in ("P1H", "P1D"):
            raise CallRefused(_INTERVAL_REFUSED)
        return self._queries.open_interest(self._market(asked), self._clock.now_ns())

    def _asset_price(self, asked: Arguments) -> bytes:
        market = f"{asked.part('asset')}-USD"
        if market not in self._exchange.venue.markets:
            raise CallRefused(Refusal(400, 1000))
        return frames.ok(frames.text(self._exchange.mark(market)))
