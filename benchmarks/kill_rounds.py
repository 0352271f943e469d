"""Kill -9 at random instants and restart, over real sockets: what a crash loses, doubles or leaves behind.

One emulator runs through all rounds, as a process of its own. The bot, another one, is killed at an instant
drawn from the seed: while it starts, while it quotes, or while it stops after a SIGTERM. Its next life begins
on the same journal. After the last round one life stops in order and flattens. Then the emulator's books
are read over REST, and all journals of all lives are held against them: every fill once, equity to the last
digit, no order longer at the exchange than the dead man's countdown after the last life that placed or
adopted it.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from market_maker.cli.child import emulator_process
from market_maker.cli.connected import compile_kernels
from market_maker.clock import SystemClock
from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.status import StatusError, read_status
from market_maker.trade_journal import read_journal

MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
SCENARIO: Final = "choppy"
DEPOSIT: Final = Decimal(10_000)
FUNDING_EVERY_S: Final = 20
COUNTDOWN_S: Final = 5
# A call to the switch that was under way at the kill, and the way of the cancels.
_UNDER_WAY_S: Final = 2.0
_EARLIEST_S, _LATEST_S = 0.2, 6.0
_LONGEST_STOP_S: Final = 2.0
# Of all rounds: those killed a while after their start, however far they came; the others wait for quotes.
_START_SHARE: Final = 0.3
_STOPPED_SHARE: Final = 0.2
_ALONE_SHARE: Final = 0.1
_LAST_LIFE_S: Final = 6.0
_PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.1
_TRIES: Final = 100
_EXACT_DIGITS: Final = 60
_OPEN: Final = {"NEW", "PARTIALLY_FILLED", "UNTRIGGERED"}
# Quotes near enough to be hit within seconds.
_SETTINGS: Final = {
    "network": "emulator",
    "markets": ",".join(MARKETS),
    "stop_action": "flatten",
    # What is too small for an order stays: do not try for long.
    "stop_reduce_s": 5,
    "dead_man_countdown_s": COUNTDOWN_S,
    "dead_man_interval_s": 1,
    "offset_sigma_multiple": 0.1,
    "offset_latency_sigmas": 0,
    "min_offset_bps": 0.1,
    "min_edge_bps": 0,
    "level_size_usd": 300,
}


class Plan(NamedTuple):
    """When a life is killed: so long after its start or its session's, or after a SIGTERM at that time; s.

    `alone_s` is how long nothing runs afterwards.
    """

    after_s: float
    from_session: bool
    stop_s: float | None
    alone_s: float


@dataclass(frozen=True)
class Life:
    """One process of the bot: from when to when (ns), its exit code, what it printed at its end."""

    began_ns: int
    ended_ns: int
    code: int
    summary: dict[str, Any] = field(default_factory=dict)
    errors: str = ""


class Match(NamedTuple):
    """A fill as both sides have it: numbers exact, the fee positive when paid, USD."""

    market: str
    side: str
    price: Decimal
    size: Decimal
    fee: Decimal


@dataclass
class Books:
    """Fills and funding payments by id, each as often as it was found."""

    fills: list[tuple[str, Match]] = field(default_factory=list)
    funding: list[tuple[str, Decimal]] = field(default_factory=list)

    def cash(self) -> Decimal:
        """What remains of the deposit, USD."""
        spent = sum(
            (match.fee + match.price * match.size * (1 if match.side == "BUY" else -1))
            for _, match in self.fills
        )
        return DEPOSIT - spent + sum((paid for _, paid in self.funding), Decimal())

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal | None:
        """Cash and positions at these marks, USD; None where one is held that has no mark."""
        held = self.positions()
        if not held.keys() <= marks.keys():
            return None
        return self.cash() + sum((size * marks[market] for market, size in held.items()), Decimal())

    def positions(self) -> dict[str, Decimal]:
        """Size held by market, signed."""
        held: dict[str, Decimal] = defaultdict(Decimal)
        for _, match in self.fills:
            held[match.market] += match.size if match.side == "BUY" else -match.size
        return {market: size for market, size in held.items() if size}


def draw_plans(rounds: int, seed: int) -> list[Plan]:
    """Lives to be cut short, the same for the same seed."""
    draws = np.random.default_rng(seed)
    plans = []
    for _ in range(rounds):
        after_s, stop_s = draws.uniform(_EARLIEST_S, _LATEST_S), draws.uniform(0.0, _LONGEST_STOP_S)
        from_start, stops, alone = draws.random(3) < (_START_SHARE, _STOPPED_SHARE, _ALONE_SHARE)
        alone_s = COUNTDOWN_S + _UNDER_WAY_S if alone else 0.0
        plans.append(Plan(float(after_s), not from_start, float(stop_s) if stops else None, alone_s))
    return plans


class Exchange:
    """The emulator's books of one account, over its REST and control interface."""

    def __init__(self, url: str) -> None:
        self._url = url
        [first, *_] = self._read("/emulator/accounts", {})["accounts"]
        self._account = str(first["accountId"])
        self._key = {"X-Api-Key": first["apiKey"]}

    def state(self) -> tuple[Decimal, int]:
        """Equity, USD, and how many orders are open."""
        state = self._read("/emulator/state", {})
        return Decimal(state["equity"][self._account]), state["openOrders"][self._account]

    def orders_open(self) -> int:
        """How many orders are open."""
        return self.state()[1]

    def valued(self) -> tuple[Decimal, dict[str, Decimal]]:
        """Equity, USD, and the marks of the positions that it is made of."""
        for _ in range(_TRIES):
            equity = self.state()[0]
            marks = {row["market"]: Decimal(row["markPrice"]) for row in self._positions()}
            if self.state()[0] == equity:
                return equity, marks
        msg = f"expected marks that stand still while they are read, was none in {_TRIES} tries"
        raise RuntimeError(msg)

    def _positions(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._read("/api/v1/user/positions", self._key)["data"]
        return rows

    def books(self) -> Books:
        """All trades and funding payments."""
        trades = [(_fill_id(row, row["id"]), _match(row)) for row in self._rows("/user/trades")]
        paid = [(str(row["id"]), Decimal(row["fundingFee"])) for row in self._rows("/user/funding/history")]
        return Books(trades, paid)

    def orders(self) -> list[dict[str, Any]]:
        """All orders that ever were, once each."""
        rows = [*self._rows("/user/orders/history"), *self._read("/api/v1/user/orders", self._key)["data"]]
        return list({row["id"]: row for row in rows}.values())

    def _rows(self, path: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = self._read(f"/api/v1{path}?limit=100{cursor}", self._key)
            yield from page["data"]
            if not page["data"]:
                return
            cursor = f"&cursor={page['pagination']['cursor']}"

    def _read(self, path: str, headers: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path, headers={"User-Agent": "benchmark", **headers})
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as reply:
            found: dict[str, Any] = json.load(reply)
        return found


def _fill_id(row: Mapping[str, Any], trade_id: int) -> str:
    """What tells a fill from all others: a match with itself is two of the account's."""
    return f"{row['market']} {trade_id} {row['side']}"


def _match(row: dict[str, Any]) -> Match:
    numbers = (Decimal(row[name]) for name in ("price", "qty", "fee"))
    return Match(row["market"], row["side"], *numbers)


def journal_books(folder: Path) -> Books:
    """Fills and funding payments of all journals in a folder, whichever life wrote them."""
    books = Books()
    steps: dict[str, tuple[Decimal, Decimal]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for record in read_journal(path):
            if record["type"] == "session_start":
                markets = record["markets"].items()
                steps |= {name: (Decimal(rules["tick"]), Decimal(rules["step"])) for name, rules in markets}
            elif record["type"] == "fill":
                tick, step = steps[record["market"]]
                price, size = record["price_ticks"] * tick, record["size_lots"] * step
                match = Match(record["market"], record["side"], price, size, Decimal(record["fee"]))
                books.fills.append((_fill_id(record, record["trade_id"]), match))
            elif record["type"] == "funding":
                books.funding.append((str(record["payment_id"]), Decimal(record["amount"])))
    return books


def differences(ours: Books, theirs: Books) -> dict[str, list[str]]:
    """Ids of what our journals lack, have more than once, have of nobody, or have otherwise."""
    found: dict[str, list[str]] = {}
    for name, mine, right in (
        ("fills", ours.fills, theirs.fills),
        ("funding", ours.funding, theirs.funding),
    ):
        counts, known = Counter(number for number, _ in mine), dict(right)
        otherwise = {number for number, what in mine if number in known and known[number] != what}
        found |= {
            f"{name}_lost": sorted(known.keys() - counts.keys()),
            f"{name}_doubled": sorted(number for number, count in counts.items() if count > 1),
            f"{name}_of_nobody": sorted(counts.keys() - known.keys()),
            f"{name}_otherwise": sorted(otherwise),
        }
    return found


def adoptions(folder: Path) -> list[tuple[int, str]]:
    """When (ns) a life went on with an order of an earlier one, and with which, by all journals."""
    return [
        (record["t"], name)
        for path in sorted(folder.glob("*.jsonl"))
        for record in read_journal(path)
        if record["type"] == "restarted"
        for name in record["adopted"]
    ]


def orphans(
    orders: Sequence[dict[str, Any]], lives: Sequence[Life], adopted: Sequence[tuple[int, str]] = ()
) -> list[str]:
    """Orders that were at the exchange for longer than the countdown after their life.

    That is the one that placed them, or the last that adopted them.
    """
    since_ns = {order["externalId"]: order["createdTime"] * NS_PER_MS for order in orders}
    for at_ns, name in adopted:
        since_ns[name] = max(at_ns, since_ns.get(name, at_ns))
    left = []
    for order in orders:
        known_ns = since_ns[order["externalId"]]
        owner = max((life for life in lives if life.began_ns <= known_ns), key=lambda life: life.began_ns)
        latest_ns = owner.ended_ns + (COUNTDOWN_S + _UNDER_WAY_S) * NS_PER_S
        if order["status"] in _OPEN or order["updatedTime"] * NS_PER_MS > latest_ns:
            left.append(order["externalId"])
    return left


class Lives:
    """Starts one process of the bot after the other, on one journal."""

    def __init__(self, url: str, folder: Path) -> None:
        self._clock = SystemClock()
        self._folder = folder
        self._journal = folder / "journal"
        settings = {**_SETTINGS, "emulator_url": url, "journal_dir": self._journal}
        options = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
        self._command = [sys.executable, "-m", "market_maker", "run", "--json", *options]
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
        self.all: list[Life] = []

    def cut_short(self, plan: Plan) -> Life:
        """Start one, and kill it as planned."""
        began_ns, process = self._start()
        # A life may also end before it is killed: refused, or stopped in order.
        if plan.from_session:
            self._wait_for_session(process)
        _wait(process, plan.after_s)
        if plan.stop_s is not None:
            process.send_signal(signal.SIGTERM)
            _wait(process, plan.stop_s)
        process.send_signal(signal.SIGKILL)
        return self._ended(began_ns, process)

    def _wait_for_session(self, process: "subprocess.Popen[str]") -> None:
        """Wait until it says that it quotes; orders of the life before may rest from its start on."""
        deadline_ns = self._clock.now_ns() + _PATIENCE_S * NS_PER_S
        while process.poll() is None and self._clock.now_ns() < deadline_ns:
            _wait(process, _LOOK_S)
            try:
                if read_status(self._journal).pid == process.pid:
                    return
            except StatusError:
                continue

    def stop_in_order(self, seconds: float) -> Life:
        """Start one that quotes for a little and then stops by itself."""
        began_ns, process = self._start("--seconds", str(seconds))
        return self._ended(began_ns, process)

    def _start(self, *words: str) -> tuple[int, "subprocess.Popen[str]"]:
        began_ns = self._clock.now_ns()
        process = subprocess.Popen(
            [*self._command, *words],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return began_ns, process

    def _ended(self, began_ns: int, process: "subprocess.Popen[str]") -> Life:
        out, errors = process.communicate(timeout=_PATIENCE_S)
        summary = json.loads(out) if process.returncode >= 0 and out.startswith("{") else {}
        life = Life(began_ns, self._clock.now_ns(), process.returncode, summary, errors)
        self.all.append(life)
        return life


def _wait(process: "subprocess.Popen[str]", seconds: float) -> None:
    """Let it run for so long, or to its end."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(
    rounds: int = 100, seed: int = 1, folder: Path | None = None, last_s: float = _LAST_LIFE_S
) -> dict[str, Any]:
    """Kill as often, hold our journals against the emulator's books; the last life quotes for `last_s`."""
    # A life that had to compile would be killed amid that, whatever the instant.
    compile_kernels()
    with tempfile.TemporaryDirectory() as temporary, localcontext() as context:
        context.prec = _EXACT_DIGITS
        return _played(draw_plans(rounds, seed), seed, folder or Path(temporary), last_s)


def _played(plans: Sequence[Plan], seed: int, folder: Path, last_s: float) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"--scenario={SCENARIO}", f"--seed={seed}", f"--deposit={DEPOSIT}"]
    options += [f"--funding-every={FUNDING_EVERY_S}", *(f"--market={market}" for market in MARKETS)]
    with emulator_process(options) as emulator:
        exchange = Exchange(url := emulator.wait_for_url())
        lives = Lives(url, folder)
        for number, plan in enumerate(plans, start=1):
            life = lives.cut_short(plan)
            lived_s = (life.ended_ns - life.began_ns) / NS_PER_S
            _tell(f"round {number} of {len(plans)}: lived {lived_s:.1f} s, exit {life.code}")
            # Nothing runs meanwhile: only the exchange can end what is left.
            threading.Event().wait(plan.alone_s)
        last = lives.stop_in_order(last_s)
        valued, still_open = exchange.valued(), exchange.orders_open()
        theirs, orders = exchange.books(), exchange.orders()
        emulator.end()
    ours, adopted = journal_books(folder / "journal"), adoptions(folder / "journal")
    left = orphans(orders, lives.all, adopted)
    return {
        "benchmark": "kill_rounds",
        "python": platform.python_version(),
        "markets": list(MARKETS),
        "scenario": SCENARIO,
        "seed": seed,
        **_played_figures(plans, lives.all, theirs, orders),
        "orders_adopted": len({name for _, name in adopted}),
        **_verdict(ours, theirs, valued, Ending(last, still_open, left)),
    }


def _played_figures(
    plans: Sequence[Plan], lives: Sequence[Life], theirs: Books, orders: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    placed = [order["createdTime"] * NS_PER_MS for order in orders]
    quoting = [life for life in lives[:-1] if any(life.began_ns <= at <= life.ended_ns for at in placed)]
    return {
        "rounds": len(plans),
        "rounds_that_quoted": len(quoting),
        "rounds_killed_while_stopping": sum(plan.stop_s is not None for plan in plans),
        "rounds_left_alone": sum(plan.alone_s > 0 for plan in plans),
        # By themselves: refused at the start, or through with their stop before the kill came.
        "rounds_that_ended_otherwise": dict(
            Counter(f"exit {life.code}: {life.errors[-200:]}" for life in lives[:-1] if life.code >= 0)
        ),
        "orders": len(orders),
        "fills": len(theirs.fills),
        "funding_payments": len(theirs.funding),
    }


@dataclass(frozen=True)
class Ending:
    """The last life, how many orders are open after it, and which ones outlived the countdown."""

    last: Life
    still_open: int
    orphans: list[str]


def _verdict(
    ours: Books, theirs: Books, valued: tuple[Decimal, dict[str, Decimal]], ending: Ending
) -> dict[str, Any]:
    """What is not as it must be; money as text, exact."""
    equity, marks = valued
    our_equity = ours.equity(marks)
    found = differences(ours, theirs)
    account = ending.last.summary.get("account", {})
    met = {
        "last_life_ended_well": ending.last.code == 0 and account.get("equal") is True,
        "nothing_open": ending.still_open == 0 and not ending.orphans,
        "every_fill_once": not any(ids for name, ids in found.items() if name.startswith("fills")),
        "every_payment_once": not any(ids for name, ids in found.items() if name.startswith("funding")),
        "equity_equal": our_equity == equity and ours.positions() == theirs.positions(),
    }
    return {
        "orphans": ending.orphans,
        "differences": found,
        "equity": {
            "ours": None if our_equity is None else f"{our_equity:f}",
            "exchange": f"{equity:f}",
            "last_life": account,
        },
        "positions": {"ours": _texts(ours), "exchange": _texts(theirs)},
        "last_life_errors": ending.last.errors[-2000:],
        "met": met,
    }


def _texts(books: Books) -> dict[str, str]:
    return {market: f"{size:f}" for market, size in books.positions().items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill the bot again and again, and check what that did.")
    parser.add_argument("--rounds", type=int, default=100, help="how often the bot is killed")
    parser.add_argument("--seed", type=int, default=1, help="seed of the kills and of the market")
    parser.add_argument("--keep", type=Path, help="folder to keep the journals in")
    given = parser.parse_args()
    result = main(given.rounds, given.seed, given.keep)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    sys.exit(not all(result["met"].values()))
