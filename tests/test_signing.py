"""Our signatures against the exchange's golden vectors and against its own client."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fast_stark_crypto import verify
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from x10.config import TESTNET_CONFIG
from x10.core.stark_account import StarkPerpetualAccount
from x10.models.market import L2ConfigModel, MarketModel
from x10.models.order import OrderSide
from x10.models.order import TimeInForce as SdkTimeInForce
from x10.signing.order_object import create_order_object

from market_maker.config_sections import Secret
from market_maker.domain import NS_PER_MS, NewOrder, Side
from market_maker.exchanges.settlements import Settlement, decode_settlements
from market_maker.exchanges.signing import Amounts, OrderSigner, OrderTerms
from market_maker.exchanges.wire import Unknown
from market_maker.gateway import CredentialsRefused, OrderRefused
from market_maker.instrument import Instrument

PRIVATE_KEY = "0x7a7ff6fd3cab02ccdcd4a572563f5976f8976899b03a39773795a3c486d4986"
PUBLIC_KEY = "0x61c5e7e8339b7d56f197f54ea91b776776690e3232313de0f2ecbd0ef76f466"
COLLATERAL = "0x31857064564ed0ff978e687456963cba09c2c6985d8f9300a1de4962fafa054"
SYNTHETIC = "0x4254432d3600000000000000000000"
VAULT = 10002
BTC_SETTLEMENT = Settlement(SYNTHETIC, 1_000_000, COLLATERAL, 1_000_000)
SIGNER = OrderSigner(Secret(PRIVATE_KEY), VAULT, "SN_SEPOLIA")

# case, expiry ms, amounts, hash, r, s (extended-api.md §10)
GOLDEN = [
    (
        Side.SELL,
        1704420537000,
        Amounts(-1000, 43445116, 21723),
        529621978301228831750156704671293558063128025271079340676658105549022202327,
        "0x3d17d8b9652e5f60d40d079653cfa92b1065ea8cf159609a3c390070dcd44f7",
        "0x76a6deccbc84ac324f695cfbde80e0ed62443e95f5dcd8722d12650ccc122e5",
    ),
    (
        Side.SELL,
        1705626536861,
        Amounts(-1000, 43445116, 21723),
        2969335148777495210033041829700798003994871688044444919524700744667647811801,
        "0x604ef07147d4251385eaaa630e6a71db8f0a8c7cb33021c98698047db80edfa",
        "0x6c707d9a06604d3f8ffd34378bf4fce7c0aaf50cba4cf37c3525c323106cda5",
    ),
    (
        Side.BUY,
        1705626536861,
        Amounts(1000, -43445117, 21723),
        2495374044666992118771096772295242242651427695217815113349321039194683172848,
        "0xa55625c7d5f1b85bed22556fc805224b8363074979cf918091d9ddb1403e13",
        "0x504caf634d859e643569743642ccf244434322859b2421d76f853af43ae7a46",
    ),
]


def instrument(tick="0.0001", step="0.001"):
    return Instrument("BTC-USD", Decimal(tick), Decimal(step), Decimal(step))


def order(side, expire_ms, **changes):
    plain = NewOrder(
        market="BTC-USD",
        external_id="mm-0-abc",
        side=side,
        price_ticks=434451168,
        size_lots=1,
        post_only=True,
        reduce_only=False,
        immediate_or_cancel=False,
        expire_ns=expire_ms * NS_PER_MS,
        nonce=1473459052,
    )
    return plain._replace(**changes)


@pytest.mark.parametrize(("side", "expire_ms", "amounts", "message", "r", "s"), GOLDEN)
def test_golden_vectors_of_the_exchange(side, expire_ms, amounts, message, r, s):
    terms = OrderTerms(instrument(), BTC_SETTLEMENT, Decimal("0.0005"))
    new = order(side, expire_ms)
    body = json.loads(SIGNER.body(new, terms))
    assert terms.amounts(side, new.price_ticks, new.size_lots) == amounts
    assert SIGNER.message_hash(new, terms) == hex(message)
    assert SIGNER.public_key == body["settlement"]["starkKey"] == PUBLIC_KEY
    assert body["settlement"]["signature"] == {"r": r, "s": s}
    assert verify(int(PUBLIC_KEY, 16), message, int(r, 16), int(s, 16))


def sdk_market(scale, settlement):
    """The market as the exchange's own client has it; only what its signing reads is of consequence."""
    return MarketModel.model_construct(
        name=scale.name,
        asset_name="BTC",
        asset_precision=5,
        collateral_asset_name="USD",
        collateral_asset_precision=6,
        is_rfq=False,
        l2_config=L2ConfigModel(
            type="STARKX",
            collateral_id=settlement.collateral_id,
            collateral_resolution=settlement.collateral_resolution,
            synthetic_id=settlement.synthetic_id,
            synthetic_resolution=settlement.synthetic_resolution,
        ),
    )


def sdk_order(new, scale, settlement, fee_rate):
    return create_order_object(
        account=StarkPerpetualAccount(VAULT, PRIVATE_KEY, PUBLIC_KEY, "no key"),
        market=sdk_market(scale, settlement),
        amount_of_synthetic=scale.size(new.size_lots),
        price=scale.price(new.price_ticks),
        side=OrderSide.BUY if new.side == Side.BUY else OrderSide.SELL,
        starknet_domain=TESTNET_CONFIG.signing.starknet_domain,
        post_only=new.post_only,
        previous_order_external_id=new.replaces or None,
        expire_time=datetime.fromtimestamp(new.expire_ns // NS_PER_MS / 1000, tz=UTC),
        # Without an id of ours the client uses the hash, which then can be compared.
        order_external_id=new.external_id or None,
        time_in_force=SdkTimeInForce.IOC if new.immediate_or_cancel else SdkTimeInForce.GTT,
        nonce=new.nonce,
        taker_fee=fee_rate,
        reduce_only=new.reduce_only,
    ).to_api_request_json(exclude_none=True)


@st.composite
def signed_cases(draw):
    steps = st.sampled_from(["1", "10", "0.1", "0.5", "0.25", "0.00001", "0.003", "0.0001"])
    settlement = Settlement(
        SYNTHETIC,
        draw(st.sampled_from([1, 100, 1_000_000, 10_000_000_000])),
        draw(st.sampled_from(["0x1", COLLATERAL])),
        1_000_000,
    )
    immediate = draw(st.booleans())
    new = order(
        draw(st.sampled_from(Side)),
        draw(st.integers(1_700_000_000_000, 1_900_000_000_000)),
        external_id=draw(st.sampled_from(["", "mm-1-x_9"])),
        price_ticks=draw(st.integers(1, 20_000_000)),
        size_lots=draw(st.integers(1, 50_000_000)),
        post_only=draw(st.booleans()) and not immediate,
        immediate_or_cancel=immediate,
        reduce_only=draw(st.booleans()),
        nonce=draw(st.integers(1, 2**31 - 1)),
        replaces=draw(st.sampled_from(["", "mm-0-old"])),
    )
    fee_rate = draw(st.sampled_from(["0", "0.00025", "0.0005", "0.000123456", "0.0000001"]))
    return new, instrument(draw(steps), draw(steps)), settlement, Decimal(fee_rate)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(signed_cases())
def test_orders_equal_those_of_the_exchanges_own_client(case):
    new, scale, settlement, fee_rate = case
    try:
        OrderTerms(scale, settlement, fee_rate).amounts(new.side, new.price_ticks, new.size_lots)
    except OrderRefused:
        # What is signed has room for no more.
        reject()
    theirs = sdk_order(new, scale, settlement, fee_rate)
    # Their client goes through a float and may round a millisecond up; the same instant is signed by both.
    new = new._replace(expire_ns=theirs["expiryEpochMillis"] * NS_PER_MS)
    terms = OrderTerms(scale, settlement, fee_rate)
    if not new.external_id:
        new = new._replace(external_id=str(int(SIGNER.message_hash(new, terms), 16)))
    ours = json.loads(SIGNER.body(new, terms))
    assert ours.keys() == theirs.keys()
    assert Decimal(ours.pop("fee")) == Decimal(theirs.pop("fee"))
    assert ours == theirs


@given(
    st.sampled_from(Side),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    # The largest value is 3e18 smallest units: an order must stay below 2^63 of them.
    st.decimals(Decimal("1e-8"), 1000, places=8),
    st.decimals(0, Decimal("0.01"), places=6),
)
def test_amounts_are_rounded_against_us_by_less_than_a_unit(side, ticks, lots, tick, fee_rate):
    scale = Instrument("X-USD", tick, Decimal("0.003"), Decimal("0.003"))
    terms = OrderTerms(scale, Settlement("0x2", 1000, "0x1", 1_000_000), fee_rate)
    amounts = terms.amounts(side, ticks, lots)
    size, value = 3 * lots, scale.value(ticks, lots) * 1_000_000
    assert amounts.synthetic == side * size
    # What is given is rounded up, what is received is rounded down.
    assert 0 <= -side * value - amounts.collateral < 1
    assert 0 <= amounts.fee - value * fee_rate < 1


@pytest.mark.parametrize(
    ("ticks", "lots", "fee_rate"), [(1, 2**63, "0"), (2**63, 1, "0"), (2**40, 2**22, "2"), (2**62, 2, "0")]
)
@pytest.mark.parametrize("side", Side)
def test_more_than_can_be_signed_is_refused_and_the_most_is_not(side, ticks, lots, fee_rate):
    scale = Instrument("X-USD", Decimal(1), Decimal(1), Decimal(1))
    terms = OrderTerms(scale, Settlement("0x2", 1, "0x1", 1), Decimal(fee_rate))
    with pytest.raises(OrderRefused, match=r"X-USD: expected an order below 2\^63"):
        terms.amounts(side, ticks, lots)
    most = order(side, 0)._replace(price_ticks=1, size_lots=2**63 - 1)
    assert SIGNER.body(most, OrderTerms(scale, Settlement("0x2", 1, "0x1", 1), Decimal(1)))


def test_an_expiry_within_a_millisecond_is_rounded_up():
    terms = OrderTerms(instrument(), BTC_SETTLEMENT, Decimal(0))
    new = order(Side.BUY, 0, expire_ns=1_700_000_000_000 * NS_PER_MS + 1)
    assert json.loads(SIGNER.body(new, terms))["expiryEpochMillis"] == 1_700_000_000_001


@pytest.mark.parametrize("key", ["", "0", "0x0", "swordfish", "0x" + "f" * 63, "-0x5", "7a7ff6" * 12])
def test_a_key_that_is_none_is_refused_and_not_shown(key):
    with pytest.raises(
        CredentialsRefused, match="stark_private_key: expected a hexadecimal number"
    ) as refusal:
        OrderSigner(Secret(key), VAULT, "SN_SEPOLIA")
    assert not key or key not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_signer_shows_its_public_key_only():
    assert PRIVATE_KEY[2:] not in repr(SIGNER)
    assert PRIVATE_KEY[2:] not in repr(vars(SIGNER))
    assert PUBLIC_KEY in repr(SIGNER)
    assert OrderSigner(Secret(PRIVATE_KEY.removeprefix("0x")), VAULT, "SN_SEPOLIA").public_key == PUBLIC_KEY


def test_settlements_are_read_from_the_markets_reply():
    unknown = Unknown()
    body = json.dumps(
        {
            "status": "OK",
            "data": [
                {
                    "name": "BTC-USD",
                    "l2Config": {
                        "type": "STARKX",
                        "collateralId": "0x01",
                        "syntheticId": SYNTHETIC.upper().replace("X", "x"),
                        "syntheticResolution": 1000000,
                        "collateralResolution": "1000000",
                    },
                },
                {"name": "OLD-USD"},
                {
                    "name": "ZERO-USD",
                    "l2Config": {
                        "collateralId": "0x1",
                        "syntheticId": "0x2",
                        "syntheticResolution": 0,
                        "collateralResolution": 1,
                    },
                },
            ],
        }
    ).encode()
    assert decode_settlements(body, unknown) == {
        "BTC-USD": Settlement(SYNTHETIC, 1_000_000, "0x1", 1_000_000)
    }
    assert unknown.total() == 2
