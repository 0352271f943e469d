"""The emulator's server: the exchange's REST API and v1 streams on a socket.

REST is below `{url}/api/v1`, streams are below `ws…/stream.extended.exchange/v1`, as at the exchange. On a
loopback address the emulator's own control is below `{url}/emulator`; on any other it is not there, since it
hands out keys, and every request has to bring a token.
"""

import ssl
from collections.abc import Sequence
from email.utils import formatdate
from typing import Final

from aiohttp import web

from market_maker.access import check_exposure, is_loopback
from market_maker.domain import NS_PER_S
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.server_calls import Desk, admitted, cut_off, envelope
from market_maker.emulator.server_control import ControlCalls
from market_maker.emulator.server_orders import OrderCalls
from market_maker.emulator.server_private import PrivateCalls
from market_maker.emulator.server_public import PublicCalls
from market_maker.emulator.server_rules import ServedAccount, ServerRules
from market_maker.emulator.server_streams import StreamCalls

__all__ = ["EmulatorServer", "ServedAccount", "ServerRules"]

_USUAL: Final = ServerRules()
_SHUTDOWN_S: Final = 1.0


class EmulatorServer:
    """Serves an exchange to clients on sockets.

    Parameters
    ----------
    driver : ExchangeDriver
        Drives the exchange; it is started and closed by its owner.
    accounts : sequence of ServedAccount
        Accounts that can be opened with a key.

    Attributes
    ----------
    url : str
        Where it listens, `http://127.0.0.1:PORT`; empty before `start`.
    """

    def __init__(
        self, driver: ExchangeDriver, accounts: Sequence[ServedAccount], rules: ServerRules = _USUAL
    ) -> None:
        self._driver = driver
        self._accounts = tuple(accounts)
        self._rules = rules
        self._runner: web.AppRunner | None = None
        self._dated_s, self._shown_date = 0, ""
        self.url = ""

    async def start(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        token: str = "",
    ) -> None:
        """Listen; port 0 takes a free one, and with a token every request has to bring it.

        Raises
        ------
        Exposed
            If others reach the address, and there is no token.
        OSError
            If the address can not be had.
        """
        check_exposure("mm emulator", host, token, "MM_EMULATOR_TOKEN")
        runner = web.AppRunner(
            self._application(token, with_control=is_loopback(host)),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError:
            await self.close()
            raise
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{runner.addresses[0][1]}"

    async def close(self) -> None:
        """Close every connection and listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self, token: str, *, with_control: bool) -> web.Application:
        desk = Desk(self._driver, {account.api_key: account for account in self._accounts})
        streams = StreamCalls(desk, self._rules)
        application = web.Application(middlewares=[admitted(token), cut_off(self._driver.exchange), envelope])
        application.add_routes(PublicCalls(desk, self._rules).routes())
        application.add_routes(PrivateCalls(desk, self._accounts, self._rules).routes())
        application.add_routes(OrderCalls(desk, self._rules).routes())
        application.add_routes(streams.routes())
        if with_control:
            application.add_routes(ControlCalls(self._driver, self._accounts).routes())
        application.on_response_prepare.append(self._date)

        async def close_streams(_: web.Application) -> None:
            await streams.close()

        application.on_shutdown.append(close_streams)
        return application

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Date a reply by the exchange's clock, not the machine's."""
        instant_s = int(self._driver.clock.now_ns() / NS_PER_S + self._rules.clock_skew_s)
        if instant_s != self._dated_s:
            self._dated_s, self._shown_date = instant_s, formatdate(instant_s, usegmt=True)
        response.headers["Date"] = self._shown_date
