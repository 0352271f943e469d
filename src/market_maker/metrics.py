"""What Prometheus may ask, and exact-enough percentiles of our own latency in bounded memory.

The registry is the instance's own: two sessions in a process do not add up, and a test leaves nothing behind.
The server is optional and listens on this machine alone unless it is told otherwise, and then asks for a
token: what it tells (positions, money) is nobody else's.
"""

import math
import socket
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, make_wsgi_app

from market_maker.access import admits, check_exposure
from market_maker.domain import Reason, Regime, Side

_US_PER_S: Final = 1e6
_DECISION_BUCKETS_S: Final = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2)


class Percentiles:
    """Quantiles of durations, to one percent, from a histogram of logarithmic buckets.

    Memory does not grow with the samples: 1,900 buckets of 1 % span 0.1 µs to 16 s.

    >>> durations = Percentiles()
    >>> for us in range(1, 101):
    ...     durations.add(float(us))
    >>> 49.0 < durations.quantile(0.5) < 51.0
    True
    """

    _LOWEST_US: Final = 0.1
    _PER_E: Final = 100.0
    _BUCKETS: Final = 1900

    def __init__(self) -> None:
        self._counts = [0] * self._BUCKETS
        self.count = 0

    def add(self, us: float) -> None:
        """Count one duration, µs; what is not finite is not counted."""
        if not math.isfinite(us):
            return
        bucket = round(math.log(max(us, self._LOWEST_US) / self._LOWEST_US) * self._PER_E)
        self._counts[min(bucket, self._BUCKETS - 1)] += 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """Duration that a share of the samples do not exceed, µs; 0 where there are none."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        bucket = bisect_left(list(accumulate(self._counts)), min(rank, self.count))
        return self._LOWEST_US * math.exp(bucket / self._PER_E)

    @property
    def p50(self) -> float:
        """Median, µs."""
        return self.quantile(0.5)

    @property
    def p99(self) -> float:
        """99th percentile, µs."""
        return self.quantile(0.99)


@dataclass(frozen=True, slots=True)
class MarketFigures:
    """Standing of one market, to be shown as gauges. Money in USD."""

    regime: Regime
    trend: float  # direction × strength, −1 … 1
    position_usd: Decimal
    quotes_live: int
    pnl_usd: dict[str, Decimal]  # by part
    beta: float = 1.0  # to the reference market, as the limits count it


class Metrics:
    """Gauges, counters and histograms of one process, by market.

    Parameters
    ----------
    is_read : bool
        Somebody may look at them; else what changes with every decision and second is not worked out.
    """

    def __init__(self, *, is_read: bool = True) -> None:
        self.is_read = is_read
        self.registry = CollectorRegistry()
        self._quotes = self._gauge("mm_quotes_live", "Orders of ours that rest")
        self._position = self._gauge("mm_position_usd", "Signed position at the mid, USD")
        self._regime = self._gauge("mm_regime", "Volatility regime, 0 CALM to 3 EXTREME")
        self._trend = self._gauge("mm_trend", "Direction times strength of the trend, -1 to 1")
        self._pnl = self._gauge("mm_pnl_usd", "Profit by part, USD", "part")
        self._equity = Gauge("mm_equity_usd", "Equity of the account, USD", registry=self.registry)
        self._beta = self._gauge("mm_beta", "Beta to the reference market, as the limits count it")
        self._net_beta = Gauge(
            "mm_net_beta_usd",
            "What all positions count as in the reference market, USD",
            registry=self.registry,
        )
        self._journal_failed = Gauge(
            "mm_journal_failed", "1 when the journal is not written", registry=self.registry
        )
        self._kill_step = Gauge(
            "mm_kill_step", "Kill ladder: 0 normal, 1 widen to 5 stop", ["cause"], registry=self.registry
        )
        self._fills = self._counter("mm_fills", "Matches of our orders", "side")
        self._volume = self._counter("mm_volume_usd", "Notional of our matches, USD", "side")
        self._orders = self._counter("mm_orders", "Requests sent: place, replace, cancel", "kind")
        self._rejects = self._counter("mm_rejects", "Orders that the exchange rejected", "reason")
        self._refusals = self._counter("mm_refusals", "Decisions that the risk manager refused", "reason")
        self._gaps = self._counter("mm_sequence_gaps", "Gaps in a stream's sequence")
        self._unknown = Counter(
            "mm_unknown_words",
            "Undocumented words of the exchange, and frames left out",
            registry=self.registry,
        )
        self._decision = Histogram(
            "mm_decision_seconds",
            "Book frame to decision",
            ["market"],
            buckets=_DECISION_BUCKETS_S,
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["market", *labels], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["market", *labels], registry=self.registry)

    def show(self, market: str, figures: MarketFigures) -> None:
        """Set the gauges of a market."""
        self._quotes.labels(market).set(figures.quotes_live)
        self._position.labels(market).set(float(figures.position_usd))
        self._regime.labels(market).set(int(figures.regime))
        self._trend.labels(market).set(figures.trend)
        self._beta.labels(market).set(figures.beta)
        for part, amount in figures.pnl_usd.items():
            self._pnl.labels(market, part).set(float(amount))

    def show_account(self, equity_usd: Decimal, net_beta_usd: float = 0.0, *, journal_failed: bool) -> None:
        """Set what concerns the account and the process as a whole."""
        self._equity.set(float(equity_usd))
        self._net_beta.set(net_beta_usd)
        self._journal_failed.set(journal_failed)

    def show_ladder(self, step: int, cause: str) -> None:
        """Set where the kill ladder stands, and for what; one cause at a time."""
        self._kill_step.clear()
        self._kill_step.labels(cause.lower()).set(step)

    def fill(self, market: str, side: Side, value_usd: Decimal) -> None:
        """Count one match."""
        self._fills.labels(market, side.name).inc()
        self._volume.labels(market, side.name).inc(abs(float(value_usd)))

    def order(self, market: str, kind: str) -> None:
        """Count one request: `place`, `replace` or `cancel`."""
        self._orders.labels(market, kind).inc()

    def reject(self, market: str, reason: str) -> None:
        """Count an order that the exchange rejected, by its own reason."""
        self._rejects.labels(market, reason).inc()

    def refused(self, market: str, reason: Reason) -> None:
        """Count a decision that the risk manager refused."""
        self._refusals.labels(market, reason.name).inc()

    def sequence_gap(self, market: str) -> None:
        """Count a gap in a stream's sequence; an empty market stands for the account stream."""
        self._gaps.labels(market).inc()

    def unknown_words(self, count: int) -> None:
        """Count words of the exchange that nobody documented."""
        self._unknown.inc(count)

    def decision(self, market: str, us: float) -> None:
        """Count the time of one decision, µs."""
        if self.is_read:
            self._decision.labels(market).observe(us / _US_PER_S)

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry).decode()


class MetricsServer:
    """A running HTTP server of one registry."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Leave standard error to the session."""


_Environ = dict[str, Any]
_App = Callable[[_Environ, Callable[..., Any]], Iterable[bytes]]


def _guarded(app: _App, token: str) -> _App:
    def checked(environ: _Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        if admits(token, str(environ.get("HTTP_AUTHORIZATION", ""))):
            return app(environ, start)
        start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "0")])
        return [b""]

    return checked


def start_http_server(metrics: Metrics, port: int, addr: str = "127.0.0.1", token: str = "") -> MetricsServer:
    """Serve the metrics; port 0 takes a free one.

    Parameters
    ----------
    token : str
        What every request has to bring as `Authorization: Bearer …`; empty: nobody is asked.

    Raises
    ------
    Exposed
        If the address is not a loopback address, and there is no token.
    OSError
        If the address can not be had.
    """
    check_exposure("metrics", addr, token, "MM_METRICS_TOKEN")
    kind = _Server6 if ":" in addr else _Server
    server = make_server(addr, port, _guarded(make_wsgi_app(metrics.registry), token), kind, _Quiet)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    return MetricsServer(server, thread)
