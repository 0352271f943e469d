"""Who is subscribed to what: opens and closes subscriptions, and sends each book reader its snapshots."""

from functools import partial

from market_maker.domain import NS_PER_S
from market_maker.emulator.accounts import Account
from market_maker.emulator.feeds import AccountFeed, MarketFeed
from market_maker.emulator.outbox import Outbox
from market_maker.emulator.streams import ACCOUNT, PUBLIC_KINDS, Stream, Topic
from market_maker.emulator.timeline import Timeline
from market_maker.emulator.venue import Venue
from market_maker.emulator.wire import Wire


class Subscriptions:
    """All subscriptions of the exchange.

    Attributes
    ----------
    markets, accounts : dict
        What each market and each account has to tell.
    """

    def __init__(self, venue: Venue, wire: Wire, timeline: Timeline, outbox: Outbox) -> None:
        self._venue = venue
        self._wire = wire
        self._timeline = timeline
        self._outbox = outbox
        rules = venue.rules.streams
        self._snapshot_ns = rules.book_snapshot_s * NS_PER_S
        self.markets = {
            name: MarketFeed(market, wire.scales[name], rules, timeline, outbox)
            for name, market in venue.markets.items()
        }
        self.accounts: dict[int, AccountFeed] = {}
        self._streams: dict[int, Stream] = {}
        self._count = 0

    def open_account(self, account: Account) -> None:
        """Let an account have streams."""
        self.accounts[account.account_id] = AccountFeed(self._venue, account, self._wire, self._outbox)

    def subscribe(self, topic: Topic, now_ns: int) -> int:
        """Open a subscription; return its number.

        Raises
        ------
        ValueError
            If there is no such topic.
        """
        self._count += 1
        stream = Stream(self._count, topic)
        feeds = self._feeds(topic)
        self._streams[stream.number] = stream
        for feed in feeds:
            feed.add(stream, now_ns)
        if topic.kind == "book":
            self._plan_snapshot(stream, now_ns)
        return stream.number

    def unsubscribe(self, number: int) -> None:
        """Close a subscription, if it is open; what is under way is lost."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.is_open = False
            for feed in self._feeds(stream.topic):
                feed.remove(stream)

    def _feeds(self, topic: Topic) -> "list[MarketFeed] | list[AccountFeed]":
        if topic.kind == ACCOUNT:
            if topic.account_id in self.accounts:
                return [self.accounts[topic.account_id]]
            msg = f"expected an account of {list(self.accounts)}, was {topic.account_id}"
            raise ValueError(msg)
        if topic.kind not in PUBLIC_KINDS:
            msg = f"expected a stream of {', '.join(PUBLIC_KINDS)} or {ACCOUNT}, was {topic.kind!r}"
            raise ValueError(msg)
        return self._markets(topic)

    def _markets(self, topic: Topic) -> list[MarketFeed]:
        if not topic.market:
            return list(self.markets.values())
        if topic.market not in self.markets:
            msg = f"expected a market of {', '.join(self.markets)}, was {topic.market!r}"
            raise ValueError(msg)
        return [self.markets[topic.market]]

    def _plan_snapshot(self, stream: Stream, now_ns: int) -> None:
        self._timeline.plan(now_ns + self._snapshot_ns, partial(self._snapshot_timer, stream))

    def _snapshot_timer(self, stream: Stream, now_ns: int) -> None:
        if stream.is_open:
            for feed in self._markets(stream.topic):
                feed.snapshot(stream, now_ns)
            self._plan_snapshot(stream, now_ns)
