"""What a setting must be where its section does not check that itself, and which must not exceed which.

A number that is not named here must be finite and at least zero.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from market_maker.pricing_engine import OffsetMode


class Range(NamedTuple):
    """Allowed values of a number; `above` leaves `low` itself out."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False

    def holds(self, value: float | Decimal) -> bool:
        """Whether a value lies within; one that is not finite never does."""
        if not math.isfinite(value):
            return False
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        floor = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        return floor if self.high == math.inf else f"{floor} and at most {self.high:g}"


class Text(NamedTuple):
    """A text of a form: what it has to be in words, and as a regular expression."""

    words: str
    pattern: str

    def holds(self, value: str) -> bool:
        """Whether a text is of the form."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


class HexNumber(NamedTuple):
    """A text of 0x and hex digits for a number from 1 to below `end`; `words` says what it has to be."""

    words: str
    end: int

    def holds(self, value: str) -> bool:
        """Whether a text is such a number.

        >>> small = HexNumber("a small one", 0x10)
        >>> [small.holds(text) for text in ("0xf", "0x10", "0x0", "f", "0x")]
        [True, False, False, False, False]
        """
        return re.fullmatch(r"0x[0-9A-Fa-f]{1,64}", value) is not None and 0 < int(value, 16) < self.end

    def __str__(self) -> str:
        return self.words


Rule = Range | Text | HexNumber


class Order(NamedTuple):
    """`low` must not exceed `high`; where `zero_is_none`, a zero in `high` means that there is no limit."""

    low: str
    high: str
    zero_is_none: bool = False


class Relation(NamedTuple):
    """What several settings must be together; the first of `names` is the one that a message is about."""

    names: tuple[str, ...]
    expected: str
    holds: Callable[[Mapping[str, Any]], bool]


_POSITIVE: Final = Range(above=True)
_FRACTION: Final = Range(high=1.0)

# Order of the group of the Stark curve: private keys are below it.
_STARK_GROUP: Final = 0x0800000000000010FFFFFFFFFFFFFFFFB781126DCAE7B2321E66A241ADC64D2F

# Shorter ones can be guessed.
_TOKEN: Final = Text(
    "a token of 16 to 256 letters, digits and signs, no spaces or quotes", r"[!#-&(-~]{16,256}"
)

RULES: Final[Mapping[str, Rule]] = {
    # It goes out as a header: a line break in it would be another one.
    "api_key": Text("a key of up to 256 letters, digits and signs, no spaces or quotes", r"[!#-&(-~]{1,256}"),
    "metrics_token": _TOKEN,
    "emulator_token": _TOKEN,
    "stark_private_key": HexNumber(
        "0x and up to 64 hex digits, a number above 0 and below the order of the Stark curve", _STARK_GROUP
    ),
    "order_id_prefix": Text("1 to 16 letters, digits and underscores", r"[A-Za-z0-9_]{1,16}"),
    "journal_max_bytes": Range(10_000),
    "journal_queue_records": Range(100),
    "journal_close_timeout_s": _POSITIVE,
    "position_refresh_s": _POSITIVE,
    "idle_look_s": _POSITIVE,
    "order_expiry_s": Range(10.0),
    "order_request_timeout_s": _POSITIVE,
    "order_pending_timeout_s": _POSITIVE,
    "order_lookup_interval_s": _POSITIVE,
    "order_not_found_settle_s": _POSITIVE,
    "order_snapshot_interval_s": _POSITIVE,
    "cancel_all_timeout_s": _POSITIVE,
    "cancel_all_retry_s": _POSITIVE,
    "order_tombstones_kept": Range(10),
    "num_levels": Range(1, 20),
    "level_size_usd": _POSITIVE,
    "level_size_growth": _POSITIVE,
    "max_depth_share": _POSITIVE,
    "micro_price_weight": _FRACTION,
    "micro_price_table": Range(-1.0, 1.0),
    "quote_lifetime_s": _POSITIVE,
    "max_offset_bps": Range(0.0, 5_000.0, above=True),
    "price_offset_per_level_percent": Range(high=50.0),
    "inventory_skew_factor": _FRACTION,
    "skew_shape": _POSITIVE,
    "skew_deadband": Range(high=0.99),
    "spread_ema_s": _POSITIVE,
    "spread_ema_alpha": _FRACTION,
    "reprice_size_tolerance": _FRACTION,
    "max_order_age_s": _POSITIVE,
    "stale_after_s": _POSITIVE,
    "warmup_limit_scale": Range(0.0, 1.0, above=True),
    "book_depth_levels": Range(1),
    "max_margin_utilisation": _FRACTION,
    "min_liquidation_distance": _FRACTION,
    "stress_move": _FRACTION,
    "mark_price_band": _FRACTION,
}

ORDERED: Final[Sequence[Order]] = (
    Order("min_offset_bps", "max_offset_bps"),
    Order("min_reprice_interval_s", "max_order_age_s"),
)


def _is_renewed_in_time(values: Mapping[str, Any]) -> bool:
    scales = (values["vol_order_age_scale_calm"], values["vol_order_age_scale_elevated"])
    scale = max(1.0, *scales) if values["vol_regime_enabled"] else 1.0
    return bool(values["max_order_age_s"] * scale < values["order_expiry_s"])


def _fits_an_order(values: Mapping[str, Any]) -> bool:
    limit_usd, outermost = values["max_order_notional_usd"], values["num_levels"] - 1
    try:
        growth = max(1.0, values["level_size_growth"] ** outermost)
    except OverflowError:
        growth = math.inf
    return bool(limit_usd == 0 or values["level_size_usd"] * growth <= limit_usd)


def _is_quoted(values: Mapping[str, Any]) -> bool:
    return values["hedge_market"] in ("", *values["markets"])


def _looks_in_time(values: Mapping[str, Any]) -> bool:
    return bool(values["idle_look_s"] < values["order_request_timeout_s"])


_OF_MODELS: Final = ("model_a_per_s", "model_k_per_bps", "model_sigma_bps", "max_position_notional_usd")


def _has_its_model(values: Mapping[str, Any]) -> bool:
    # A replay has the plain number of it.
    by_model = values["offset_mode"] in (OffsetMode.AVELLANEDA_STOIKOV, OffsetMode.GLFT)
    return not by_model or all(values[name] > 0 for name in _OF_MODELS)


RELATED: Final[Sequence[Relation]] = (
    # An order is renewed before the exchange ends it.
    Relation(
        (
            "max_order_age_s",
            "vol_order_age_scale_calm",
            "vol_order_age_scale_elevated",
            "vol_regime_enabled",
            "order_expiry_s",
        ),
        "the age in any regime (times vol_order_age_scale_calm or _elevated) below order_expiry_s",
        _is_renewed_in_time,
    ),
    Relation(
        ("level_size_usd", "level_size_growth", "num_levels", "max_order_notional_usd"),
        "the largest level (times level_size_growth ^ (num_levels - 1)) at most max_order_notional_usd",
        _fits_an_order,
    ),
    # Without them a model has no distances, and the floor alone would be quoted.
    Relation(
        _OF_MODELS,
        "these above 0 where offset_mode is avellaneda_stoikov or glft; mm calibrate --write finds the first "
        "three of each market, so set offset_mode for the same markets",
        _has_its_model,
    ),
    # A look that comes later would find slots that wait for their replies, and feed no dead man's switch.
    Relation(
        ("idle_look_s", "order_request_timeout_s"),
        "idle_look_s below order_request_timeout_s",
        _looks_in_time,
    ),
    Relation(("hedge_market", "markets"), "one of the quoted markets, or nothing for the first", _is_quoted),
)

# One limit for the account as a whole: a value for one market would be ignored.
ACCOUNT_WIDE: Final = frozenset(
    {
        "max_gross_notional_usd",
        "max_margin_utilisation",
        "min_liquidation_distance",
        "stress_move",
        "max_stress_loss_usd",
        "mark_price_band",
        "max_orders_per_s",
        "max_day_loss_usd",
        "max_drawdown_usd",
    }
)


def disorder(
    ordered: Sequence[Order], values: Mapping[str, Any], origins: Mapping[str, str]
) -> Iterator[str]:
    """Say which values exceed what they must not."""
    for low, high, zero_is_none in ordered:
        unlimited = zero_is_none and values[high] == 0
        if values[low] > values[high] and not unlimited:
            limit = f"{high} ({values[high]:g}, from {origins[high]})"
            yield f"{low}: expected at most {limit}, was {values[low]:g} (from {origins[low]})"


def unrelated(
    related: Sequence[Relation], values: Mapping[str, Any], origins: Mapping[str, str]
) -> Iterator[str]:
    """Say which settings do not fit together."""
    for names, expected, holds in related:
        if not holds(values):
            found = ", ".join(f"{name} = {_shown(values[name])} (from {origins[name]})" for name in names)
            yield f"{names[0]}: expected {expected}, was {found}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)
