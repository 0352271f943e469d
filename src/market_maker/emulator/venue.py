"""What the parts of the exchange share: markets, accounts, mode, ids, and the books of the other side."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import count

from market_maker.emulator.accounts import EXACT, Account, Ledger, Position
from market_maker.emulator.flow import Flow
from market_maker.emulator.market import Market
from market_maker.emulator.rules import ExchangeRules
from market_maker.instrument import Instrument

# Beyond 2^53, where a client that parses ids as floats confuses neighbours.
_FIRST_ORDER_ID = 1_790_000_000_000_000_001
_FIRST_TRADE_ID = 1_840_000_000_000_000_001
_FIRST_POSITION_ID = 1_820_000_000_000_000_001
_FIRST_PAYMENT_ID = 8_341
_FIRST_ACCOUNT_ID = 3_001


class Venue:
    """The exchange's state. `outside` is everyone who has no account, `house` the exchange itself.

    Raises
    ------
    ValueError
        If a market has not exactly one flow.
    """

    def __init__(
        self, instruments: Sequence[Instrument], flows: Sequence[Flow], rules: ExchangeRules
    ) -> None:
        by_market = {flow.market: flow for flow in flows}
        names = [instrument.name for instrument in instruments]
        if sorted(names) != sorted(flow.market for flow in flows) or len(by_market) != len(flows):
            msg = f"expected one flow for each of {names}, was {[flow.market for flow in flows]}"
            raise ValueError(msg)
        self.rules = rules
        self.mode = rules.mode
        self.markets = {i.name: Market(i, by_market[i.name], rules) for i in instruments}
        self.accounts: dict[int, Account] = {}
        self.outside = Ledger()
        self.house = Ledger()
        self.order_ids = count(_FIRST_ORDER_ID)
        self.trade_ids = count(_FIRST_TRADE_ID)
        self.payment_ids = count(_FIRST_PAYMENT_ID)
        self._position_ids = count(_FIRST_POSITION_ID)
        self._account_ids = count(_FIRST_ACCOUNT_ID)

    def open_account(
        self, deposit: Decimal, leverage: Decimal, fees: tuple[Decimal, Decimal], client_id: int | None
    ) -> Account:
        """Open an account with a deposit, USD, and (maker, taker) fee rates; None: a client of its own."""
        account_id = next(self._account_ids)
        account = Account(
            account_id=account_id,
            client_id=account_id if client_id is None else client_id,
            deposit=deposit,
            leverage=leverage,
            maker_fee=fees[0],
            taker_fee=fees[1],
            history_limit=self.rules.orders.history_limit,
        )
        account.ledger.receive(deposit)
        self.accounts[account_id] = account
        return account

    def position(self, account: Account, market: str, now_ns: int) -> Position:
        """Return the account's position in a market; a flat one begins a new position with its own id."""
        position = account.positions.get(market)
        if position is None or position.lots == 0:
            if position is not None:
                account.record_position(position)
            position = Position(next(self._position_ids), market, now_ns, now_ns)
            account.positions[market] = position
        return position

    def equity(self, account: Account) -> Decimal:
        """Cash + Σ position × mark, USD, exact."""
        equity = account.ledger.cash
        for market, lots in account.ledger.lots.items():
            if lots:
                state = self.markets[market]
                equity = EXACT.add(equity, EXACT.multiply(state.instrument.size(lots), state.mark))
        return equity
