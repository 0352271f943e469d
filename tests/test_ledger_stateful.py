"""The ledger beside a list of all that happened: each part, and their sum, to the last digit at every step.

The reference keeps every event and works out each part anew from the definitions, in fractions.
"""

from decimal import Decimal
from fractions import Fraction

from fuzzing import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from test_ledger import START_NS, S, X, payment

from market_maker.domain import Fill, Side
from market_maker.gateway import FillReport
from market_maker.instrument import Instrument
from market_maker.ledger import Ledger, OpeningPosition

ODD = Instrument("Y", tick=Decimal("0.25"), step=Decimal("0.003"), min_size=Decimal("0.003"))
INSTRUMENTS = {"X": X, "Y": ODD}
NAMES = st.sampled_from(["X", "Y"])
MIDS = st.integers(1, 3_000_001)
MARKS = st.decimals(1, 15_000, places=9)
OPENINGS = st.builds(OpeningPosition, st.integers(-(10**6), 10**6), MIDS, MARKS)
ADVERSE_S = 5


class Market:
    """All that happened in one market."""

    def __init__(self, instrument, opening):
        self.unit = Fraction(instrument.tick) * Fraction(instrument.step)
        self.tick, self.step = Fraction(instrument.tick), Fraction(instrument.step)
        self.opening = opening
        self.mids = [(START_NS, opening.mid2_ticks)]
        self.mark = Fraction(opening.mark)
        self.fills = []
        self.payments = []

    def mid2(self, at_ns):
        """Twice the mid that was in force at an instant; of several since the same one, the last."""
        return next(mid2 for since_ns, mid2 in reversed(self.mids) if since_ns <= at_ns)

    def position(self):
        return self.opening.lots + sum(lots for lots, *_ in self.fills)

    def equity_change(self):
        cash = sum(-lots * price * self.unit - fee for lots, price, fee, *_ in self.fills)
        held = self.position() * self.step * self.mark
        brought = self.opening.lots * self.step * Fraction(self.opening.mark)
        return cash + sum(self.payments) + held - brought

    def parts(self):
        end2 = self.mids[-1][1]
        spread2 = adverse2 = inventory2 = 0
        for lots, price, _, mid2, due_ns in self.fills:
            later2 = self.mid2(due_ns)
            spread2 += lots * (mid2 - 2 * price)
            adverse2 += lots * (later2 - mid2)
            inventory2 += lots * (end2 - later2)
        inventory2 += self.opening.lots * (end2 - self.opening.mid2_ticks)
        basis = self.position() * self.step * (self.mark - self.tick * end2 / 2)
        basis -= (
            self.opening.lots
            * self.step
            * (Fraction(self.opening.mark) - self.tick * self.opening.mid2_ticks / 2)
        )
        return {
            "spread": spread2 * self.unit / 2,
            "adverse_selection": adverse2 * self.unit / 2,
            "inventory": inventory2 * self.unit / 2,
            "fees": -sum(max(fee, Fraction(0)) for _, _, fee, *_ in self.fills),
            "rebates": -sum(min(fee, Fraction(0)) for _, _, fee, *_ in self.fills),
            "funding": sum(self.payments, Fraction(0)),
            "basis": basis,
        }


class Books(RuleBasedStateMachine):
    """Two markets of one account."""

    def __init__(self):
        super().__init__()
        self.now_ns = START_NS
        self.ids = 0
        self.told = []

    @initialize(x=OPENINGS, y=OPENINGS, cash=st.decimals(-(10**6), 10**9, places=8))
    def open(self, x, y, cash):
        openings = {"X": x, "Y": y}
        self.cash = Fraction(cash)
        self.ledger = Ledger(INSTRUMENTS, cash, openings)
        self.markets = {name: Market(INSTRUMENTS[name], openings[name]) for name in INSTRUMENTS}

    @rule(name=NAMES, mid2=MIDS, after_ns=st.integers(0, 8 * S) | st.sampled_from([0, 1, 5 * S]))
    def mid(self, name, mid2, after_ns):
        self.now_ns += after_ns
        self.ledger.on_mid(name, mid2, self.now_ns)
        self.markets[name].mids.append((self.now_ns, mid2))

    @rule(name=NAMES, mark=MARKS)
    def mark(self, name, mark):
        self.ledger.on_mark(name, mark)
        self.markets[name].mark = Fraction(mark)

    @rule(
        name=NAMES,
        side=st.sampled_from(Side),
        price=st.integers(1, 2_000_000),
        lots=st.integers(1, 10**7),
        # Negative: a rebate.
        fee=st.decimals(-3, 3, places=12),
    )
    def fill(self, name, side, price, lots, fee):
        self.ids += 1
        market = self.markets[name]
        mid2 = market.mids[-1][1]
        report = FillReport(
            Fill(name, self.ids, 1, "a", side, price, lots, False, self.now_ns, self.now_ns), fee
        )
        assert self.ledger.book_fill(report, mid2)
        due_ns = self.now_ns + ADVERSE_S * S
        market.fills.append((side * lots, price, Fraction(fee), mid2, due_ns))
        self.told.append(lambda: self.ledger.book_fill(report, mid2))

    @rule(amount=st.decimals(-50, 50, places=14))
    def funding(self, amount):
        self.ids += 1
        paid = payment(self.ids, str(amount))
        assert self.ledger.book_funding(paid)
        self.markets[paid.market].payments.append(Fraction(amount))
        self.told.append(lambda: self.ledger.book_funding(paid))

    @rule(data=st.data())
    def what_was_told_comes_again(self, data):
        if self.told:
            assert not data.draw(st.sampled_from(self.told))()

    @invariant()
    def each_part_and_their_sum(self):
        equity = self.cash
        for name, market in self.markets.items():
            parts, expected = self.ledger.attribution(name), market.parts()
            assert {part: Fraction(getattr(parts, part)) for part in expected} == expected
            change = self.ledger.change_of_equity(name)
            assert parts.total + parts.basis == change
            assert Fraction(change) == market.equity_change()
            assert self.ledger.position_lots(name) == market.position()
            equity += market.equity_change()
        assert Fraction(self.ledger.equity()) == equity


TestBooks = Books.TestCase
TestBooks.settings = examples(25, steps=25)
