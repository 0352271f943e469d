"""Data of a trial: a store as it is, a recording converted once and kept, and never a stale one."""

import os
from contextlib import contextmanager

import pytest
from played_markets import write_market

from market_maker.backtest.trial_data import chosen, open_data
from market_maker.recordings.events import RecordingError

pytest.importorskip("polars")


@pytest.fixture
def opened(tmp_path):
    conversions = []

    @contextmanager
    def shown(sources):
        conversions.append([source.market for source in sources])
        yield lambda *_: None

    def run(path):
        return open_data(path, tmp_path / "cache", shown)

    run.conversions = conversions
    return run


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "recording"
    folder.mkdir()
    return write_market(folder, "ETH", seconds=10, seed=2)


def test_a_recording_is_converted_once_and_again_when_it_changes(opened, recording):
    first = opened(recording)
    assert first.markets == ("ETH-USD",)
    assert opened(recording).path == first.path
    # Also under another name: what counts is what is in the files.
    assert opened.conversions == [["ETH-USD"]]
    write_market(recording, "ETH", seconds=10, seed=3)
    assert opened(recording).path != first.path
    assert len(opened.conversions) == 2


def test_a_store_is_taken_as_it_is(opened, recording):
    store = opened(recording)
    assert opened(store.path).path == store.path
    assert opened(store.path / "ETH-USD").markets == ("ETH-USD",)
    assert len(opened.conversions) == 1


def test_a_conversion_that_fails_leaves_nothing(opened, recording, tmp_path):
    book = recording / "ETH_book.parquet"
    book.write_bytes(book.read_bytes()[:-100])
    with pytest.raises(RecordingError, match=r"ETH_book.parquet"):
        opened(recording)
    assert not (tmp_path / "cache").exists() or os.listdir(tmp_path / "cache") == [".lock"]


def test_an_interrupted_conversion_leaves_nothing_and_is_made_again(recording, tmp_path):
    @contextmanager
    def stopped(_sources):
        def told(*_):
            raise KeyboardInterrupt

        yield told

    with pytest.raises(KeyboardInterrupt):
        open_data(recording, tmp_path / "cache", stopped)
    assert os.listdir(tmp_path / "cache") == [".lock"]


def test_only_the_newest_conversions_are_kept(opened, recording, tmp_path):
    for seed in range(10):
        write_market(recording, "ETH", seconds=2, seed=seed)
        opened(recording)
    assert len([name for name in os.listdir(tmp_path / "cache") if name != ".lock"]) == 8


def test_markets_are_chosen_by_any_of_their_names(opened, recording):
    write_market(recording, "BTC", seconds=2)
    store = opened(recording)
    assert chosen(store, recording, ()) == ("BTC-USD", "ETH-USD")
    assert chosen(store, recording, ("ethusdt",)) == ("ETH-USD",)
    with pytest.raises(RecordingError, match="SOL-USD"):
        chosen(store, recording, ("SOL",))
