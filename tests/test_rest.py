"""Requests against real servers on this machine: what each failure says of the request."""

import asyncio
import json
import ssl
import traceback
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
from aiohttp import web

from market_maker.clock import LoopClock, SystemClock
from market_maker.config_sections import ConnectionSettings, Network, Secret
from market_maker.domain import NS_PER_S
from market_maker.exchanges.endpoints import endpoint_of
from market_maker.exchanges.order_line import OrderLines
from market_maker.exchanges.rest import RestClient
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.gateway import (
    CredentialsRefused,
    MarketNotFound,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    Unreachable,
    VenueError,
)

CANARY = "canary-3f9ac71e"
PAGE = b"<html><body>502 Bad Gateway</body></html>"


def in_virtual_time(program):
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(program())


def envelope(code, message="no"):
    return json.dumps({"status": "ERROR", "error": {"code": code, "message": message}}).encode()


@asynccontextmanager
async def serving(handler, tls=None):
    """An HTTP server whose answers `handler` gives; its address."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening(serve):
    """A server of raw bytes; `serve` is given what it reads and writes with."""
    writers = []

    async def keep(reader, writer):
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError):
            await serve(reader, writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@asynccontextmanager
async def client_of(url, *, key=CANARY, **settings):
    clock = LoopClock(asyncio.get_running_loop(), 1_700_000_000 * NS_PER_S)
    endpoint = endpoint_of(Network.EMULATOR, url)
    client = RestClient(endpoint, Secret(key) if key else None, ConnectionSettings(**settings), clock)
    try:
        yield client
    finally:
        await client.close()


def answers(status, body=b"", headers=None):
    """A handler that always answers so."""

    async def handle(_request):
        return web.Response(status=status, body=body, headers=headers)

    return handle


async def send(client):
    return await client.send("POST", "/user/order", body=b"{}")


async def look_up(client):
    return await client.get("/user/balance")


both_ways = pytest.mark.parametrize("way", [send, look_up])


def outcome(handler, *, method="POST", path="/user/order", tls=None, **settings):
    """What a request to a server with that handler ends in: the body, or the error."""

    async def program():
        async with serving(handler, tls) as url, client_of(url, **settings) as client:
            try:
                if method == "GET":
                    return await client.get(path)
                return await client.send(method, path, body=b"{}" if method == "POST" else b"")
            except VenueError as error:
                return error

    return in_virtual_time(program)


def test_a_request_carries_its_headers_its_query_and_its_body():
    seen = []

    async def note(request):
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response(body=b"ok")

    async def program():
        async with serving(note) as url, client_of(url) as client:
            assert await client.send("POST", "/user/order", body=b'{"id":"a"}') == b"ok"
            query = [("market", "BTC-USD"), ("market", "E&H"), ("limit", 5)]
            assert await client.get("/user/trades", query) == b"ok"
            assert await client.get("/info/markets", private=False) == b"ok"

    in_virtual_time(program)
    (post, get, public) = seen
    assert post[:2] == ("POST", "/api/v1/user/order")
    assert post[3] == b'{"id":"a"}'
    assert post[2]["Content-Type"] == "application/json"
    assert get[1] == "/api/v1/user/trades?market=BTC-USD&market=E%26H&limit=5"
    assert post[2]["X-Api-Key"] == get[2]["X-Api-Key"] == CANARY
    assert "X-Api-Key" not in public[2]
    assert all(sent[2]["User-Agent"].startswith("extended-market-maker") for sent in seen)


def test_requests_share_a_connection():
    ports = set()

    async def note(request):
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response(body=b"ok")

    async def program():
        async with serving(note) as url, client_of(url) as client:
            for _ in range(5):
                await client.send("POST", "/user/order", body=b"{}")
                # Between two calls of the dead man's switch, too.
                await asyncio.sleep(20)

    in_virtual_time(program)
    assert len(ports) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, envelope(1140), OrderRefused, 1140),
        (400, envelope(1134), OrderRefused, 1134),
        # Malformed bodies were seen to be answered with nothing at all.
        (400, b"", OrderRefused, 400),
        (401, b"", CredentialsRefused, 401),
        (401, envelope(401), CredentialsRefused, 401),
        (400, envelope(1101), CredentialsRefused, 1101),
        (403, b"", OrderRefused, 403),
        (404, envelope(1001), MarketNotFound, 1001),
        # Neither a refusal nor a word of success: 303 is what one gets after a request that was carried out.
        (202, b"", OutcomeUnknown, 202),
        (206, PAGE, OutcomeUnknown, 206),
        (301, b"", OutcomeUnknown, 301),
        (303, b"", OutcomeUnknown, 303),
        (202, envelope(1140), OrderRefused, 1140),
        # Maintenance: the exchange says itself that it did not take the order, whatever the HTTP status.
        (503, envelope(1010), OrderRefused, 1010),
        (400, envelope(1011), OrderRefused, 1011),
        # The text may say anything.
        (400, envelope(1140, "503 maintenance 401 unauthorized 429"), OrderRefused, 1140),
        (500, b"", OutcomeUnknown, 500),
        (500, envelope(1006), OutcomeUnknown, 1006),
        (502, PAGE, OutcomeUnknown, 502),
        (503, b"", OutcomeUnknown, 503),
        (504, PAGE, OutcomeUnknown, 504),
        (429, b"", RateLimited, 429),
        (429, envelope(429), RateLimited, 429),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "GET"])
def test_errors_are_types_by_their_code(status, body, kind, code, method):
    error = outcome(answers(status, body), method=method)
    assert type(error) is kind
    assert error.code == code


@pytest.mark.parametrize("status", [403, 404, 400])
def test_a_proxys_page_is_no_answer_to_a_look_up(status):
    error = outcome(answers(status, b"<html>not here</html>"), method="GET")
    assert type(error) is OutcomeUnknown
    assert error.code == status
    # What a proxy did not pass on was not carried out.
    assert type(outcome(answers(status, b"<html>not here</html>"))) is OrderRefused


def test_a_redirect_is_not_followed_with_the_key():
    async def program():
        visited = []

        async def elsewhere(request):
            visited.append(dict(request.headers))
            return web.Response()

        async with serving(elsewhere) as other:
            moved = answers(307, headers={"Location": other + "/steal"})
            async with serving(moved) as url, client_of(url) as client:
                with pytest.raises(OutcomeUnknown, match="307"):
                    await client.send("POST", "/user/order", body=b"{}")
        assert not visited

    in_virtual_time(program)


def test_a_429_pauses_everything_but_cancels():
    async def program():
        served = []

        async def refuse_once(request):
            served.append(request.method)
            if len(served) == 1:
                return web.Response(status=429, headers={"Retry-After": "7"})
            return web.Response(body=b"ok")

        async with serving(refuse_once) as url, client_of(url) as client:
            with pytest.raises(RateLimited) as refusal:
                await client.send("POST", "/user/order", body=b"{}")
            assert refusal.value.retry_after_s == 7
            with pytest.raises(RateLimited, match="not sent") as refusal:
                await client.get("/user/balance")
            assert refusal.value.retry_after_s == pytest.approx(7, abs=0.1)
            await client.send("DELETE", "/user/order", urgent=True)
            await asyncio.sleep(7)
            await client.get("/user/balance")
        assert served == ["POST", "DELETE", "GET"]

    in_virtual_time(program)


@pytest.mark.parametrize(
    "header", ["", "soon", "-1", "0", "nan", "inf", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT"]
)
def test_an_unreadable_retry_after_is_a_short_pause(header):
    error = outcome(answers(429, headers={"Retry-After": header}))
    assert error.retry_after_s == 3


def test_over_the_budget_nothing_is_sent():
    async def program():
        served = []

        async def count(request):
            served.append(request.method)
            return web.Response(body=b"ok")

        async with (
            serving(count) as url,
            client_of(url, requests_per_minute=10, cancel_reserve_share=0.2) as client,
        ):
            for _ in range(8):
                await client.get("/user/balance")
            with pytest.raises(RateLimited, match="not sent"):
                await client.get("/user/balance")
            for _ in range(2):
                await client.send("DELETE", "/user/order", urgent=True)
            assert len(served) == 10
            with pytest.raises(RateLimited):
                await client.send("DELETE", "/user/order", urgent=True)
            await asyncio.sleep(60)
            await client.get("/user/balance")

    in_virtual_time(program)


@both_ways
def test_a_refused_connection_is_unreachable(way):
    async def program():
        async with serving(answers(200)) as url:
            pass
        async with client_of(url) as client:
            with pytest.raises(Unreachable, match=r"emulator at 127\.0\.0\.1:\d+: no connection .*is it up"):
                await way(client)

    in_virtual_time(program)


@both_ways
def test_an_unknown_host_is_unreachable(way):
    async def program():
        endpoint = endpoint_of(Network.EMULATOR, "http://no-such-host.invalid:8790")
        client = RestClient(endpoint, Secret(CANARY), ConnectionSettings(), SystemClock())
        try:
            with pytest.raises(Unreachable, match=r"no-such-host\.invalid:8790: the name of the host is unk"):
                await way(client)
        finally:
            await client.close()

    asyncio.run(program())


def server_tls(hostname):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(hostname).configure_cert(context)
    return context


@both_ways
def test_a_connection_that_never_comes_about_is_unreachable(way):
    """A host that takes the connection and says nothing of TLS."""

    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async def program():
        async with (
            listening(silent) as url,
            client_of(url.replace("http", "https"), request_timeout_s=4.0) as client,
        ):
            with pytest.raises(Unreachable, match="no connection in time"):
                await way(client)

    in_virtual_time(program)


@both_ways
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(way):
    async def program():
        # The server's own account of the failed handshake is not of interest.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        async with serving(answers(200), server_tls("127.0.0.1")) as url, client_of(url) as client:
            with pytest.raises(Unreachable) as failure:
                await way(client)
            text = str(failure.value)
            assert "TLS certificate is not trusted (unable to get local issuer certificate)" in text
            assert "check the date of this machine" in text

    in_virtual_time(program)


def test_an_order_goes_out_over_tls(tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    assert outcome(answers(200, b"ok"), tls=context) == b"ok"


def test_a_certificate_for_another_host_is_not_trusted(tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example.org").configure_cert(context)
    error = outcome(answers(200, b"ok"), tls=context)
    assert type(error) is Unreachable
    assert "IP address mismatch" in str(error)


@both_ways
def test_a_server_without_tls_is_told_from_one_that_is_down(way):
    async def program():
        async with serving(answers(200)) as url, client_of(url.replace("http", "https")) as client:
            with pytest.raises(Unreachable, match="no TLS connection"):
                await way(client)

    in_virtual_time(program)


@both_ways
def test_no_answer_in_time_leaves_the_outcome_unknown(way):
    async def never(_request):
        await asyncio.Event().wait()

    async def program():
        async with serving(never) as url, client_of(url, request_timeout_s=7.5) as client:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            with pytest.raises(OutcomeUnknown, match="no reply in time") as failure:
                await way(client)
            assert not isinstance(failure.value, Unreachable)
            assert loop.time() - began_s == pytest.approx(7.5, abs=0.1)

    in_virtual_time(program)


@both_ways
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_half_an_answer_leaves_the_outcome_unknown(reply, way):
    requests = []

    async def break_off(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        await writer.drain()
        writer.close()

    async def program():
        async with listening(break_off) as url, client_of(url) as client:
            with pytest.raises(OutcomeUnknown, match="the connection was lost before the reply") as failure:
                await way(client)
            assert not isinstance(failure.value, Unreachable)

    in_virtual_time(program)
    assert way is look_up or len(requests) == 1


@pytest.mark.parametrize(("method", "sent"), [("POST", 1), ("DELETE", 1), ("GET", 2)])
def test_on_a_dropped_connection_a_look_up_is_sent_again_and_an_order_is_not(method, sent):
    """The server answers once on each connection and drops the first when the next request comes."""
    requests, connections = [], []

    async def answer_once(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if len(connections) == 1:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async def program():
        async with listening(answer_once) as url, client_of(url) as client:
            if method == "GET":
                assert await client.get("/user/trades") == b"ok"
                assert await client.get("/user/balance") == b"ok"
            else:
                assert await client.send(method, "/user/order") == b"ok"
                with pytest.raises(OutcomeUnknown, match="closed without a reply"):
                    await client.send(method, "/user/order")

    in_virtual_time(program)
    assert len(connections) == sent
    assert len(requests) == 1


def test_a_connection_that_was_closed_meanwhile_is_not_used():
    connections = []

    async def answer_once(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def program():
        async with listening(answer_once) as url, client_of(url) as client:
            for _ in range(3):
                assert await client.send("POST", "/user/order") == b"ok"
                await asyncio.sleep(0.1)

    in_virtual_time(program)
    assert len(connections) == 3


def test_what_nobody_asked_for_closes_the_connection():
    connections = []

    async def answer_twice(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%d" % (10 * len(connections))
        writer.write(reply if len(connections) == 2 else reply + reply)
        if len(connections) == 2:
            await asyncio.sleep(0.1)
            writer.write(reply)
        await reader.read()
        writer.close()

    async def program():
        async with listening(answer_twice) as url, client_of(url) as client:
            for number in (10, 20, 30):
                assert await client.send("POST", "/user/order") == b"%d" % number
                await asyncio.sleep(1)

    in_virtual_time(program)
    assert len(connections) == 3


def test_requests_at_once_have_a_connection_each_and_idle_ones_are_closed():
    ports = []

    async def note(request):
        ports.append(request.transport.get_extra_info("peername")[1])
        await asyncio.sleep(1)
        return web.Response(body=b"ok")

    async def program():
        async with serving(note) as url, client_of(url) as client:
            await asyncio.gather(*(client.send("POST", "/user/order") for _ in range(3)))
            await client.send("POST", "/user/order")
            await asyncio.sleep(31)
            await client.send("POST", "/user/order")

    in_virtual_time(program)
    assert len(set(ports[:3])) == 3
    assert ports[3] in ports[:3]
    assert ports[4] not in ports[:4]


def test_a_request_that_is_given_up_does_not_answer_the_next():
    async def slow_then_fast(request):
        body = await request.read()
        await asyncio.sleep(2 if body == b"slow" else 0)
        return web.Response(body=body)

    async def program():
        async with serving(slow_then_fast) as url, client_of(url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await client.send("POST", "/user/order", body=b"slow")
            assert await client.send("POST", "/user/order", body=b"fast") == b"fast"
            await asyncio.sleep(3)
            assert await client.send("POST", "/user/order", body=b"fast") == b"fast"

    in_virtual_time(program)


def test_private_requests_need_a_key():
    async def program():
        async with serving(answers(200, b"ok")) as url, client_of(url, key="") as client:
            assert await client.get("/info/markets", private=False) == b"ok"
            with pytest.raises(CredentialsRefused, match="expected keys for /user/balance"):
                await client.get("/user/balance")

    in_virtual_time(program)


@pytest.mark.parametrize("key", [f"{CANARY}\n", f"{CANARY}\r\nX-Other: 1", f"{CANARY} ", "ключ", "\x00"])
def test_a_key_that_fits_no_header_is_refused_and_not_shown(key):
    async def program():
        with pytest.raises(CredentialsRefused, match="api_key: expected printable") as refusal:
            async with client_of("http://127.0.0.1:1", key=key):
                pass
        assert key not in str(refusal.value)

    in_virtual_time(program)


@pytest.mark.parametrize(
    "handler",
    [
        answers(401, envelope(401, f"bad key {CANARY}")),
        answers(400, envelope(1140, f"key {CANARY}")),
        answers(500, f"<html>{CANARY}</html>".encode()),
        answers(200, f"echo {CANARY}".encode()),
    ],
)
def test_the_key_does_not_come_back(handler):
    for method in ("GET", "POST"):
        result = outcome(handler, method=method)
        shown = "".join(traceback.format_exception(result)) if isinstance(result, Exception) else str(result)
        assert CANARY not in shown + repr(result)


def test_a_peer_that_repeats_our_headers_shows_no_key():
    async def echo(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        [line] = [line for line in request.split(b"\r\n") if CANARY.encode() in line]
        writer.write(b"HTTP/1.1 200 OK\r\n " + line + b"\r\n\r\n")
        writer.close()

    async def program():
        async with listening(echo) as url, client_of(url) as client:
            with pytest.raises(OutcomeUnknown, match=r"expected a header, was .*\*\*\*\*") as failure:
                await client.send("POST", "/user/order")
            assert CANARY not in "".join(traceback.format_exception(failure.value))

    in_virtual_time(program)


def test_a_code_that_says_too_many_requests_pauses_like_the_status():
    async def program():
        async with serving(answers(400, envelope(429))) as url, client_of(url) as client:
            for match in ("no", "not sent"):
                with pytest.raises(RateLimited, match=match):
                    await look_up(client)

    in_virtual_time(program)


def test_closing_waits_for_no_peer_that_keeps_its_side_of_a_tls_connection_open(tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    ends, lost = [], asyncio.Event()

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport):
            ends.append(transport)

        def connection_lost(self, _error):
            lost.set()

        def data_received(self, _request):
            ends[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            ends[0].pause_reading()

    async def program():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Deaf, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        lines = OrderLines(endpoint_of(Network.EMULATOR, url), {})
        line = await lines.line()
        assert (await lines.exchange(line, "POST", "/user/order", b"")).body == b"ok"
        began_s = loop.time()
        await lines.close()
        done, _ = await asyncio.wait({line.closed}, timeout=1.0)
        took_s = loop.time() - began_s
        ends[0].abort()
        server.close()
        await lost.wait()
        await asyncio.sleep(0)
        assert done
        assert took_s <= 1.1

    in_virtual_time(program)


@both_ways
def test_the_key_is_in_no_failure_and_no_repr(way):
    async def garbage(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/9.9 what\r\n\r\n")
        writer.close()

    async def program():
        async with listening(garbage) as url, client_of(url) as client:
            with pytest.raises(OutcomeUnknown) as failure:
                await way(client)
            error = failure.value
            assert CANARY not in repr(client) + repr(error) + repr(error.__cause__) + repr(error.__context__)
            assert CANARY not in "".join(traceback.format_exception(error))

    in_virtual_time(program)
