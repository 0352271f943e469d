"""What one step of the exchange changed and the streams have yet to tell."""

from dataclasses import dataclass, field

from market_maker.emulator.orders import AccountTrade, Order, PublicTrade


@dataclass(slots=True)
class AccountChanges:
    """Orders in the order in which they changed, trades, markets of changed positions."""

    orders: dict[int, Order] = field(default_factory=dict)
    trades: list[AccountTrade] = field(default_factory=list)
    positions: dict[str, None] = field(default_factory=dict)
    balance: bool = False


class Changes:
    """Collects the changes of a step, per account and per market."""

    def __init__(self) -> None:
        self._accounts: dict[int, AccountChanges] = {}
        self._trades: dict[str, list[PublicTrade]] = {}

    def account(self, account_id: int) -> AccountChanges:
        """Return the changes of an account, to be added to."""
        return self._accounts.setdefault(account_id, AccountChanges())

    def public_trade(self, market: str, trade: PublicTrade) -> None:
        """Note a public trade."""
        self._trades.setdefault(market, []).append(trade)

    def traded_accounts(self) -> list[int]:
        """Accounts that had a fill."""
        return [account_id for account_id, changes in self._accounts.items() if changes.trades]

    def drain_accounts(self) -> dict[int, AccountChanges]:
        """Return the accounts' changes and start anew."""
        drained = self._accounts
        if drained:
            self._accounts = {}
        return drained

    def drain_trades(self) -> dict[str, list[PublicTrade]]:
        """Return the public trades by market and start anew."""
        drained = self._trades
        if drained:
            self._trades = {}
        return drained
