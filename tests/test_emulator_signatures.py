"""Signatures of orders as the exchange checks them: golden vectors, the official client, forgeries."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from emulator_served import sdk_config
from hypothesis import given, settings
from hypothesis import strategies as st
from x10.core.stark_account import StarkPerpetualAccount
from x10.models.market import MarketModel
from x10.models.order import OrderSide
from x10.signing.order_object import create_order_object

from market_maker.domain import Side
from market_maker.emulator.bodies import order_request, read_order, signed_order
from market_maker.emulator.scenarios import instruments
from market_maker.emulator.settlement import COLLATERAL_ID, L2Config, l2_config
from market_maker.emulator.signatures import (
    Amounts,
    Domain,
    SignedOrder,
    account_keys,
    amounts_of,
    order_hash,
    settlement_code,
)

CONFIG = L2Config("0x4254432d3600000000000000000000", 1_000_000)
PUBLIC_KEY = "0x61c5e7e8339b7d56f197f54ea91b776776690e3232313de0f2ecbd0ef76f466"
VAULT = 10_002
DOMAIN = Domain()


def golden(side: Side, expiry_ms: int, r: str, s: str) -> SignedOrder:
    return SignedOrder(
        side=side,
        qty=Decimal("0.001"),
        price=Decimal("43445.1168"),
        fee=Decimal("0.0005"),
        expiry_ms=expiry_ms,
        nonce=1_473_459_052,
        vault=VAULT,
        public_key=int(PUBLIC_KEY, 16),
        r=int(r, 16),
        s=int(s, 16),
    )


SELL = golden(
    Side.SELL,
    1_705_626_536_861,
    "0x604ef07147d4251385eaaa630e6a71db8f0a8c7cb33021c98698047db80edfa",
    "0x6c707d9a06604d3f8ffd34378bf4fce7c0aaf50cba4cf37c3525c323106cda5",
)
EARLIER_SELL = golden(
    Side.SELL,
    1_704_420_537_000,
    "0x3d17d8b9652e5f60d40d079653cfa92b1065ea8cf159609a3c390070dcd44f7",
    "0x76a6deccbc84ac324f695cfbde80e0ed62443e95f5dcd8722d12650ccc122e5",
)
BUY = golden(
    Side.BUY,
    1_705_626_536_861,
    "0xa55625c7d5f1b85bed22556fc805224b8363074979cf918091d9ddb1403e13",
    "0x504caf634d859e643569743642ccf244434322859b2421d76f853af43ae7a46",
)
VECTORS = [
    (
        EARLIER_SELL,
        Amounts(-1000, 43_445_116, 21_723),
        529621978301228831750156704671293558063128025271079340676658105549022202327,
    ),
    (
        SELL,
        Amounts(-1000, 43_445_116, 21_723),
        2969335148777495210033041829700798003994871688044444919524700744667647811801,
    ),
    (
        BUY,
        Amounts(1000, -43_445_117, 21_723),
        2495374044666992118771096772295242242651427695217815113349321039194683172848,
    ),
]


def code(
    order: SignedOrder, public_key: str = PUBLIC_KEY, vault: int = VAULT, domain: Domain = DOMAIN
) -> int:
    return settlement_code(order, public_key, vault, CONFIG, domain)


@pytest.mark.parametrize(("order", "amounts", "message"), VECTORS)
def test_the_official_vectors(order, amounts, message):
    assert amounts_of(order, CONFIG) == amounts
    assert order_hash(order, CONFIG, DOMAIN) == message
    assert code(order) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"side": Side.BUY},
        {"qty": Decimal("0.001001")},
        {"price": Decimal("43445.12")},
        {"fee": Decimal("0.0006")},
        {"expiry_ms": SELL.expiry_ms + 1000},
        {"nonce": SELL.nonce + 1},
        {"r": SELL.r + 1},
        {"s": SELL.s + 1},
    ],
)
def test_what_was_not_signed_is_refused(change):
    assert code(SELL._replace(**change)) == 1101


def test_the_signature_is_for_one_network():
    assert code(SELL, domain=Domain(chain_id="SN_MAIN")) == 1101


def test_the_key_and_the_vault_are_the_accounts():
    assert code(SELL._replace(public_key=int(account_keys(1, 0).public_key, 16))) == 1100
    assert code(SELL, public_key=account_keys(1, 0).public_key) == 1100
    assert code(SELL, vault=VAULT + 1) == 1102
    assert code(SELL._replace(vault=VAULT + 1)) == 1102


@pytest.mark.parametrize(
    "change",
    [
        {"r": 0},
        {"s": 0},
        {"r": 2**252},
        {"s": 2**252},
        {"r": -1},
        # Its inverse is out of range: the library would panic.
        {"s": 3},
        {"qty": Decimal("1e20")},
        {"price": Decimal("1e20")},
        {"fee": Decimal(-1)},
        {"nonce": -1},
        {"nonce": 2**32},
        {"expiry_ms": 2**63},
        {"expiry_ms": -1},
    ],
)
def test_numbers_out_of_range_are_no_signature(change):
    assert code(SELL._replace(**change)) == 1101


def test_an_expiry_is_signed_in_whole_seconds_rounded_up():
    later = SELL._replace(expiry_ms=SELL.expiry_ms + 100)
    assert order_hash(later, CONFIG, DOMAIN) == order_hash(SELL, CONFIG, DOMAIN)


def test_the_keys_of_a_seed_are_always_the_same_and_of_no_other():
    keys = [account_keys(seed, index) for seed in (1, 2) for index in (0, 1)]
    assert keys == [account_keys(seed, index) for seed in (1, 2) for index in (0, 1)]
    assert len({each.private_key for each in keys}) == len({each.api_key for each in keys}) == 4
    assert [each.vault for each in keys] == [10_001, 10_002, 10_001, 10_002]
    assert all(each.api_key not in repr(each) and each.private_key not in repr(each) for each in keys)


def test_assets_are_named_as_the_exchange_names_them():
    btc, wif = (l2_config(instrument) for instrument in instruments(("BTC-USD", "WIF-USD")))
    assert btc == L2Config("0x4254432d3600000000000000000000", 1_000_000, COLLATERAL_ID, 1_000_000)
    assert bytes.fromhex(wif.synthetic_id[2:]).rstrip(b"\0") == b"WIF-1"
    assert wif.synthetic_resolution == 10


def market_model() -> MarketModel:
    """The official client's model of the market of the vectors."""
    zero = dict.fromkeys(
        (
            "dailyVolume",
            "dailyVolumeBase",
            "dailyPriceChange",
            "dailyLow",
            "dailyHigh",
            "lastPrice",
            "askPrice",
            "bidPrice",
            "markPrice",
            "indexPrice",
            "fundingRate",
            "nextFundingRate",
            "openInterest",
            "openInterestBase",
        ),
        "0",
    )
    limits = dict.fromkeys(
        (
            "minOrderSize",
            "minOrderSizeChange",
            "minPriceChange",
            "maxMarketOrderValue",
            "maxLimitOrderValue",
            "maxPositionValue",
            "maxLeverage",
            "maxNumOrders",
            "limitPriceCap",
            "limitPriceFloor",
        ),
        "1",
    )
    return MarketModel.model_validate(
        {
            "name": "BTC-USD",
            "type": "PERPETUAL",
            "assetName": "BTC",
            "assetPrecision": 5,
            "collateralAssetName": "USD",
            "collateralAssetPrecision": 6,
            "active": True,
            "isRfq": False,
            "isOffHours": False,
            "tradingHours": "CONTINUOUS",
            "marketStats": zero,
            "tradingConfig": limits | {"riskFactorConfig": []},
            "l2Config": {
                "type": "STARKX",
                "collateralId": CONFIG.collateral_id,
                "collateralResolution": CONFIG.collateral_resolution,
                "syntheticId": CONFIG.synthetic_id,
                "syntheticResolution": CONFIG.synthetic_resolution,
            },
        }
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from(OrderSide),
    lots=st.integers(1, 10**8),
    ticks=st.integers(1, 10**9),
    fee=st.integers(0, 10**4),
    builder=st.none() | st.integers(0, 10**4),
    nonce=st.integers(0, 2**32 - 1),
    life_ms=st.integers(1, 10**10),
)
def test_whatever_the_official_client_signs_is_accepted(side, lots, ticks, fee, builder, nonce, life_ms):
    keys = account_keys(3, 1)
    account = StarkPerpetualAccount(keys.vault, keys.private_key, keys.public_key, keys.api_key)
    order = create_order_object(
        account=account,
        market=market_model(),
        amount_of_synthetic=Decimal(lots).scaleb(-5),
        price=Decimal(ticks).scaleb(-2),
        side=side,
        starknet_domain=sdk_config("http://x").signing.starknet_domain,
        expire_time=datetime(2026, 1, 5, tzinfo=UTC) + timedelta(milliseconds=life_ms),
        nonce=nonce,
        taker_fee=Decimal(fee).scaleb(-6),
        builder_fee=None if builder is None else Decimal(builder).scaleb(-6),
        builder_id=None if builder is None else 7,
    )
    body = read_order(order.model_dump_json(by_alias=True, exclude_none=True).encode())
    signed = signed_order(body, order_request(body))
    assert order_hash(signed, CONFIG, DOMAIN) == int(order.id)
    assert settlement_code(signed, keys.public_key, keys.vault, CONFIG, DOMAIN) == 0
