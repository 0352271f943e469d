"""Signatures of orders, as the exchange checks them: the only door of this side to `fast_stark_crypto`.

The message is rebuilt from the JSON body and the market's settlement assets (extended-api.md §5). Nothing of
the bot's own signing is used, so that a mistake on either side shows.
"""

import hashlib
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Final, NamedTuple

from fast_stark_crypto import get_order_msg_hash, get_public_key, verify

from market_maker.domain import Side
from market_maker.emulator.settlement import L2Config

# Order of the curve's group: private keys, r and s lie between 0 and this.
_CURVE_ORDER: Final = 0x800000000000010FFFFFFFFFFFFFFFFB781126DCAE7B2321E66A241ADC64D2F
_FELT_LIMIT: Final = 2**251
_FIRST_VAULT: Final = 10_001
_EXTRA_LIFE_S: Final = 14 * 86_400
_MS: Final = 1000
_DIGITS: Final = 80
_I64: Final = 2**63
_U32: Final = 2**32

PUBLIC_KEY_REFUSED: Final = 1100
SIGNATURE_REFUSED: Final = 1101
VAULT_REFUSED: Final = 1102


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """Keys of a test account, hexadecimal; they are the same wherever the same seed is used: no secrets."""

    api_key: str = field(repr=False)
    private_key: str = field(repr=False)
    public_key: str
    vault: int


def account_keys(seed: int, index: int) -> AccountKeys:
    """Derive the keys of a test account."""
    digest = hashlib.sha512(f"extended-market-maker test account {seed} {index}".encode()).digest()
    private_key = int.from_bytes(digest[:48], "big") % (_CURVE_ORDER - 1) + 1
    return AccountKeys(
        api_key=digest[48:].hex(),
        private_key=hex(private_key),
        public_key=hex(get_public_key(private_key)),
        vault=_FIRST_VAULT + index,
    )


@dataclass(frozen=True, slots=True)
class Domain:
    """Domain of the signed messages: which network they are meant for."""

    chain_id: str = "SN_SEPOLIA"
    name: str = "Perpetuals"
    version: str = "v0"
    revision: str = "1"


class SignedOrder(NamedTuple):
    """What of an order is signed, with the signature.

    Numbers are finite; `fee` is the fee rate with that of the builder.
    """

    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    expiry_ms: int
    nonce: int
    vault: int
    public_key: int
    r: int
    s: int


class Amounts(NamedTuple):
    """Signed amounts in the units of the settlement layer."""

    base: int
    quote: int
    fee: int


def amounts_of(order: SignedOrder, config: L2Config) -> Amounts:
    """Round a buy's amounts up and a sell's down, the fee up; what is given away is negative."""
    rounding = ROUND_CEILING if order.side is Side.BUY else ROUND_FLOOR
    with localcontext() as context:
        context.prec = _DIGITS
        value = order.qty * order.price * config.collateral_resolution
        base = int((order.qty * config.synthetic_resolution).to_integral_value(rounding))
        quote = int(value.to_integral_value(rounding))
        fee = int((order.fee * value).to_integral_value(ROUND_CEILING))
    sign = int(order.side)
    return Amounts(sign * base, -sign * quote, fee)


def order_hash(order: SignedOrder, config: L2Config, domain: Domain) -> int:
    """Hash of the message that an order's signature signs."""
    amounts = amounts_of(order, config)
    collateral = int(config.collateral_id, 16)
    return int(
        get_order_msg_hash(
            position_id=order.vault,
            base_asset_id=int(config.synthetic_id, 16),
            base_amount=amounts.base,
            quote_asset_id=collateral,
            quote_amount=amounts.quote,
            fee_asset_id=collateral,
            fee_amount=amounts.fee,
            expiration=-(-order.expiry_ms // _MS) + _EXTRA_LIFE_S,
            salt=order.nonce,
            user_public_key=order.public_key,
            domain_name=domain.name,
            domain_version=domain.version,
            domain_chain_id=domain.chain_id,
            domain_revision=domain.revision,
        )
    )


def settlement_code(order: SignedOrder, public_key: str, vault: int, config: L2Config, domain: Domain) -> int:
    """Check an order's settlement against the account's keys; return an error code, 0 if all is well."""
    if order.public_key != int(public_key, 16):
        return PUBLIC_KEY_REFUSED
    if order.vault != vault:
        return VAULT_REFUSED
    return 0 if _fits(order, config) and _is_signed(order, config, domain) else SIGNATURE_REFUSED


def _is_signed(order: SignedOrder, config: L2Config, domain: Domain) -> bool:
    return bool(verify(order.public_key, order_hash(order, config, domain), order.r, order.s))


def _fits(order: SignedOrder, config: L2Config) -> bool:
    """Whether the message can be built at all; the library would panic where a number is out of range."""
    if not (0 < order.r < _FELT_LIMIT and 0 < order.s < _FELT_LIMIT):
        return False
    if pow(order.s, -1, _CURVE_ORDER) >= _FELT_LIMIT:
        return False
    amounts = amounts_of(order, config)
    sizes_fit = all(abs(amount) < _I64 for amount in amounts) and amounts.fee >= 0
    return sizes_fit and 0 <= order.nonce < _U32 and 0 <= order.expiry_ms < _I64 and 0 <= order.vault < _U32
