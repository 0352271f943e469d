"""What a session does by itself when the exchange fails: pull, probe, and quote again within seconds."""

from collections import Counter
from itertools import pairwise

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.domain import NS_PER_S, Reason
from market_maker.emulator.rules import Mode
from market_maker.gateway import CredentialsRefused, OrderRefused, OutcomeUnknown, RateLimited
from market_maker.instrument import MarketStatus

OTHER = "ETH-USD"
QUOTING_AGAIN_S = 10.0

pytestmark = pytest.mark.slow


def play_beside(seconds, during, *settings, scenario="calm", markets=(BTC,)):
    """A session, and what `during(inside, strategy)` does beside it."""

    async def main():
        inside = Inside(scenario, markets)

        async def beside(strategy):
            await during(inside, strategy)

        return inside, await inside.session(seconds, *settings, during=beside)

    return in_virtual_time(main)


def reasons(strategy) -> set[Reason]:
    return set(strategy.session.desks[BTC].reasons.values())


def fed(run) -> list[float]:
    """When the switch was fed."""
    return [call.at_s for call in run.gateway.made("arm_dead_mans_switch") if call.what]


async def until_quoting(inside, strategy, deadline_s=30.0) -> float:
    """Wait until every level rests again; how long that took."""
    begun_s = inside.now_s
    while len(inside.account.open) < len(strategy.session.desks[BTC].slots):
        assert inside.now_s - begun_s < deadline_s, reasons(strategy)
        await inside.until(inside.now_s + 0.05)
    return inside.now_s - begun_s


# Lesson 5: a halt cancels first, and there is no heartbeat without health.


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("500: internal"), OrderRefused("1140: too poor", 1140), RateLimited("429")]
)
def test_lesson_5_no_heartbeat_while_orders_fail(error):
    """Unknown outcomes, refusals, 429: whatever halts it, nothing rests and nothing feeds the switch."""

    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(5.0)
        # So that there is something to be sent all the time.
        await gateway.mass_cancel((BTC,))
        gateway.refuse["place"] = error
        await inside.until(12.0)
        strategy.seen = reasons(strategy)
        await inside.until(60.0)
        assert inside.open_ids() == []

    settings = ("dead_man_interval_s=2", "dead_man_countdown_s=10", "breaker_max_failures=3")
    inside, run = play_beside(61.0, during, *settings)
    assert run.error is None
    assert inside.open_ids() == []
    assert run.strategy.seen <= {
        Reason.CIRCUIT_BREAKER,
        Reason.RATE_LIMITED,
        Reason.REQUEST_PENDING,
        Reason.NEW_QUOTE,
    }
    late = [at_s for at_s in fed(run) if 8.0 < at_s < 60.0]
    assert len(late) <= 12


def test_lesson_5_no_heartbeat_while_the_account_stream_is_lost():
    async def during(inside, strategy):
        await inside.until(6.0)
        inside.driver.break_account(inside.account_id)
        inside.driver.losing = {"ORDER", "TRADE", "BALANCE", "POSITION"}
        await inside.until(30.0)
        assert inside.open_ids() == []
        assert Reason.STREAM_LOST in {desk.halts.gravest for desk in strategy.session.desks.values()}
        inside.driver.losing = set()
        inside.driver.break_account(inside.account_id)
        strategy.took_s = await until_quoting(inside, strategy)

    inside, run = play_beside(50.0, during, "dead_man_interval_s=2", "dead_man_countdown_s=10")
    assert_sound(inside, run)
    assert [at_s for at_s in fed(run) if 8.0 < at_s < 30.0] == []
    assert run.strategy.took_s < QUOTING_AGAIN_S


# Recovery by probing (lesson 16), and soon.


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("place", OutcomeUnknown("500: internal")),
        ("place", OrderRefused("1010: maintenance", 1010)),
        ("place", RateLimited("429")),
        ("cancel", OutcomeUnknown("500: internal")),
        ("cancel", RateLimited("429")),
        ("positions", OutcomeUnknown("500: internal")),
        ("open_orders", RateLimited("429")),
    ],
)
@pytest.mark.parametrize("lasting_s", [13.0, 35.0])
def test_lesson_16_quoting_is_back_within_ten_seconds_of_the_end_of_failures(name, error, lasting_s):
    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(5.0)
        gateway.refuse[name] = error
        await inside.until(5.0 + lasting_s)
        del gateway.refuse[name]
        strategy.took_s = await until_quoting(inside, strategy)

    _, run = play_beside(30.0 + lasting_s, during, "position_refresh_s=3", scenario="mixed")
    assert run.error is None
    assert run.strategy.took_s < QUOTING_AGAIN_S


def test_an_outage_of_everything_ends_within_ten_seconds_and_makes_no_storm():
    names = ("place", "cancel", "mass_cancel", "open_orders", "order", "fills", "positions", "balance")
    outage_s = 120.0

    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(5.0)
        for name in names:
            gateway.refuse[name] = OutcomeUnknown("502: bad gateway", 502)
        await inside.until(5.0 + outage_s)
        for name in names:
            del gateway.refuse[name]
        strategy.took_s = await until_quoting(inside, strategy)

    inside, run = play_beside(160.0, during, scenario="mixed")
    assert_sound(inside, run)
    assert run.strategy.took_s < QUOTING_AGAIN_S
    amid = [call for call in run.gateway.calls if 10.0 < call.at_s < 5.0 + outage_s]
    by_ten_s = Counter(int(call.at_s // 10) for call in amid)
    # A thousand a minute is the limit.
    assert max(by_ten_s.values()) < 100
    assert len([call for call in amid if call.name == "place"]) < 60


def test_maintenance_and_then_post_only_mode_is_no_trap():
    """1010 stops the quotes by itself; post-only mode takes them again, for they are nothing else."""
    seen = {}

    async def during(inside, strategy):
        await inside.until(5.0)
        inside.exchange.set_mode(Mode.MAINTENANCE)
        await inside.until(8.0)
        # What rested may have gone, or not: the exchange does as it likes with cancels in maintenance.
        seen["placed"] = len(strategy.session.gateway.made("place"))
        await inside.until(65.0)
        seen["placed_amid"] = len(strategy.session.gateway.made("place")) - seen["placed"]
        inside.exchange.set_mode(Mode.POST_ONLY)
        seen["took_s"] = await until_quoting(inside, strategy)
        await inside.until(85.0)
        inside.exchange.set_mode(Mode.OPEN)
        await inside.until(88.0)
        assert len(inside.account.open) == len(strategy.session.desks[BTC].slots)

    inside, run = play_beside(90.0, during, "max_order_age_s=5", scenario="mixed")
    assert_sound(inside, run)
    assert seen["took_s"] < QUOTING_AGAIN_S
    # Probes, and no storm.
    assert seen["placed_amid"] < 60


def test_a_breaker_waits_for_an_answer_before_it_sends_orders_again():
    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(5.0)
        gateway.refuse["place"] = OutcomeUnknown("502")
        gateway.refuse["balance"] = OutcomeUnknown("502")
        await inside.until(20.0)
        strategy.placed = len(gateway.made("place"))
        await inside.until(50.0)
        assert len(gateway.made("place")) == strategy.placed
        gateway.refuse.clear()
        strategy.took_s = await until_quoting(inside, strategy)

    settings = ("breaker_max_failures=3", "max_order_age_s=5")
    inside, run = play_beside(70.0, during, *settings, scenario="mixed")
    assert_sound(inside, run)
    assert run.strategy.took_s < QUOTING_AGAIN_S


# Markets.


@pytest.mark.parametrize("status", [MarketStatus.REDUCE_ONLY, MarketStatus.DISABLED, MarketStatus.DELISTED])
def test_a_market_that_closes_is_halted_alone_and_quoted_again_once_it_opens(status):
    seen = {}

    async def during(inside, strategy):
        await inside.until(6.0)
        inside.exchange.set_market_status(BTC, status)
        await inside.until(26.0)
        desks = strategy.session.desks
        seen["gravest"] = desks[BTC].halts.gravest
        resting = {order.request.market for order in inside.account.open.values()}
        seen["resting"] = resting
        placed = [call for call in strategy.session.gateway.made("place") if call.at_s > 20.0]
        seen["tried"] = [call.what.market for call in placed if call.what.market == BTC]
        seen["paused"] = desks[OTHER].halts.gravest
        inside.exchange.set_market_status(BTC, MarketStatus.ACTIVE)
        await inside.until(inside.now_s + 12.0)
        seen["reopened"] = desks[BTC].halts.gravest

    inside, run = play_beside(50.0, during, "position_refresh_s=10", markets=(BTC, OTHER))
    assert_sound(inside, run)
    assert seen["gravest"] == Reason.MARKET_CLOSED
    assert seen["resting"] == {OTHER}
    assert seen["tried"] == []
    assert seen["paused"] == Reason.NONE
    assert seen["reopened"] == Reason.NONE
    halts = [
        (halt["market"], halt["detail"]) for halt in run.records("halt") if halt["reason"] == "MARKET_CLOSED"
    ]
    assert halts == [(BTC, f"expected status ACTIVE, was {status.value}")]


# Streams.


def test_a_book_that_is_silent_while_the_market_trades_is_pulled():
    """The stream is open, other streams speak, and the book is dead."""
    seen = {}

    async def during(inside, strategy):
        await inside.until(8.0)
        inside.driver.losing = {"book", "bbo"}
        for step in range(24):
            await inside.until(8.0 + step)
            if Reason.STALE_BOOK in reasons(strategy):
                break
        seen["pulled_s"] = inside.now_s - 8.0
        await inside.until(inside.now_s + 1.0)
        seen["resting"] = inside.open_ids()
        inside.driver.losing = set()
        # A frame out of turn: the stream is subscribed to again, and begins with a snapshot.
        seen["took_s"] = await until_quoting(inside, strategy)

    inside, run = play_beside(60.0, during, "stale_after_s=1000", scenario="choppy")
    assert_sound(inside, run)
    assert seen["pulled_s"] < 20.0
    assert seen["resting"] == []
    assert seen["took_s"] < QUOTING_AGAIN_S
    assert [halt["detail"] for halt in run.records("halt") if halt["reason"] == "STALE_BOOK"]


def test_quotes_stay_away_until_the_account_stream_is_back_though_look_ups_agree():
    seen = {}

    async def during(inside, strategy):
        await inside.until(5.0)
        inside.driver.losing = {"ORDER", "TRADE", "BALANCE", "POSITION"}
        inside.driver.break_account(inside.account_id)
        for step in range(15):
            await inside.until(6.0 + step)
            assert inside.open_ids() == []
        seen["placed"] = [call for call in strategy.session.gateway.made("place") if call.at_s > 5.1]
        inside.driver.losing = set()
        inside.driver.break_account(inside.account_id)
        seen["took_s"] = await until_quoting(inside, strategy)

    inside, run = play_beside(40.0, during)
    assert_sound(inside, run)
    assert seen["placed"] == []
    assert seen["took_s"] < QUOTING_AGAIN_S


@pytest.mark.parametrize("which", ["market", "account"])
def test_a_flapping_stream_is_no_storm_of_cancels(which):
    flaps = 100

    async def during(inside, strategy):
        await inside.until(5.0)
        for _ in range(flaps):
            if which == "market":
                inside.driver.break_market(BTC)
            else:
                inside.driver.break_account(inside.account_id)
            await inside.until(inside.now_s + 0.2)
        strategy.took_s = await until_quoting(inside, strategy)

    inside, run = play_beside(45.0, during)
    assert_sound(inside, run)
    amid = [call for call in run.gateway.calls if 5.0 < call.at_s < 5.0 + 0.2 * flaps]
    names = Counter(call.name for call in amid)
    assert names["mass_cancel"] == 0
    assert names["cancel"] <= 3 * flaps
    assert len(amid) < 1000 / 3
    assert run.strategy.took_s < QUOTING_AGAIN_S


# Lesson 18: what is fatal, and what is not.


@pytest.mark.parametrize(
    "name", ["place", "positions", "open_orders", "arm_dead_mans_switch", "funding_payments"]
)
def test_lesson_18_refused_credentials_end_the_session_wherever_they_are_refused(name):
    error = CredentialsRefused("401: Unauthorized", 401)

    async def during(inside, strategy):
        await inside.until(5.0)
        strategy.session.gateway.fail[name].append(error)
        strategy.session.funding.expect()

    settings = (
        "position_refresh_s=3",
        "order_snapshot_interval_s=2",
        "dead_man_interval_s=2",
        "max_order_age_s=4",
    )
    inside, run = play_beside(60.0, during, *settings, scenario="mixed")
    assert run.error is error
    assert run.strategy.stop.why == "401: Unauthorized"
    assert inside.now_s < 20.0
    assert inside.open_ids() == []
    assert run.tasks_left == 0


def test_lesson_18_a_text_with_503_in_it_is_no_maintenance_and_ends_nothing():
    async def during(inside, strategy):
        await inside.until(5.0)
        strategy.session.gateway.fail["place"].append(OrderRefused("1121: qty 503 is off the grid", 1121))
        await inside.until(9.0)
        assert strategy.session.desks[BTC].halts.gravest is Reason.NONE
        assert len(inside.account.open) == len(strategy.session.desks[BTC].slots)

    inside, run = play_beside(12.0, during, "max_order_age_s=3")
    assert_sound(inside, run)


# Lost replies.


def test_a_lost_reply_is_unknown_and_looked_up_and_the_order_is_ours():
    seen = {}

    async def during(inside, strategy):
        await inside.until(3.0)
        gateway = strategy.session.gateway
        place = gateway.place

        async def deaf(order):
            await place(order)
            raise OutcomeUnknown("no answer")

        gateway.place = deaf
        await gateway.mass_cancel((BTC,))
        await inside.until(4.5)
        gateway.place = place
        await inside.until(12.0)
        seen["unknown"] = strategy.orders.counters.unknown
        seen["known"] = {order.external_id for order in strategy.orders.working()}
        seen["open"] = set(inside.open_ids())

    inside, run = play_beside(14.0, during, "breaker_max_failures=100")
    assert_sound(inside, run)
    assert seen["unknown"] > 0
    assert seen["known"] == seen["open"]
    assert seen["open"]


# What nobody documented.


def test_words_that_nobody_knows_are_journalled_once_and_counted():
    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(3.0)
        gateway.unknown["order status TRIGGERED_TWICE"] += 1
        await inside.until(5.5)
        gateway.unknown["order status TRIGGERED_TWICE"] += 2
        gateway.unknown["frame type NEWS"] += 1
        await inside.until(8.0)

    inside, run = play_beside(9.0, during)
    assert_sound(inside, run)
    words = [record["word"] for record in run.records("unknown_word")]
    assert words == ["order status TRIGGERED_TWICE", "frame type NEWS"]
    assert "mm_unknown_words_total 4.0" in run.strategy.session.metrics.text()


def test_a_request_that_hangs_holds_up_neither_the_switch_nor_the_quotes():
    async def during(inside, strategy):
        session = strategy.session

        async def never(_since_ns):
            await inside.until(10_000.0)

        await inside.until(4.0)
        session.gateway.funding_payments = never
        for step in range(40):
            session.funding.expect()
            await inside.until(5.0 + step)

    inside, run = play_beside(46.0, during, "dead_man_interval_s=2", "dead_man_countdown_s=6")
    assert run.error is None
    assert inside.open_ids() == []
    gaps = [later - sooner for sooner, later in pairwise(fed(run))]
    assert max(gaps) < 4.0
    assert inside.account.switch_due_ns == 0
    assert len(fed(run)) * 2 * NS_PER_S > 30 * NS_PER_S
