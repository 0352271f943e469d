"""Downloads from a server on this machine: resumed, checked, refused."""

import asyncio
import gzip
import hashlib
import io
import zipfile
from datetime import date

import pytest
from aiohttp import web

from market_maker.recordings.archives import ARCHIVES, DownloadError, days, download, remote_file

DAY = date(2024, 8, 1)
CSV = gzip.compress(b"exchange,symbol\n" * 50_000)


def zipped(content=b"1,2,3\n" * 1000):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        packed.writestr("trades.csv", content)
    return target.getvalue()


class Server:
    """Serves what it is given; cuts the first so many replies off after half."""

    def __init__(self, files, cuts=0, statuses=(), with_ranges=True):
        self.files = files
        self.cuts = cuts
        self.statuses = list(statuses)
        self.with_ranges = with_ranges
        self.ranges = []

    async def answer(self, request):
        self.ranges.append(request.headers.get("Range"))
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        content = self.files.get(request.path)
        if content is None:
            return web.Response(status=404)
        first = 0
        if self.ranges[-1] and self.with_ranges:
            first = int(self.ranges[-1].removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return web.Response(status=416)
        reply = web.StreamResponse(status=206 if first else 200)
        reply.content_length = len(content) - first
        await reply.prepare(request)
        if self.cuts:
            self.cuts -= 1
            await reply.write(content[first : first + (len(content) - first) // 2])
            request.transport.close()
            return reply
        await reply.write(content[first:])
        return reply


def fetch(server, folder, kind="trades", archive="tardis", times=1):
    """Download a file so many times; what each said, and what was told."""
    told = []

    async def main():
        app = web.Application()
        app.router.add_get("/{path:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        file = remote_file(
            ARCHIVES[archive], f"http://127.0.0.1:{port}/", "binance-futures", kind, "BTCUSDT", DAY
        )
        try:
            return [
                await download(file, folder, lambda *state: told.append(state), pause_s=0)
                for _ in range(times)
            ], file
        finally:
            await runner.cleanup()

    return *asyncio.run(main()), told


PATH = "/binance-futures/trades/2024/08/01/BTCUSDT.csv.gz"
ZIP_PATH = "/trades/BTCUSDT/BTCUSDT-trades-2024-08-01.zip"


def test_a_file_is_downloaded_once_and_its_progress_told(tmp_path):
    server = Server({PATH: CSV})
    fresh, file, told = fetch(server, tmp_path, times=2)
    assert fresh == [True, False]
    assert (tmp_path / file.name).read_bytes() == CSV
    assert file.name == "BTCUSDT-trades-2024-08-01.csv.gz"
    assert told[-1] == (file.name, len(CSV), len(CSV))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_download_that_is_cut_off_goes_on_where_it_was(tmp_path):
    server = Server({PATH: CSV}, cuts=3, statuses=[503])
    _, file, _ = fetch(server, tmp_path)
    assert (tmp_path / file.name).read_bytes() == CSV
    assert server.ranges[:2] == [None, None]
    starts = [int(words[6:-1]) for words in server.ranges[2:]]
    assert starts == sorted(starts)
    assert starts[0] > 0


def test_what_an_earlier_process_left_is_gone_on_with(tmp_path):
    part = tmp_path / "BTCUSDT-trades-2024-08-01.csv.gz.part"
    for left in (CSV[:100], CSV):
        part.write_bytes(left)
        server = Server({PATH: CSV})
        _, file, _ = fetch(server, tmp_path)
        assert server.ranges == [f"bytes={len(left)}-"]
        (tmp_path / file.name).unlink()


def test_a_server_without_ranges_is_read_from_the_start(tmp_path):
    (tmp_path / "BTCUSDT-trades-2024-08-01.csv.gz.part").write_bytes(CSV[:100])
    _, file, _ = fetch(Server({PATH: CSV}, with_ranges=False), tmp_path)
    assert (tmp_path / file.name).read_bytes() == CSV


def test_a_checksum_is_held_against_the_file(tmp_path):
    content = zipped()
    checksum = f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-trades-2024-08-01.zip\n".encode()
    _, file, _ = fetch(
        Server({ZIP_PATH: content, f"{ZIP_PATH}.CHECKSUM": checksum}), tmp_path, archive="binance"
    )
    assert (tmp_path / file.name).read_bytes() == content


@pytest.mark.parametrize(
    ("files", "archive", "message"),
    [
        ({}, "tardis", r"BTCUSDT\.csv\.gz: expected a file, was answered 404 \(there is no such file\)"),
        ({PATH: CSV[:-100]}, "tardis", r"expected a whole gz file, was corrupt"),
        (
            {ZIP_PATH: zipped(), f"{ZIP_PATH}.CHECKSUM": b"0" * 64},
            "binance",
            "expected the SHA-256 000000.*, was",
        ),
        (
            {ZIP_PATH: zipped(), f"{ZIP_PATH}.CHECKSUM": b"<html>"},
            "binance",
            "expected a SHA-256, was '<html>'",
        ),
        ({ZIP_PATH: zipped()}, "binance", r"CHECKSUM: expected a file, was answered 404"),
    ],
)
def test_what_is_not_the_file_is_refused_and_not_kept(tmp_path, files, archive, message):
    with pytest.raises(DownloadError, match=message):
        fetch(Server(files), tmp_path, archive=archive)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_gives_it_whole_is_told_and_the_part_is_kept(tmp_path):
    with pytest.raises(DownloadError, match=r"expected the file in 5 tries, was cut off"):
        fetch(Server({PATH: CSV}, cuts=9), tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_days():
    assert days(date(2024, 2, 28), date(2024, 3, 1)) == [
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    ]
    assert days(date(2024, 3, 2), date(2024, 3, 1)) == []
