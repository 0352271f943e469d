"""Streams that come back: how often they are tried, when no more, and that nothing is left of them."""

import asyncio
import itertools
import zlib
from collections import Counter
from dataclasses import replace

import pytest
from aiohttp import web
from inside import in_virtual_time
from stream_server import SETTINGS, Peer, serving, stay

from market_maker.exchanges.link import Backoff, Link, hear_all
from market_maker.exchanges.outbox import Outbox
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import CredentialsRefused, MarketNotFound

PATH = "/publicTrades/BTC-USD"


class Hearer:
    """Notes what it hears; frames that say so are corrupt."""

    def __init__(self):
        self.opened = 0
        self.frames = []
        self.losses = []
        self.lost_s = []

    def on_open(self):
        self.opened += 1

    def on_frame(self, frame):
        if frame == b"corrupt":
            raise CorruptFrame("expected sense, was none")
        self.frames.append(frame)

    def on_lost(self, loss):
        self.losses.append(str(loss))
        self.lost_s.append(asyncio.get_running_loop().time())


def linked(scripts, seconds, *, path=PATH, settings=SETTINGS, **options):
    """Run a link for so long against scripts; the hearer, and when it was tried."""

    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts[path] = list(scripts)
            hearer = Hearer()
            try:
                async with asyncio.timeout(seconds):
                    await Link(connect, path, settings, **options).run(hearer)
            except TimeoutError:
                pass
            return hearer, server.tries(path)

    return in_virtual_time(program)


async def drop(peer: Peer):
    """Come up and drop at once."""
    await peer.send(b"{}")
    await peer.socket.close(code=1001)


def dropping_after(seconds):
    async def script(peer: Peer):
        hearing = asyncio.ensure_future(peer.stay())
        await asyncio.sleep(seconds)
        await peer.socket.close(code=1001)
        await hearing

    return script


def test_pauses_double_and_are_shortened_by_half_at_most():
    backoff = Backoff(0.25, 4.0, seed=7)
    pauses = [backoff.pause_s() for _ in range(8)]
    for pause, whole in zip(pauses, (0.25, 0.5, 1, 2, 4, 4, 4, 4), strict=True):
        assert whole / 2 <= pause <= whole
    assert len(set(pauses)) == 8
    backoff.reset()
    assert backoff.pause_s() <= 0.25
    assert Backoff(0.25, 4.0, seed=8).pause_s() != Backoff(0.25, 4.0, seed=7).pause_s()


def test_streams_lost_together_do_not_return_together():
    def first_pause(path):
        return linked([drop], 1, path=path)[1][1]

    assert zlib.crc32(b"/a") != zlib.crc32(b"/b")
    assert first_pause("/a") != first_pause("/b")


@pytest.mark.parametrize("script", [drop, 503, 500, 403, 404])
def test_a_flapping_link_is_no_storm(script):
    hearer, tries = linked([script], 60)
    assert 15 <= len(tries) <= 32
    assert len(hearer.losses) == len(tries)
    assert max(b - a for a, b in itertools.pairwise(tries)) <= 4.1


def test_after_a_life_of_some_length_the_first_pause_is_short_again():
    _, tries = linked([503, 503, 503, 503, 503, dropping_after(30), stay], 120)
    lived = tries[6] - tries[5]
    assert 30.1 < lived < 30.3


def test_lives_of_a_few_seconds_do_not_make_pauses_short():
    _, tries = linked([dropping_after(3)], 120)
    gaps = [b - a - 3 for a, b in itertools.pairwise(tries[5:])]
    assert min(gaps) >= 2.0


def test_too_many_requests_waits_as_long_as_it_was_told():
    _, tries = linked([web.Response(status=429, headers={"Retry-After": "20"}), 429, stay], 60)
    assert 20.0 <= tries[1] - tries[0] < 20.1
    assert 4.0 <= tries[2] - tries[1] < 4.1


def test_a_corrupt_frame_gives_the_connection_up():
    async def script(peer: Peer):
        await peer.send(b"good", b"corrupt", b"never heard")
        await peer.stay()

    hearer, tries = linked([script, stay], 10)
    assert hearer.frames == [b"good"]
    assert hearer.losses == ["expected sense, was none"]
    assert len(tries) == 2


def test_a_loss_is_told_before_a_peer_that_is_gone_is_waited_for():
    """lessons.md §2: cancel at once; the close of a dead connection takes its second."""

    async def script(peer: Peer):
        await peer.send(b"corrupt")
        await asyncio.sleep(30)

    hearer, tries = linked([script, stay], 10)
    assert hearer.lost_s[0] - tries[0] < 0.1
    assert tries[1] - tries[0] > 1.0


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_fatal(status):
    fatal = {401: CredentialsRefused, 403: CredentialsRefused}
    with pytest.raises(CredentialsRefused, match=f"HTTP {status}") as caught:
        linked([status], 60, path="/account", fatal=fatal)
    assert caught.value.code == status


def test_a_key_that_is_revoked_later_is_fatal_too():
    with pytest.raises(CredentialsRefused):
        linked([drop, 503, 401], 60, path="/account", fatal={401: CredentialsRefused})


def test_a_market_that_is_not_there_is_fatal_only_at_first():
    with pytest.raises(MarketNotFound, match="HTTP 404"):
        linked([503, 404], 60, fatal={404: MarketNotFound})
    hearer, _ = linked([drop, 404, 404, stay], 60, fatal={404: MarketNotFound})
    assert hearer.opened == 2
    assert len(hearer.losses) == 3


def test_a_server_that_restarts_is_found_again():
    async def program():
        async with serving() as (server, connect, _clock):
            hearer = Hearer()
            running = asyncio.ensure_future(Link(connect, PATH, SETTINGS).run(hearer))
            await asyncio.sleep(20)
            await server.stop()
            await asyncio.sleep(60)
            back_s = asyncio.get_running_loop().time()
            await server.start()
            await asyncio.sleep(10)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return hearer, server.tries(PATH)[-1] - back_s

    hearer, after_s = in_virtual_time(program)
    assert hearer.opened == 2
    assert 0 <= after_s <= 4.1
    assert "no connection to 127.0.0.1" in hearer.losses[1]


def test_it_ends_when_the_connector_is_closed():
    async def program():
        async with serving() as (_server, connect, _clock):
            hearer = Hearer()
            running = asyncio.ensure_future(Link(connect, PATH, SETTINGS).run(hearer))
            await asyncio.sleep(5.5)
            await connect._session.close()
            await asyncio.wait_for(running, 30)
            return hearer

    hearer = in_virtual_time(program)
    assert (hearer.opened, hearer.losses) == (1, [])


def test_a_burst_of_frames_leaves_the_others_their_turn():
    async def script(peer: Peer):
        await peer.send(*[b"{}"] * 1000)
        await peer.stay()

    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts[PATH] = [script]
            hearer = Hearer()
            running = asyncio.ensure_future(Link(connect, PATH, SETTINGS).run(hearer))
            jumps = Counter()
            before = 0
            while len(hearer.frames) < 1000:
                await asyncio.sleep(0)
                jumps[len(hearer.frames) - before] += 1
                before = len(hearer.frames)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return max(jumps)

    assert in_virtual_time(program) <= 64


@pytest.mark.parametrize(
    "steps", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40, 60, 80, 150]
)
def test_cancelled_at_any_step_nothing_is_left(steps):
    settings = replace(SETTINGS, ping_interval_s=0.5)

    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts["/flapping"] = [drop]
            server.scripts["/talking"] = [lambda peer: peer.send(*[b"{}"] * 500)]
            outbox = Outbox()
            outbox.open()
            before = asyncio.all_tasks()
            paths = ("/flapping", "/talking", "/quiet")
            feed = hear_all(outbox, [(Link(connect, path, settings), Hearer()) for path in paths])
            reading = asyncio.ensure_future(anext(feed))
            for _ in range(steps):
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.sleep(0.5)
            left = [task for task in asyncio.all_tasks() - before if "_serve" not in repr(task)]
            await asyncio.sleep(2)
            return [task for task in left if "hear" in repr(task) or "Link" in repr(task)], server.live

    assert in_virtual_time(program) == ([], 0)


def test_left_in_the_middle_every_connection_is_closed():
    async def program():
        async with serving() as (server, connect, _clock):
            outbox = Outbox()
            outbox.open()
            feed = hear_all(outbox, [(Link(connect, path, SETTINGS), Hearer()) for path in ("/a", "/b")])
            outbox.put(1)
            async for _ in feed:
                await asyncio.sleep(1)
                break
            live = server.live
            await feed.aclose()
            await asyncio.sleep(0.1)
            return live, server.live

    assert in_virtual_time(program) == (2, 0)


def test_a_fault_of_our_own_is_not_swallowed():
    class Faulty(Hearer):
        def on_frame(self, frame):
            raise ZeroDivisionError

    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts[PATH] = [drop]
            outbox = Outbox()
            outbox.open()
            async for _ in hear_all(outbox, [(Link(connect, PATH, SETTINGS), Faulty())]):
                pass

    with pytest.raises(ZeroDivisionError):
        in_virtual_time(program)
