"""How the emulator's server behaves, as switches, and the accounts that it serves."""

from dataclasses import dataclass, field
from typing import Final

from market_maker.emulator.signatures import Domain, account_keys

REST_PATH: Final = "/api/v1"
STREAM_PATH: Final = "/stream.extended.exchange/v1"


@dataclass(frozen=True, slots=True)
class ServedAccount:
    """An account of the exchange and its keys, hexadecimal. Whoever asks the emulator is told them."""

    account_id: int
    api_key: str = field(repr=False)
    private_key: str = field(repr=False)
    public_key: str
    vault: int


def served_account(account_id: int, seed: int, index: int) -> ServedAccount:
    """Give an account of the exchange the test keys of a seed and an index."""
    keys = account_keys(seed, index)
    return ServedAccount(account_id, keys.api_key, keys.private_key, keys.public_key, keys.vault)


@dataclass(frozen=True, slots=True)
class ServerRules:
    """Switches of the server. What nobody knows of the exchange is one, with the likelier answer set."""

    verify_signatures: bool = True  # whether the signature of each order is checked, which takes 0.8 ms
    clock_skew_s: float = 0.0  # how far the Date of replies is ahead
    balance_404_when_zero: bool = True  # whether the look-up of an empty balance is 404
    unfilled_orders_kept: bool = True  # whether the history has orders without a fill
    malformed_body_empty: bool = False  # whether a malformed body is answered by 400 with no body
    page_limit: int = 100  # most rows of a history in one answer
    ping_interval_s: float = 15.0  # between pings on a stream
    pong_timeout_s: float = 10.0  # longest wait for the answer to one
    candle_interval_s: float = 5.0  # between frames of a candle stream
    backlog_frames: int = 10_000  # frames that may wait for a slow reader before it is dropped
    domain: Domain = field(default_factory=Domain)  # network that orders must be signed for
