"""A stream over a real socket, in virtual time: what it sends, what loses it, and why."""

import asyncio
import socket as sockets
import ssl
import traceback

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver
from inside import in_virtual_time
from stream_server import KEY, SETTINGS, Peer, StreamServer, book, serving

from market_maker.exchanges.socket import Connector, Stream, StreamBroken, StreamRefused

PATH = "/orderbooks/BTC-USD"


def heard(script, *, silence_s=0.0, frames=None):
    """What a stream of a script gives until it breaks: frames, the reason, and when that was."""

    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts[PATH] = [script]
            stream = await connect.open(PATH, SETTINGS, silence_s=silence_s)
            found = []
            try:
                while frames is None or len(found) < frames:
                    found.append(await stream.frame())
                why = ""
            except StreamBroken as error:
                why = str(error)
            broken_s = asyncio.get_running_loop().time()
            await stream.close()
            return found, why, broken_s

    return in_virtual_time(program)


def refused(answer, settings=SETTINGS):
    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts["/account"] = [answer]
            with pytest.raises(StreamBroken) as caught:
                await connect.open("/account", settings)
            return caught.value

    return in_virtual_time(program)


async def why_not(session: aiohttp.ClientSession, url: str) -> str:
    """Why no stream comes about."""
    with pytest.raises(StreamBroken) as caught:
        await Connector(session, url).open(PATH, SETTINGS)
    return str(caught.value)


def test_the_key_goes_with_the_account_only_and_every_stream_names_its_agent():
    async def program():
        async with serving() as (server, connect, _clock):
            for path in (PATH, f"{PATH}?depth=1", "/account"):
                await (await connect.open(path, SETTINGS)).close()
            return server.opened

    opened = in_virtual_time(program)
    assert [one.path for one in opened] == [PATH, f"{PATH}?depth=1", "/account"]
    assert [one.headers.get("X-Api-Key") for one in opened] == [None, None, KEY]
    assert all(one.headers["User-Agent"] == "extended-market-maker" for one in opened)
    assert not any("Sec-WebSocket-Extensions" in one.headers for one in opened)


def test_without_a_key_none_is_sent():
    async def program():
        async with serving(key="") as (server, connect, _clock):
            await (await connect.open("/account", SETTINGS)).close()
            return server.opened[0].headers

    assert "X-Api-Key" not in in_virtual_time(program)


def test_frames_are_bytes_in_their_order_whatever_their_kind():
    async def script(peer: Peer):
        await peer.send(b'{"a":1}')
        await peer.socket.send_bytes(b'{"b":2}')
        await peer.send('{"µ":3}'.encode())
        await peer.stay()

    assert heard(script, frames=3)[0] == [b'{"a":1}', b'{"b":2}', '{"µ":3}'.encode()]


def test_a_snapshot_of_more_than_a_mebibyte_comes_through():
    snapshot = book(1, [(price, "1.00000") for price in range(1, 40_000)])
    assert len(snapshot) > 2**20

    async def script(peer: Peer):
        await peer.send(snapshot)
        await peer.stay()

    assert heard(script, frames=1)[0] == [snapshot]


def test_a_quiet_stream_lives_as_long_as_pings_are_answered():
    pings = []

    async def script(peer: Peer):
        hearing = asyncio.ensure_future(peer.stay())
        await asyncio.sleep(3600)
        pings.append(peer.pings)
        await peer.send(b"{}")
        await hearing

    found, why, _ = heard(script, frames=1)
    assert (found, why) == ([b"{}"], "")
    assert 715 < pings[0] <= 721


def test_open_but_dead_is_known_by_the_second_ping():
    async def script(peer: Peer):
        await peer.stay(pong=False)

    found, why, broken_s = heard(script)
    assert (found, why) == ([], "a ping was not answered within 5 s")
    assert 5.0 <= broken_s < 5.1


def test_a_peer_that_sends_and_never_answers_is_dead_too():
    async def script(peer: Peer):
        hearing = asyncio.ensure_future(peer.stay(pong=False))
        while not hearing.done():
            await peer.send(b"{}")
            await asyncio.sleep(0.01)

    found, why, broken_s = heard(script)
    assert len(found) > 500
    assert why == "a ping was not answered within 5 s"
    assert broken_s < 10.1


def test_answers_that_come_late_but_in_time_keep_it():
    async def script(peer: Peer):
        for _ in range(3):
            message = await peer.socket.receive()
            await asyncio.sleep(4.9)
            await peer.socket.pong(message.data)
        await peer.send(b"{}")
        await peer.stay()

    assert heard(script, frames=1)[0] == [b"{}"]


def test_after_a_stall_of_our_own_the_answer_that_waits_is_read_first():
    async def script(peer: Peer):
        message = await peer.socket.receive()
        await asyncio.sleep(2)
        await peer.socket.pong(message.data)
        await peer.stay()

    async def program():
        async with serving() as (server, connect, _clock):
            server.scripts[PATH] = [script]
            stream = await connect.open(PATH, SETTINGS)
            hearing = asyncio.ensure_future(stream.frame())
            await asyncio.sleep(1)
            # As if this process had not run for a minute: the answer is there, and so is its deadline.
            asyncio.get_running_loop()._paced.virtual_s += 60
            await asyncio.sleep(30)
            alive = not hearing.done()
            hearing.cancel()
            await stream.close()
            return alive

    assert in_virtual_time(program)


def test_silence_is_a_loss_where_it_was_named_though_pings_are_answered():
    async def script(peer: Peer):
        await peer.send(b"{}")
        await asyncio.sleep(0)
        await peer.stay()

    found, why, broken_s = heard(script, silence_s=90.0)
    assert (found, why) == ([b"{}"], "no frame for 90 s")
    assert 90.0 <= broken_s < 90.1


def test_the_peers_pings_are_answered():
    answers = []

    async def script(peer: Peer):
        await peer.socket.ping(b"are you there")
        while (message := await peer.socket.receive()).type is not aiohttp.WSMsgType.PONG:
            pass
        answers.append(message.data)
        await peer.send(b"{}")
        await peer.stay()

    assert heard(script, frames=1)[0] == [b"{}"]
    assert answers == [b"are you there"]


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (1001, b"", "closed by the exchange: 1001 GOING_AWAY"),
        (1012, b"be right back", "closed by the exchange: 1012 SERVICE_RESTART be right back"),
        (4321, b"odd", "closed by the exchange: 4321 odd"),
    ],
)
def test_a_close_is_told_with_its_code(code, said, expected):
    async def script(peer: Peer):
        await peer.send(b"{}")
        await peer.socket.close(code=code, message=said)

    found, why, _ = heard(script)
    assert found == [b"{}"]
    assert why.strip() == expected


def test_a_connection_cut_without_a_word():
    async def script(peer: Peer):
        await peer.send(b"{}")
        await asyncio.sleep(0.1)
        peer.cut()
        await peer.stay()

    found, why, broken_s = heard(script)
    assert found == [b"{}"]
    assert "connection lost" in why
    assert broken_s < 1


def test_half_a_frame_is_no_frame():
    async def script(peer: Peer):
        # A text frame of 100 bytes, of which 20 come.
        peer.request.transport.write(b"\x81\x64" + b"x" * 20)
        await asyncio.sleep(0.1)
        peer.request.transport.close()

    found, why, _ = heard(script)
    assert found == []
    assert "connection lost" in why


@pytest.mark.parametrize("raw", [b"\x83\x00", b"\x81\x7f" + (2**40).to_bytes(8, "big")])
def test_bytes_that_are_no_websocket_frames(raw):
    async def script(peer: Peer):
        peer.request.transport.write(raw)
        await peer.stay()

    found, why, broken_s = heard(script)
    assert found == []
    assert why.startswith(("connection failed", "connection lost"))
    assert broken_s < 2


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_refused_handshake_names_its_status(status):
    error = refused(status)
    assert isinstance(error, StreamRefused)
    assert error.status == status
    assert str(error).endswith(f"refused the stream /account: HTTP {status}")


@pytest.mark.parametrize(
    ("named", "expected"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("9999", 60.0)]
)
def test_a_refusal_may_name_a_pause(named, expected):
    assert refused(web.Response(status=429, headers={"Retry-After": named})).retry_after_s == expected


def test_a_refusal_shows_no_key():
    error = refused(401)
    shown = (
        "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__ and error.__cause__)
    )
    assert KEY not in shown
    assert error.__context__ is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_handshake_that_is_sent_elsewhere_takes_no_key_there(status):
    async def program():
        async with serving() as (other, _, _clock), serving() as (server, connect, _clock):
            moved = {"Location": f"http://127.0.0.1:{other.port}/v1/account"}
            server.scripts["/account"] = [web.Response(status=status, headers=moved)]
            with pytest.raises(StreamRefused, match=f"sent us elsewhere: HTTP {status}") as caught:
                await connect.open("/account", SETTINGS)
            assert caught.value.status == status
            assert KEY not in "".join(traceback.format_exception(caught.value))
            assert len(server.opened) == 1
            assert not other.opened

    in_virtual_time(program)


def test_a_host_that_refuses():
    async def program():
        with sockets.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        async with aiohttp.ClientSession() as session:
            return await why_not(session, f"ws://127.0.0.1:{port}/v1")

    assert in_virtual_time(program).startswith("no connection to 127.0.0.1:")


def test_a_name_that_nobody_knows():
    class Nobody(AbstractResolver):
        async def resolve(self, host, port=0, family=sockets.AF_INET):
            raise OSError(f"{host}: unknown name")

        async def close(self):
            pass

    async def program():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Nobody())) as session:
            return await why_not(session, "wss://no-such-host.invalid/v1")

    assert in_virtual_time(program).startswith("no connection to no-such-host.invalid: ")


def test_a_certificate_that_is_not_trusted():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)

    async def program():
        server = StreamServer()
        await server.start(tls)
        async with aiohttp.ClientSession() as session:
            why = await why_not(session, server.url.replace("ws:", "wss:"))
        await server.stop()
        return why

    assert "CERTIFICATE_VERIFY_FAILED" in in_virtual_time(program)


def test_a_peer_that_takes_the_connection_and_says_nothing():
    async def program():
        held = []
        server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession() as session:
            why = await why_not(session, f"ws://127.0.0.1:{port}/v1")
        for writer in held:
            writer.close()
        server.close()
        return why

    assert in_virtual_time(program).endswith("within 5 s")


def test_closing_does_not_wait_for_a_peer_that_is_gone():
    async def program():
        async with serving() as (server, connect, _clock):
            never = asyncio.Event()

            async def deaf(_peer: Peer):
                await never.wait()

            server.scripts[PATH] = [deaf]
            stream: Stream = await connect.open(PATH, SETTINGS)
            began_s = asyncio.get_running_loop().time()
            await stream.close()
            took_s = asyncio.get_running_loop().time() - began_s
            never.set()
            return took_s

    assert in_virtual_time(program) <= 1.0


def test_the_time_out_of_the_sessions_requests_does_not_end_a_stream():
    async def program():
        server = StreamServer()
        await server.start()
        timeout = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0, sock_read=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            stream = await Connector(session, server.url).open(PATH, SETTINGS)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(600):
                    await stream.frame()
            await stream.close()
        await server.stop()

    in_virtual_time(program)
