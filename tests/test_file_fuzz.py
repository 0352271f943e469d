"""Files and bodies that somebody else wrote, or a crash cut short: read as they are, or refused by name."""

import gzip
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from fuzzing import damaged, examples, nearly, odd_values
from hypothesis import example, given
from hypothesis import strategies as st

from market_maker.backtest.saved import SavedError, load
from market_maker.config import ConfigError, load_config
from market_maker.decision_record import InputsFile, InputsUnreadable, file_header, pack_block
from market_maker.emulator import bodies
from market_maker.emulator.faults import FaultError, faults_of, parse_fault
from market_maker.journal_files import JOURNAL_SUFFIX
from market_maker.journal_history import read_session
from market_maker.order_records import OrderSettings
from market_maker.recordings.events import RecordingError
from market_maker.recordings.raw import inspect_raw
from market_maker.recordings.segments import (
    SegmentHeader,
    SegmentWriter,
    TradeRecord,
    cut_torn_tail,
    read_header,
    read_records,
)
from market_maker.recordings.store import open_store
from market_maker.risk_manager import RiskSettings
from market_maker.status import FILE_NAME, Status, StatusError, read_status, write_status
from market_maker.trade_journal import JournalCorrupt, latest_records, read_journal

DEEP = b"[" * 2_000 + b"]" * 2_000
ANY = st.binary(max_size=200) | st.just(DEEP) | st.just(b'{"a":' * 2_000)


def placed(content, name="file"):
    """A file in a folder of its own; Hypothesis draws many within one test."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    (folder / name).write_bytes(content)
    return folder / name


FOLDER = tempfile.TemporaryDirectory()


@pytest.fixture(scope="module", autouse=True)
def _swept():
    yield
    FOLDER.cleanup()


TOML = b"""profile = "legacy"
[session]
markets = ["BTC-USD", "ETH-USD"]
network = "testnet"
[risk]
max_order_notional_usd = 90000.0
[markets."ETH-USD".risk]
max_order_notional_usd = 80000.0
"""


@pytest.mark.slow
@examples(30)
@given(damaged([TOML]) | ANY | st.just(b"a = " + DEEP))
def test_a_settings_file(content):
    with suppress(ConfigError):
        config = load_config(config_files=[placed(content, "mm.toml")])
        assert config.of(OrderSettings).order_id_prefix


def test_what_is_damaged_was_sound():
    """Or nothing would be damaged that was ever read."""
    config = load_config(config_files=[placed(TOML, "mm.toml")])
    assert config.of(RiskSettings).max_order_notional_usd == 90000.0


@pytest.mark.slow
@examples(30)
@given(damaged([b"MM_API_KEY=abc\nMM_STARK_PRIVATE_KEY='0x12'\nMM_MARKETS=BTC-USD\nOTHER=1\n"]) | ANY)
def test_an_env_file(content):
    path = placed(content, ".env")
    path.chmod(0o600)
    with suppress(ConfigError):
        load_config(env_file=path)


STATUS = Status(1, "RUNNING", "crypto", "testnet", 1, 2, 3, "10", "1", "j", [])


@examples(30)
@given(damaged([msgspec.json.encode(STATUS)]) | ANY)
def test_a_status_file(content):
    with suppress(StatusError):
        status = read_status(placed(content, FILE_NAME).parent)
        folder = placed(b"", "empty").parent
        write_status(folder, status)
        assert read_status(folder) == status


LINES = b'{"type":"session_start","t":1,"n":1}\n{"type":"ladder","t":2,"n":2,"market":"X"}\n'


@examples(30)
@given(damaged([LINES]) | ANY | ANY.map(lambda junk: LINES + junk + b"\n" + LINES))
def test_a_journal(content):
    path = placed(content, f"mm-20260101T000000.000000-0000{JOURNAL_SUFFIX}")
    with suppress(JournalCorrupt):
        for record in read_journal(path):
            assert isinstance(record, dict)
    for records in latest_records(path.parent, "ladder", 3):
        assert all(record["type"] == "ladder" for record in records)


SETTINGS = {"settings": {"session": {"network": {"value": "testnet"}}}}
BEGUN = {
    "type": "session_start",
    "t": 1,
    "n": 1,
    "markets": {"X": {"tick": "1", "step": "0.1"}},
    "settings": SETTINGS,
}
MATCH = {
    "market": "X",
    "trade_id": 1,
    "order_id": 2,
    "side": "BUY",
    "price_ticks": 3,
    "size_lots": 4,
    "fee": "0.1",
}
NOTED = {"type": "fill", "t": 2, "n": 2, **MATCH, "is_taker": False, "venue_ns": 5, "mid2_ticks": 7}
PAID = {"market": "X", "payment_id": 1, "size_lots": 1, "mark_price": "1", "rate": "0.1", "amount": "0.1"}
FUNDED = {"type": "funding", "t": 3, "n": 3, **PAID, "venue_ns": 5}


def written(records):
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)


@pytest.mark.slow
@examples(40)
@given(
    damaged([written([BEGUN, NOTED, FUNDED])])
    | st.tuples(st.just(BEGUN), nearly([NOTED, FUNDED])).map(written)
)
def test_the_money_of_a_journal(content):
    with suppress(JournalCorrupt):
        session = read_session([placed(content, f"mm-20260101T000000.000000-0000{JOURNAL_SUFFIX}")])
        assert all(fill.row.fee.is_finite() and fill.row.price.is_finite() for fill in session.fills)
        assert all(payment.amount.is_finite() for payment in session.funding)


INPUTS = file_header() + pack_block((7).to_bytes(8, "little") + b"x" * 40)


@pytest.mark.slow
@examples(30)
@given(damaged([INPUTS, INPUTS + INPUTS[len(file_header()) :]]) | ANY)
def test_inputs_of_decisions(content):
    with suppress(InputsUnreadable):
        for block in InputsFile(placed(content)).blocks():
            assert isinstance(block.records, bytes)


DEPTH = {"e": "depthUpdate", "T": 1723161256298, "s": "BTCUSDT", "U": 51, "u": 57, "pu": 50}
LEVELS = {"b": [["58710.20", "0.014"]], "a": [["61800.30", "3.330"]]}
QUOTE = {
    "e": "bookTicker",
    "u": 58,
    "s": "BTCUSDT",
    "b": "61800.20",
    "B": "2.5",
    "a": "61800.30",
    "A": "2.510",
}
PRINT = {
    "e": "trade",
    "T": 1723161256322,
    "s": "BTCUSDT",
    "t": 5266,
    "p": "61800.30",
    "q": "0.006",
    "m": False,
}
FRAMES = b"".join(
    b"1723161255030314667 %s\n" % json.dumps({"stream": "x", "data": data}).encode()
    for data in (DEPTH | LEVELS, QUOTE | {"T": 1723161256313}, PRINT)
)


def stamped(junk):
    return gzip.compress(b"1723161255030314667 " + junk + b"\n")


@pytest.mark.slow
@examples(30)
@given(damaged([FRAMES]).map(gzip.compress) | damaged([gzip.compress(FRAMES)]) | ANY | ANY.map(stamped))
@example(gzip.compress(FRAMES.replace(b'"2.5"', b'"2.5.1"')))
@example(gzip.compress(FRAMES.replace(b'"2.5"', b'"nan"')))
def test_a_raw_recording(content):
    with suppress(RecordingError):
        summary = inspect_raw(placed(content, "btcusdt_20240809.gz"))
        assert summary.symbol


def segment():
    path = placed(b"", "old").with_name("new")
    writer = SegmentWriter(path, SegmentHeader("BTC-USD", "0.1", "0.001", "testnet", 5))
    writer.write([TradeRecord(1, 2, 3, 1, 4, 5)])
    writer.write([TradeRecord(2, 2, 3, 1, 4, 6)])
    writer.close()
    return path.read_bytes()


@examples(30)
@given(damaged([segment()]) | ANY)
def test_a_segment(content):
    path = placed(content)
    with suppress(RecordingError):
        assert read_header(path).version
        found = list(read_records(path))
        cut_torn_tail(path)
        assert list(read_records(path)) == found


@examples(30)
@given(ANY | damaged([b'{"format":"market-maker backtest","version":1,"header":{},"outcomes":[]}']))
def test_a_saved_backtest(content):
    with suppress(SavedError):
        load(placed(content, "result.json").parent)


@examples(30)
@given(ANY)
def test_a_store_of_recordings(content):
    with suppress(RecordingError):
        open_store(placed(content, "BTC-USD.json").parent)


ORDER = {
    "id": "1",
    "market": "BTC-USD",
    "type": "LIMIT",
    "side": "SELL",
    "qty": "0.001",
    "price": "84000",
    "reduceOnly": False,
    "timeInForce": "GTT",
    "expiryEpochMillis": 1_795_387_528_053,
    "fee": "0.00025",
    "nonce": "4195148984",
    "settlement": {
        "signature": {"r": "0x66", "s": "0x7a"},
        "starkKey": "0x61",
        "collateralPosition": "10002",
    },
}
CANCELS = {"orderIds": [1], "externalOrderIds": ["a"], "markets": ["BTC-USD"], "cancelAll": False}


def as_json(value):
    return json.dumps(value).encode()


@pytest.mark.slow
@examples(30)
@given(nearly([ORDER]).map(as_json) | damaged([as_json(ORDER)]) | ANY)
def test_the_body_of_an_order(content):
    with suppress(bodies.BodyRefused):
        body = bodies.read_order(content)
        request = bodies.order_request(body)
        assert request.price.is_finite()
        assert request.qty.is_finite()
        assert request.expire_ns == body.expiry_epoch_millis * 1_000_000 > 0
        signed = bodies.signed_order(body, request)
        assert (signed.qty, signed.price, signed.nonce) == (request.qty, request.price, request.nonce)


@examples(30)
@given(nearly([CANCELS]).map(as_json) | damaged([as_json(CANCELS)]) | ANY)
def test_the_bodies_of_a_mass_cancel_and_of_a_leverage(content):
    for read in (bodies.mass_cancel_request, bodies.leverage_request):
        with suppress(bodies.BodyRefused):
            read(content)


@examples(30)
@given(
    st.dictionaries(st.sampled_from(["lost_replies", "silent_streams", "x"]), odd_values),
    st.text(max_size=30),
)
def test_faults(values, text):
    with suppress(FaultError):
        parse_fault(text)
    with suppress(FaultError):
        faults_of({name: value for name, value in values.items() if isinstance(value, float)})
