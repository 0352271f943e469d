"""Drives an exchange in an event loop: requests wait for their replies, subscriptions have queues.

One timer of the loop is set to the next instant at which anything is due at the exchange. A socket server
and the gateway inside the process both stand on this.
"""

import asyncio
from collections.abc import Callable

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.requests import Request
from market_maker.emulator.streams import ACCOUNT, Output, Reply, StreamClosed, Topic
from market_maker.recordings.events import RecordingError

Frames = asyncio.Queue[tuple[str, bytes] | None]


class ExchangeClosed(Exception):
    """The exchange was closed: it answers no more."""

    def __init__(self) -> None:
        super().__init__("the exchange inside was closed")


class Subscription:
    """What a topic tells, from now on.

    Attributes
    ----------
    queue : asyncio.Queue
        (kind, frame) of each frame; None: the exchange closed the subscription.
    """

    def __init__(self, topic: Topic, queue: Frames, close: Callable[[], None]) -> None:
        self.topic = topic
        self.queue = queue
        self._close = close

    def close(self) -> None:
        """Hear no more; what is under way is lost."""
        self._close()


class ExchangeDriver:
    """Drives an exchange inside this process and hands its outputs to whoever waits for them.

    Parameters
    ----------
    exchange : Exchange
        The sans-IO core.
    clock : Clock
        The time that the exchange lives in; in virtual time it must be the loop's.
    observe : callable, optional
        Called with the instant, ns, after each step of the exchange, before anybody hears of it.
    """

    def __init__(
        self, exchange: Exchange, clock: Clock, observe: Callable[[int], None] = lambda _now_ns: None
    ) -> None:
        self.exchange = exchange
        self.clock = clock
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._closed = False
        self._failure: Exception | None = None

    def start(self) -> None:
        """Begin to live; nothing happens at the exchange before."""
        self._arm()

    def close(self) -> None:
        """Stop: subscriptions end, and requests that wait fail with `ExchangeClosed`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ExchangeClosed())
        for number in list(self._subscriptions):
            self._end(number)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def check_failure(self) -> None:
        """Raise whatever the exchange, or one of its flows, failed with."""
        if self._failure is not None:
            raise self._failure

    def check_open(self) -> None:
        """Fail where the exchange is closed.

        Raises
        ------
        ExchangeClosed
            If it is.
        """
        if self._closed:
            raise ExchangeClosed

    async def send(self, account_id: int, request: Request) -> Reply:
        """Submit a request, and wait for its reply; one whose reply is lost waits until it is cancelled.

        Raises
        ------
        ExchangeClosed
            If the exchange is closed, or closes meanwhile.
        """
        self.check_open()
        return await self._reply_to(self.exchange.submit(account_id, request, self.clock.now_ns()))

    async def ask(self, pool: int | str, query: Callable[[], bytes]) -> Reply:
        """Look something up, and wait for the reply, whose body `query` gives.

        Parameters
        ----------
        pool : int or str
            Whose rate limit it counts against; an account's requests count against its id.

        Raises
        ------
        ExchangeClosed
            If the exchange is closed, or closes meanwhile.
        """
        self.check_open()
        return await self._reply_to(self.exchange.ask(pool, query, self.clock.now_ns()))

    def open_stream(self, topic: Topic, queue: Frames | None = None) -> Subscription:
        """Subscribe to a topic; several subscriptions may share a queue.

        Raises
        ------
        ValueError
            If there is no such topic.
        """
        number = self.exchange.subscribe(topic)
        frames: Frames = asyncio.Queue() if queue is None else queue
        subscription = Subscription(topic, frames, lambda: self._leave(number))
        self._subscriptions[number] = subscription
        if self._closed or (self._failure is not None and topic.kind != ACCOUNT):
            self._end(number)
        self._arm()
        return subscription

    async def _reply_to(self, ticket: int) -> Reply:
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[ticket] = future
        self._arm()
        try:
            return await future
        finally:
            self._waiting.pop(ticket, None)

    def _leave(self, number: int) -> None:
        if self._subscriptions.pop(number, None) is not None:
            self.exchange.unsubscribe(number)

    def _end(self, number: int) -> None:
        subscription = self._subscriptions.get(number)
        if subscription is not None:
            self._leave(number)
            subscription.queue.put_nowait(None)

    def _arm(self) -> None:
        due_ns = self.exchange.next_due_ns()
        if self._closed or due_ns is None:
            return
        if self._timer is not None:
            if self._timer_due_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_due_ns = due_ns
        delay_s = (due_ns - self.clock.now_ns()) / NS_PER_S
        self._timer = self._loop.call_later(max(delay_s, 0.0), self._advance)

    def _advance(self) -> None:
        self._timer = None
        # The loop's float time may be a hair short of the instant that the timer was set to.
        now_ns = max(self.clock.now_ns(), self._timer_due_ns)
        try:
            outputs = self.exchange.advance(now_ns)
            self._observe(now_ns)
        except RecordingError as error:
            # Its flow has ended. The exchange lives on, so that orders are cancelled and books compared.
            self._fail(error)
        except Exception as error:  # noqa: BLE001  (nobody hears of an error in a timer; the streams raise it)
            self._fail(error)
            self.close()
        else:
            for output in outputs:
                self._deliver(output)
        self._arm()

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        for number, subscription in list(self._subscriptions.items()):
            if subscription.topic.kind != ACCOUNT:
                self._end(number)

    def _deliver(self, output: Output) -> None:
        if isinstance(output, Reply):
            future = self._waiting.get(output.ticket)
            if future is not None and not future.done():
                future.set_result(output)
        elif isinstance(output, StreamClosed):
            self._end(output.subscription)
        else:
            subscription = self._subscriptions.get(output.subscription)
            if subscription is not None:
                subscription.queue.put_nowait((output.kind, output.frame))
