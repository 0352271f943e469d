"""The official SDK, as it is, against the emulator: everything that it can do in an order's life."""

import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest
import websockets
from emulator_served import BTC, ETH, world
from inside import in_virtual_time
from x10.errors import ApiError, ApiNotAuthorizedError, ApiRateLimitError
from x10.models.order import OrderSide, OrderSortBy, OrderType, TimeInForce
from x10.signing.order_object import create_order_object

from market_maker.domain import Side
from market_maker.emulator.faults import Faults
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.emulator.rules import ExchangeRules, MoneyRules, OrderRules
from market_maker.emulator.server import ServerRules
from market_maker.emulator.signatures import account_keys

pytestmark = pytest.mark.slow

SIZE = Decimal("0.01")
FEE = Decimal("0.0005")
AWAY = Decimal(83_900)
ASK = Decimal(84_010)


def inside(program, rules=None, server_rules=None, **how):
    """Run a coroutine function of a served world in virtual time."""

    async def main():
        async with world(rules, server_rules, **how) as here:
            return await program(here)

    return in_virtual_time(main)


async def place(here, client, *, market=BTC, side=OrderSide.BUY, price=AWAY, size=SIZE, **how):
    """Place an order; return its ids once the matching engine had the time to see it."""
    given = {"taker_fee": FEE, "expire_time": here.in_an_hour()} | how
    placed = await client.place_order(market, size, price, side, **given)
    assert placed.status == "OK"
    await asyncio.sleep(0.2)
    return placed.data


async def market_order(here, client, side, price):
    """A MARKET order, which the SDK's own `place_order` can not send."""
    markets = await client.info.get_markets_dict()
    order = create_order_object(
        account=client.stark_account,
        market=markets[BTC],
        amount_of_synthetic=SIZE,
        price=price,
        side=side,
        starknet_domain=client.config.signing.starknet_domain,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        expire_time=here.in_an_hour(),
        taker_fee=FEE,
    )
    placed = await client.orders.place_order(order)
    await asyncio.sleep(0.2)
    return placed.data


async def status_of(client, order_id) -> str:
    return (await client.account.get_order_by_id(order_id)).data.status


async def open_ids(client, **which) -> list[int]:
    return [order.id for order in (await client.account.get_open_orders(**which)).data]


def test_markets_and_everything_public():
    async def program(here):
        client = here.sdk()
        markets = await client.info.get_markets_dict()
        assert list(markets) == [BTC, ETH]
        [only] = (await client.info.get_markets(market_names=[ETH])).data
        assert only.name == ETH
        btc = markets[BTC]
        assert btc.l2_config.synthetic_id == "0x4254432d3600000000000000000000"
        assert btc.synthetic_asset.starkex_resolution == 1_000_000
        assert btc.trading_config.round_price(Decimal("83900.4")) == 83_901
        assert btc.trading_config.max_position_value_for_leverage(Decimal(50)) == 4_000_000
        stats = (await client.info.get_market_statistics(market_name=BTC)).data
        assert (stats.bid_price, stats.ask_price, stats.mark_price) == (83_990, 84_010, 84_000)
        book = (await client.info.get_orderbook_snapshot(market_name=BTC)).data
        assert [level.price for level in book.bid] == [83_990, 83_980]
        assert [level.price for level in book.ask] == [84_010, 84_020]
        assets = await client.info.get_assets_dict()
        assert set(assets) == {"USD", "BTC", "ETH"}
        assert assets["BTC"].starkex_resolution == 1_000_000
        assert (await client.info.get_asset_price(asset_name="BTC")).data == 84_000
        assert (await client.info.get_settings()).data.stark_ex_contract_address

    inside(program)


def test_candles_of_three_kinds():
    async def program(here):
        client = here.sdk()
        here.feed(TakerOrder(Side.BUY, 84_010, 500))
        await asyncio.sleep(200)
        for kind, close in (("trades", 84_010), ("mark-prices", 84_000), ("index-prices", 84_000)):
            ask = {"market_name": BTC, "candle_type": kind, "limit": 2}
            newest, older = (await client.info.get_candles_history(interval="PT1M", **ask)).data
            assert newest.timestamp - older.timestamp == 60_000
            assert (newest.close, newest.volume is None) == (close, kind != "trades")
        assert (await client.info.get_candles_history(interval="PT4H", **ask)).data == []

    inside(program)


def test_funding_rates_that_were_applied():
    async def program(here):
        client = here.sdk()
        began = here.now
        await asyncio.sleep(65)
        rates = (
            await client.info.get_funding_rates_history(
                market_name=BTC, start_time=began, end_time=here.in_an_hour()
            )
        ).data
        assert len(rates) == 3
        assert [rate.market for rate in rates] == [BTC] * 3
        assert rates[0].timestamp > rates[1].timestamp > rates[2].timestamp

    inside(program, ExchangeRules(money=MoneyRules(funding_speedup=180.0)))


def test_the_account_and_its_money():
    async def program(here):
        client, other = here.sdk(0), here.sdk(1)
        account = (await client.account.get_account()).data
        assert (account.id, account.l2_vault) == (here.accounts[0].account_id, here.accounts[0].vault)
        assert int(account.l2_key, 16) == client.stark_account.public_key
        assert [each.id for each in (await client.account.get_accounts()).data] == [account.id]
        assert (await client.account.get_client()).data.id == account.id
        assert (await other.account.get_account()).data.id != account.id
        balance = (await client.account.get_balance()).data
        assert (balance.equity, balance.available_for_trade, balance.initial_margin) == (10_000, 10_000, 0)
        assert (await client.account.get_positions()).data == []
        assert (await client.account.get_positions_history()).data == []
        assert (await client.account.get_spot_balances()).data == []
        [fees] = (await client.account.get_fees(market_names=[BTC], builder_id=7)).data
        assert (fees.maker_fee_rate, fees.taker_fee_rate) == (0, Decimal("0.00025"))

    inside(program)


def test_accounts_of_one_client_know_of_each_other():
    async def program(here):
        accounts = (await here.sdk(1).account.get_accounts()).data
        assert [(each.id, each.account_index) for each in accounts] == [
            (here.accounts[0].account_id, 0),
            (here.accounts[1].account_id, 1),
        ]

    inside(program, clients=(5, 5, 6))


def test_leverage_is_read_and_set_for_each_market():
    async def program(here):
        client = here.sdk()
        await client.account.update_leverage(BTC, Decimal(25))
        leverages = {row.market: row.leverage for row in (await client.account.get_leverage()).data}
        assert leverages == {BTC: 25, ETH: 10}
        [one] = (await client.account.get_leverage([BTC])).data
        assert one.leverage == 25
        with pytest.raises(ApiError, match="1050"):
            await client.account.update_leverage(BTC, Decimal(51))

    inside(program)


def test_a_limit_order_rests_is_found_and_is_cancelled():
    async def program(here):
        client = here.sdk()
        placed = await place(here, client)
        assert placed.id > 2**53
        [order] = (await client.account.get_open_orders(market_names=[BTC], order_side=OrderSide.BUY)).data
        assert (order.id, order.external_id, order.status) == (placed.id, placed.external_id, "NEW")
        assert (order.price, order.qty, order.filled_qty, order.time_in_force) == (AWAY, SIZE, 0, "GTT")
        assert await open_ids(client, order_side=OrderSide.SELL) == []
        assert await open_ids(client, order_type=OrderType.LIMIT) == [placed.id]
        assert (await client.account.get_order_by_id(placed.id)).data.external_id == placed.external_id
        [same] = (await client.account.get_order_by_external_id(placed.external_id)).data
        assert same.id == placed.id
        assert (await client.orders.cancel_order(placed.id)).status == "OK"
        await asyncio.sleep(0.2)
        assert await open_ids(client) == []
        [ended] = (await client.account.get_orders_history()).data
        assert (ended.id, ended.status, ended.cancelled_qty) == (placed.id, "CANCELLED", SIZE)

    inside(program)


def test_cancels_by_external_id_in_mass_and_of_nothing():
    async def program(here):
        client = here.sdk()
        orders = [await place(here, client, external_id=f"o{n}", price=AWAY - n) for n in range(4)]
        orders.append(await place(here, client, market=ETH, price=Decimal(2300), size=Decimal("0.1")))
        await client.orders.cancel_order_by_external_id("o0")
        await client.orders.mass_cancel(order_ids=[orders[1].id], external_order_ids=["o2"])
        await asyncio.sleep(0.2)
        assert await open_ids(client) == [orders[3].id, orders[4].id]
        await client.orders.mass_cancel(markets=[ETH])
        await asyncio.sleep(0.2)
        assert await open_ids(client) == [orders[3].id]
        await client.orders.mass_cancel(cancel_all=True)
        await asyncio.sleep(0.2)
        assert await open_ids(client) == []
        for nothing in (
            client.orders.cancel_order(orders[0].id),
            client.orders.cancel_order_by_external_id("o1"),
        ):
            with pytest.raises(ApiError, match="code 404"):
                await nothing
        with pytest.raises(ApiError, match="1133"):
            await client.orders.mass_cancel()

    inside(program)


def test_an_order_is_replaced_and_the_replacement_is_a_new_one():
    async def program(here):
        client = here.sdk()
        old = await place(here, client, external_id="old")
        new = await place(here, client, external_id="new", price=AWAY + 1, previous_order_id="old")
        assert await open_ids(client) == [new.id]
        [ended] = (await client.account.get_orders_history()).data
        assert (ended.id, ended.status, ended.status_reason) == (old.id, "CANCELLED", "ORDER_REPLACED")
        with pytest.raises(ApiError, match="1142"):
            await place(here, client, previous_order_id="old")
        assert await open_ids(client) == [new.id]

    inside(program)


def test_post_only_ioc_and_market_orders():
    async def program(here):
        client = here.sdk()
        rests = await place(here, client, post_only=True)
        crosses = await place(here, client, post_only=True, price=ASK)
        missed = await place(here, client, time_in_force=TimeInForce.IOC)
        taken = await place(here, client, price=ASK, time_in_force=TimeInForce.IOC)
        assert await status_of(client, rests.id) == "NEW"
        refused = (await client.account.get_order_by_id(crosses.id)).data
        assert (refused.status, refused.status_reason) == ("REJECTED", "POST_ONLY_FAILED")
        nothing = (await client.account.get_order_by_id(missed.id)).data
        assert (nothing.status, nothing.status_reason) == ("CANCELLED", "NO_LIQUIDITY")
        bought = (await client.account.get_order_by_id(taken.id)).data
        assert (bought.status, bought.average_price, bought.filled_qty) == ("FILLED", ASK, SIZE)
        assert bought.payed_fee == ASK * SIZE * Decimal("0.00025")
        sold = await market_order(here, client, OrderSide.SELL, Decimal(83_400))
        order = (await client.account.get_order_by_id(sold.id)).data
        assert (order.type, order.status, order.average_price) == ("MARKET", "FILLED", 83_990)

    inside(program)


def test_reduce_only_orders_and_the_position_that_they_close():
    async def program(here):
        client = here.sdk()
        with pytest.raises(ApiError, match="1137"):
            await place(here, client, reduce_only=True)
        await place(here, client, price=ASK, size=SIZE * 2)
        [position] = (await client.account.get_positions(market_names=[BTC])).data
        assert (position.side, position.size, position.open_price) == ("LONG", SIZE * 2, ASK)
        with pytest.raises(ApiError, match="1138"):
            await place(here, client, reduce_only=True)
        with pytest.raises(ApiError, match="1136"):
            await place(here, client, side=OrderSide.SELL, price=ASK, size=SIZE * 3, reduce_only=True)
        close = {"side": OrderSide.SELL, "price": Decimal(83_990), "reduce_only": True}
        await place(here, client, size=SIZE * 2, time_in_force=TimeInForce.IOC, **close)
        assert (await client.account.get_positions()).data == []
        [ended] = (await client.account.get_positions_history()).data
        assert (ended.id, ended.size, ended.max_position_size) == (position.id, 0, SIZE * 2)
        assert (ended.open_price, ended.exit_price, ended.exit_type) == (ASK, 83_990, "TRADE")
        parts = ended.realised_pnl_breakdown
        assert parts.trade_pnl == -20 * SIZE * 2
        assert parts.trade_pnl + parts.open_fees + parts.close_fees == ended.realised_pnl
        trades = (await client.account.get_trades(market_names=[BTC])).data
        assert [trade.side for trade in trades] == ["SELL", "BUY"]
        assert [trade.is_taker for trade in trades] == [True, True]

    inside(program)


def test_two_accounts_trade_with_each_other():
    async def program(here):
        maker, taker = here.sdk(0), here.sdk(1)
        quote = await place(here, maker, side=OrderSide.SELL, price=Decimal(84_005), post_only=True)
        await place(here, taker, price=Decimal(84_005))
        [filled] = (await maker.account.get_orders_history()).data
        assert (filled.id, filled.status, filled.payed_fee) == (quote.id, "FILLED", 0)
        [sold], [bought] = [(await each.account.get_trades()).data for each in (maker, taker)]
        assert sold.id == bought.id
        assert (sold.is_taker, bought.is_taker) == (False, True)
        [short], [long] = [(await each.account.get_positions()).data for each in (maker, taker)]
        assert (short.side, long.side, short.size) == ("SHORT", "LONG", long.size)
        equities = [(await each.account.get_balance()).data.equity for each in (maker, taker)]
        assert sum(equities) == 20_000 - bought.fee

    inside(program)


def test_a_partial_fill_and_what_is_left():
    async def program(here):
        client = here.sdk()
        placed = await place(here, client, price=Decimal(84_000))
        here.feed(TakerOrder(Side.SELL, 84_000, 400))
        await asyncio.sleep(1)
        order = (await client.account.get_order_by_id(placed.id)).data
        assert (order.status, order.filled_qty, order.qty) == ("PARTIALLY_FILLED", Decimal("0.004"), SIZE)
        await client.orders.cancel_order(placed.id)
        await asyncio.sleep(0.2)
        order = (await client.account.get_order_by_id(placed.id)).data
        assert (order.status, order.cancelled_qty) == ("CANCELLED", Decimal("0.006"))

    inside(program)


def test_an_order_expires():
    async def program(here):
        client = here.sdk()
        placed = await place(here, client)
        await asyncio.sleep(3700)
        assert await status_of(client, placed.id) == "EXPIRED"

    inside(program)


def test_histories_come_in_pages():
    async def program(here):
        client = here.sdk()
        orders = [await place(here, client, price=ASK) for _ in range(5)]
        expected = [order.id for order in reversed(orders)]
        for sort in (None, OrderSortBy.ID, OrderSortBy.UPDATED_AT):
            assert await all_pages(client.account.get_orders_history, sort=sort) == expected
        assert len(await all_pages(client.account.get_trades)) == 5
        first = await client.account.get_trades(limit=2)
        assert (first.pagination.count, first.pagination.cursor) == (2, first.data[-1].id)

    inside(program, server_rules=ServerRules(page_limit=3))


async def all_pages(look, **how) -> list[int]:
    """Ids of all rows, two by two, until the cursor is absent."""
    ids, cursor = [], None
    while True:
        page = await look(limit=2, cursor=cursor, **how)
        ids += [row.id for row in page.data]
        cursor = page.pagination.cursor
        if cursor is None:
            return ids


def test_refusals_arrive_as_the_sdks_errors():
    async def program(here):
        client = here.sdk()
        with pytest.raises(ApiError, match="1120"):
            await place(here, client, size=Decimal("0.00001"))
        with pytest.raises(ApiError, match="1125"):
            await place(here, client, price=Decimal("83900.5"))
        with pytest.raises(ApiError, match="1141"):
            await place(here, client, price=Decimal(99_000))
        with pytest.raises(ApiError, match="1128"):
            await place(here, client, taker_fee=Decimal("0.0001"))
        with pytest.raises(ApiError, match="1140"):
            await place(here, client, size=Decimal(5))
        await place(here, client, external_id="twice")
        with pytest.raises(ApiError, match="1134"):
            await place(here, client, external_id="twice")
        with pytest.raises(ApiError, match="code 404"):
            await client.account.get_order_by_id(1)
        assert (await client.account.get_order_by_external_id("none")).data == []

    inside(program)


def test_the_signature_is_checked():
    async def program(here):
        stranger = account_keys(99, 0)
        forged = here.sdk(0, private_key=stranger.private_key)
        with pytest.raises(ApiError, match="1101"):
            await place(here, forged)
        other = here.sdk(0, private_key=stranger.private_key, public_key=stranger.public_key)
        with pytest.raises(ApiError, match="1100"):
            await place(here, other)
        with pytest.raises(ApiError, match="1102"):
            await place(here, here.sdk(0, vault=1))
        # Cancels, leverage and the dead man's switch are not signed.
        assert (await forged.orders.mass_cancel(cancel_all=True)).status == "OK"
        built = await place(here, here.sdk(), builder_fee=Decimal("0.0001"), builder_id=7)
        assert built.id

    inside(program)


def test_without_verification_any_signature_does():
    async def program(here):
        await place(here, here.sdk(0, private_key=account_keys(99, 0).private_key))

    inside(program, server_rules=ServerRules(verify_signatures=False))


def test_a_wrong_key_and_too_many_requests():
    async def program(here):
        stranger = here.sdk(0, api_key="nobody")
        with pytest.raises(ApiNotAuthorizedError, match="401"):
            await stranger.account.get_balance()
        with pytest.raises(ApiNotAuthorizedError, match="401"):
            await place(here, stranger)
        client = here.sdk()
        for _ in range(5):
            await client.account.get_balance()
        with pytest.raises(ApiRateLimitError):
            await client.account.get_balance()
        assert (await here.sdk(1).account.get_balance()).status == "OK"
        await asyncio.sleep(60)
        assert (await client.account.get_balance()).status == "OK"

    inside(program, ExchangeRules(orders=OrderRules(requests_per_minute=5)))


def test_a_lost_reply_is_an_order_all_the_same():
    async def program(here):
        client = here.sdk()
        # Before its first order it asks for the markets, and that reply would be the one that is lost.
        await place(here, client)
        here.exchange.set_faults(Faults(lost_replies=1.0))
        with pytest.raises(asyncio.TimeoutError):
            await place(here, client, external_id="lost")
        here.exchange.set_faults(Faults())
        [order] = (await client.account.get_order_by_external_id("lost")).data
        assert order.status == "NEW"

    inside(program)


def test_public_streams():
    async def program(here):
        streams = here.sdk_streams()
        async with streams.subscribe_to_orderbooks(BTC) as book:
            snapshot = await book.recv()
            assert (snapshot.type, snapshot.seq, snapshot.data.market) == ("SNAPSHOT", 1, BTC)
            here.feed(LevelChange(Side.BUY, 83_995, 70))
            delta = await book.recv()
            assert (delta.type, delta.seq) == ("DELTA", 2)
            assert [(level.price, level.qty) for level in delta.data.bid] == [(83_995, Decimal("0.0007"))]
        async with streams.subscribe_to_orderbooks(BTC, depth=1) as best:
            quote = await best.recv()
            assert quote.type == "SNAPSHOT"
            assert (quote.data.bid[0].price, quote.data.ask[0].price) == (83_995, 84_010)
        async with streams.subscribe_to_public_trades() as trades:
            here.feed(TakerOrder(Side.BUY, 84_010, 50))
            [trade] = (await trades.recv()).data
            assert (trade.market, trade.side, trade.price) == (BTC, "BUY", 84_010)
            assert (trade.qty, trade.trade_type) == (Decimal("0.0005"), "TRADE")
        async with streams.subscribe_to_funding_rates(BTC) as funding:
            rate = await funding.recv()
            assert (rate.data.market, rate.seq) == (BTC, 1)
        async with streams.subscribe_to_candles(BTC, "trades", "PT1M") as candles:
            [candle] = (await candles.recv()).data
            assert (candle.close, candle.volume) == (84_010, Decimal("0.0005"))

    inside(program)


def test_the_account_stream_tells_an_orders_life():
    async def program(here):
        client = here.sdk()
        async with here.sdk_streams().subscribe_to_account_updates(here.accounts[0].api_key) as account:
            first = [await account.recv() for _ in range(3)]
            assert [frame.type for frame in first] == ["ORDER", "BALANCE", "POSITION"]
            assert [frame.seq for frame in first] == [1, 2, 3]
            placed = await place(here, client)
            [order] = (await account.recv()).data.orders
            assert (order.id, order.status) == (placed.id, "NEW")
            await place(here, client, price=ASK, previous_order_id=placed.external_id)
            frames = [await account.recv() for _ in range(4)]
            assert [frame.type for frame in frames] == ["ORDER", "TRADE", "POSITION", "BALANCE"]
            replaced, filled = frames[0].data.orders
            assert (replaced.status_reason, filled.status) == ("ORDER_REPLACED", "FILLED")
            [trade] = frames[1].data.trades
            assert (trade.order_id, trade.price) == (filled.id, ASK)
            [position] = frames[2].data.positions
            assert (position.side, position.size, position.status) == ("LONG", SIZE, "OPENED")
            assert frames[3].data.balance.equity < 10_000

    inside(program)


def test_a_stream_with_a_wrong_key_or_of_no_market_is_refused():
    async def program(here):
        streams = here.sdk_streams()
        for connection, status in (
            (streams.subscribe_to_account_updates("nobody"), 401),
            (streams.subscribe_to_orderbooks("NONE-USD"), 404),
        ):
            with pytest.raises(websockets.InvalidStatusCode) as refused:
                await connection
            assert refused.value.status_code == status

    inside(program)


def test_the_clients_own_pings_are_answered():
    async def program(here):
        async with here.sdk_streams().subscribe_to_account_updates(here.accounts[0].api_key) as account:
            for _ in range(3):
                await account.recv()
            # The client pings every 20 s, and closes after another 20 s without an answer.
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(account.recv(), 120)
            assert not account.closed

    inside(program)
