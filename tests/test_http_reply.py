import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.exchanges.http_reply import BadReply, HttpReply, read_reply

COUNTED = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"OK"}'
CHUNKED = (
    b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"sta\r\nA;x=1\r\ntus":"OK"}\r\n0\r\nTrailer: t\r\n\r\n'
)
CHUNKED_PLAIN = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{"status":"OK"}\r\n0\r\n\r\n'
NO_BODY = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + COUNTED


@pytest.mark.parametrize(
    ("wire", "status", "body"),
    [
        (COUNTED, 200, b'{"status":"OK"}'),
        (CHUNKED, 400, b'{"status":"OK"}'),
        (CHUNKED_PLAIN, 200, b'{"status":"OK"}'),
        (NO_BODY, 204, b""),
        (INTERIM, 200, b'{"status":"OK"}'),
        (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b""),
    ],
)
def test_a_reply_is_read_when_it_is_whole_and_not_before(wire, status, body):
    for length in range(len(wire)):
        assert read_reply(wire[:length]) is None
    reply = read_reply(wire)
    assert (reply.status, reply.body, reply.keeps_alive) == (status, body, True)
    surplus = read_reply(wire + b"H")
    assert (surplus.body, surplus.keeps_alive) == (body, False)


def test_headers_are_found_by_their_names_in_lower_case():
    reply = read_reply(b"HTTP/1.1 429 Slow\r\nRETRY-After:  7 \r\nContent-Length:0\r\n\r\n")
    assert reply.headers == {"retry-after": "7", "content-length": "0"}


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_some_connections_carry_one_reply_only(wire):
    assert read_reply(wire) == HttpReply(200, read_reply(wire).headers, b"ok", keeps_alive=False)


def test_a_body_without_a_length_ends_with_the_connection():
    wire = b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>"
    assert read_reply(wire) is None
    assert read_reply(wire, is_over=True) == HttpReply(502, {}, b"<html>", keeps_alive=False)


@pytest.mark.parametrize("wire", [COUNTED, CHUNKED, CHUNKED_PLAIN, NO_BODY, INTERIM])
def test_half_a_reply_is_none_when_the_connection_is_over(wire):
    for length in range(len(wire)):
        with pytest.raises(BadReply, match="expected"):
            read_reply(wire[:length], is_over=True)


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_is_no_reply_is_said_to_be_none(wire):
    with pytest.raises(BadReply, match=r"expected .*, was "):
        read_reply(wire)


def test_a_close_that_is_said_twice_is_a_close():
    wire = b"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
    assert not read_reply(wire).keeps_alive


def test_many_words_before_the_reply_are_passed_over():
    assert read_reply(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2_000 + COUNTED).body == b'{"status":"OK"}'


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
)
def test_chunks_add_up_however_they_arrive(parts, steps):
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    for length in range(0, len(wire), steps[0]):
        assert read_reply(wire[:length]) is None
    assert read_reply(wire) == HttpReply(200, read_reply(wire).headers, b"".join(parts), keeps_alive=True)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_reply_or_none_or_bad(wire, is_over):
    for received in (wire, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire):
        with contextlib.suppress(BadReply):
            read_reply(received, is_over=is_over)
