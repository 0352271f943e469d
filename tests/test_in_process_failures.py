"""The exchange inside, or the recording that it follows, fails while a session runs on it."""

from inside import BTC, START_NS, FailingFlow, Inside, in_virtual_time

from market_maker.domain import NS_PER_S
from market_maker.emulator.scenarios import build_flows
from market_maker.recordings.events import RecordingError


def a_session_whose_flow_fails(error: Exception):
    """A minute of trading of which the market fails at 5 s; when it was over, by the exchange's time."""

    async def main():
        [flow] = build_flows("mixed", (BTC,), 1, START_NS)
        inside = Inside(flows=[FailingFlow(flow, START_NS + 5 * NS_PER_S, error)])
        run = await inside.session(60.0)
        return inside, run, inside.now_s

    return in_virtual_time(main)


def test_a_recording_that_can_not_be_read_on_ends_the_session_with_nothing_open():
    error = RecordingError("line 7: expected a frame, was none")
    inside, run, ended_s = a_session_whose_flow_fails(error)
    assert run.error is error
    assert ended_s < 10.0
    assert len(inside.account.trades) == len(run.records("fill"))
    assert run.strategy.books_agree
    assert run.strategy.stop.why == str(error)
    assert inside.open_ids() == []
    assert inside.account.switch_due_ns == 0
    assert run.tasks_left == 0


def test_lesson_21_an_error_of_the_exchange_inside_ends_the_session_and_is_not_hidden():
    error = NameError("name 'qty' is not defined")
    inside, run, ended_s = a_session_whose_flow_fails(error)
    assert run.error is error
    assert ended_s < 60.0
    assert run.tasks_left == 0
    # Such an exchange answers no more: what may be open is still known.
    assert sorted(order.external_id for order in run.strategy.orders.working()) == sorted(inside.open_ids())
