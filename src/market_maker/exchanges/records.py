"""What a gateway tells of a market as records, which recordings are made of and paper trading fills by."""

from market_maker.domain import BestQuote, BookUpdate, Trade
from market_maker.gateway import FundingRate, IndexPrice, MarketEvent, MarkPrice, StreamLost
from market_maker.recordings.segments import (
    BookRecord,
    LostRecord,
    QuoteRecord,
    Record,
    TradeRecord,
    ValueRecord,
)


def record_of(event: MarketEvent, recv_ns: int) -> Record:
    """Record of an event; `recv_ns` is for those that do not carry their own."""
    match event:
        case BookUpdate():
            return BookRecord(
                event.is_snapshot, event.bids, event.asks, event.seq, event.venue_ns, event.recv_ns
            )
        case BestQuote():
            return QuoteRecord(*event[1:])
        case Trade():
            return TradeRecord(
                event.trade_id,
                int(event.taker_side),
                event.price_ticks,
                event.size_lots,
                event.venue_ns,
                event.recv_ns,
            )
        case MarkPrice():
            return ValueRecord("mark", str(event.price), event.venue_ns, recv_ns)
        case IndexPrice():
            return ValueRecord("index", str(event.price), event.venue_ns, recv_ns)
        case FundingRate():
            return ValueRecord("funding", str(event.rate), event.venue_ns, recv_ns)
        case StreamLost():
            return LostRecord(event.why, recv_ns)
