"""Bots in one account: who runs, who died, and who may take the dead man's switch away."""

import asyncio

import pytest
from inside import Inside, assert_sound, in_virtual_time

from market_maker.account_share import Alone, LockedFiles, Siblings
from market_maker.domain import Side
from market_maker.past import Whose
from market_maker.start_refusals import AnotherBotQuotes

ONE, TWO = Whose("testnet", "7", "one"), Whose("testnet", "7", "two")


def together(program):
    return in_virtual_time(program)


def test_bots_in_an_account_see_each_other_until_they_leave(tmp_path):
    async def main():
        one, two = LockedFiles(tmp_path / "new", ONE), LockedFiles(tmp_path / "new", TWO)
        elsewhere = LockedFiles(tmp_path / "new", ONE._replace(account="8"))
        seen = [one.siblings()]
        await one.join()
        await two.join()
        await elsewhere.join()
        seen += [one.siblings(), two.siblings(), elsewhere.siblings()]
        two.leave(nothing_open=True)
        seen.append(one.siblings())
        one.leave(nothing_open=True)
        one.leave(nothing_open=True)
        elsewhere.leave(nothing_open=True)
        return seen

    nobody = Siblings()
    assert together(main) == [nobody, Siblings(("two",)), Siblings(("one",)), nobody, nobody]
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".guard"] * 2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {0o600}


def test_one_that_died_or_left_orders_is_known_until_it_is_forgotten_or_comes_back(tmp_path):
    async def main():
        one, two = LockedFiles(tmp_path, ONE), LockedFiles(tmp_path, TWO)
        await one.join()
        await two.join()
        two.leave(nothing_open=False)
        seen = [one.siblings()]
        await two.join()
        seen.append(one.siblings())
        # It runs again: not to be forgotten.
        one.forget(("two",))
        seen.append(one.siblings())
        two.leave(nothing_open=False)
        one.forget(("two",))
        seen.append(one.siblings())
        return seen

    died, runs = Siblings((), ("two",)), Siblings(("two",))
    assert together(main) == [died, runs, runs, Siblings()]


def test_two_with_one_prefix_are_refused(tmp_path):
    async def twice():
        first = LockedFiles(tmp_path, ONE)
        await first.join()
        with pytest.raises(AnotherBotQuotes, match="expected no other bot with the prefix one"):
            await LockedFiles(tmp_path, ONE).join()
        first.leave(nothing_open=True)

    together(twice)


def test_nobody_joins_while_one_is_on_its_own(tmp_path):
    async def main():
        one, two, order = LockedFiles(tmp_path, ONE), LockedFiles(tmp_path, TWO), []

        async def joins():
            await two.join()
            order.append("joined")

        async with one.exclusive():
            task = asyncio.ensure_future(joins())
            await asyncio.sleep(1.0)
            order.append("done")
        await task
        two.leave(nothing_open=True)
        return order

    assert together(main) == ["done", "joined"]


def test_an_account_that_nobody_shares():
    async def main():
        alone = Alone()
        await alone.join()
        async with alone.exclusive():
            alone.forget(())
        alone.leave(nothing_open=False)
        return alone.siblings()

    assert together(main) == Siblings()


# Sessions


BESIDE = ("foreign_orders=leave", "dead_man_interval_s=2", "dead_man_countdown_s=10")


@pytest.mark.slow
def test_the_first_to_end_leaves_the_switch_to_its_sibling_and_the_last_one_disarms(tmp_path):
    async def main():
        inside, armed = Inside("calm"), []

        async def one():
            settings = (*BESIDE, "order_id_prefix=one")
            return await inside.session(8.0, *settings, share=LockedFiles(tmp_path, ONE))

        async def two():
            await inside.until(2.0)
            settings = (*BESIDE, "order_id_prefix=two")
            return await inside.session(16.0, *settings, share=LockedFiles(tmp_path, TWO), seed=2)

        first, second = asyncio.ensure_future(one()), asyncio.ensure_future(two())
        await first
        armed.append(inside.account.switch_due_ns > 0)
        await second
        armed.append(inside.account.switch_due_ns > 0)
        return inside, armed, first.result(), second.result()

    inside, armed, first, second = in_virtual_time(main)
    assert first.error is None
    assert second.error is None
    assert armed == [True, False]
    assert inside.open_ids() == []
    assert [note["left_armed"] for note in first.records("dead_mans_switch")] == [
        "other bots rely on it: two"
    ]
    assert second.records("dead_mans_switch") == []


@pytest.mark.slow
def test_the_switch_is_not_fed_where_a_sibling_died_until_its_orders_are_gone(tmp_path):
    async def main():
        inside = Inside("flat")
        died = LockedFiles(tmp_path, TWO)

        async def during(_strategy):
            await inside.until(5.0)
            await died.join()
            await inside.until(6.0)
            below = inside.best(Side.BUY) - 900
            orphan = await inside.order(Side.BUY, below, 1_000, external_id="two-0-orphan")
            died.leave(nothing_open=False)
            await inside.until(20.0)
            assert orphan not in inside.open_ids()
            await inside.until(29.0)
            assert len(inside.open_ids()) == 4

        settings = (*BESIDE, "order_id_prefix=one")
        return inside, await inside.session(30.0, *settings, share=LockedFiles(tmp_path, ONE), during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    fed = [call.at_s for call in run.gateway.made("arm_dead_mans_switch") if call.what]
    assert not [at_s for at_s in fed if 8.5 < at_s < 16.0]
    assert [at_s for at_s in fed if at_s > 19.0]
