"""One contestant at an exchange, in plain Python: dicts, lists, fractions. No code is shared with the engine.

Slow and simple on purpose: every order is looked at on every event. The rules are those of docs of
`market_maker.fills`; the rows of the market are tuples (venue_ns, kind, ticks, lots).
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

BUY, SELL = 1, -1
NEVER = 2**62
UNSEEN = 1e15
DAY_NS = 86_400 * 10**9
SIDES = {1: BUY, 2: SELL, 7: BUY, 8: SELL}
BEST = {BUY: max, SELL: min}


@dataclass
class Order:
    order_id: int
    tag: int
    side: int
    price: int
    size: int
    post_only: bool
    immediate: bool
    reduce_only: bool
    expire_ns: int
    remaining: int = 0
    front: float = 0.0
    traded: float = 0.0
    seq: int = 0

    def is_better(self, other_price):
        return (self.price - other_price) * self.side > 0


@dataclass
class Reference:
    market: object
    strategy: object
    latencies: list = field(default_factory=list)

    def __post_init__(self):
        self.book = {BUY: {}, SELL: {}}
        self.old = {BUY: {}, SELL: {}}
        self.best = {BUY: 0, SELL: NEVER}
        self.old_best = dict(self.best)
        self.extent = {BUY: NEVER, SELL: 0}
        self.trusted, self.limited, self.in_snapshot, self.after_gap = True, False, False, False
        self.resting = []
        self.requests = []
        self.replies = []
        self.travelling = {}
        self.log = []
        self.ids = self.seq = 0
        self.last_request = self.last_reply = 0
        self.position = 0
        self.cash = self.volume = self.maker_volume = self.taker_volume = 0
        self.fees = self.rebates = self.day_rebates = self.credited = self.funding = Fraction(0)
        self.mark_parts, self.day = 0, -1
        tiers = list(zip(self.strategy.rebate_share_ppm, self.strategy.rebate_ppb, strict=True))
        self.tiers = [(int(share), int(rate)) for share, rate in tiers]
        self.rebate_ppb = 0 if self.tiers[0][0] else self.tiers[0][1]

    # The clock.

    def run(self, rows, actions, end_ns):
        rows, actions = list(rows), list(actions)
        while True:
            due = [r[0] for r in self.requests[:1]] + [o.expire_ns for o in self.resting]
            nexts = [
                rows[0][0] if rows else NEVER,
                min(due, default=NEVER),
                actions[0]["now_ns"] if actions else NEVER,
            ]
            now = min(nexts)
            if now == NEVER or (now != nexts[0] and now > end_ns):
                return
            if now == nexts[0]:
                self.row(*rows.pop(0))
            elif now == nexts[1]:
                self.settle(now)
            else:
                self.act(actions.pop(0))

    def settle(self, now):
        while self.requests and self.requests[0][0] <= now:
            _, kind, order, old_id = self.requests.pop(0)
            if kind == 1:
                self.cancel(now, old_id)
            else:
                self.admit(now, order, old_id if kind == 2 else 0)
        for order in sorted(self.resting, key=lambda o: o.order_id):
            if order.expire_ns <= now:
                self.end(now, order, 5, 0)

    def delay(self, now, way, *, cancel):
        s = self.strategy
        if not s.recorded_latency or not self.latencies:
            return {
                (1, False): s.request_ns,
                (2, False): s.reply_ns,
                (1, True): s.cancel_request_ns,
                (2, True): s.cancel_reply_ns,
            }[way, cancel]
        known = [row for row in self.latencies if row[0] <= now]
        later = [row for row in self.latencies if row[0] > now]
        if not known or not later:
            return (known[-1] if known else later[0])[way]
        (t0, *_), (t1, *_) = known[-1], later[0]
        a, b = known[-1][way], later[0][way]
        return a + (b - a) * ((now - t0) // 1024) // max((t1 - t0) // 1024, 1)

    # What we send.

    def act(self, a):
        now, target = a["now_ns"], a["target_id"]
        known = next((o for o in [*self.resting, *self.travelling.values()] if o.order_id == target), None)
        order = None
        if a["kind"] == 1:
            if known is not None:
                self.note(now, known, 8, 0, known.size)
        else:
            self.ids += 1
            order = Order(
                self.ids,
                a["tag"],
                a["side"],
                a["price_ticks"],
                a["lots"],
                a["post_only"],
                a["immediate"],
                a["reduce_only"],
                a["expire_ns"],
                a["lots"],
            )
            self.travelling[order.order_id] = order
            self.note(now, order, 0, 0, order.size)
        due = now + self.delay(now, 1, cancel=a["kind"] == 1)
        self.last_request = max(self.last_request, due)
        # An order that was gone when its replacement was sent is not found later either.
        kind = 2 if a["kind"] == 2 and target else min(a["kind"], 1)
        self.requests.append((self.last_request, kind, order, target if known is not None else -1))
        if a["kind"] == 1:
            self.requests[-1] = (self.last_request, 1, None, target)

    def note(self, now, order, kind, reason, lots, *, price=None, taker=False):
        mid2 = (
            sum(self.best.values()) if self.trusted and self.best[BUY] > 0 and self.best[SELL] < NEVER else 0
        )
        self.log.append(
            (
                now,
                kind,
                reason,
                order.order_id,
                order.tag,
                order.side,
                order.price if price is None else price,
                lots,
                order.remaining,
                self.position,
                mid2,
                order.front,
                taker,
            )
        )

    def reply(self, now, order, kind, reason, *, cancel=False, lots=None, price=None, taker=False):
        self.note(now, order, kind, reason, order.size if lots is None else lots, price=price, taker=taker)
        self.last_reply = max(self.last_reply, now + self.delay(now, 2, cancel=cancel))
        self.replies.append((self.last_reply, now, kind, reason, order.order_id, order.remaining))

    # At the exchange's door.

    def admit(self, now, order, old_id):
        del self.travelling[order.order_id]
        old = next((o for o in self.resting if o.order_id == old_id), None)
        reason = self.refusal(now, order, old, old_id)
        if not reason and old is not None:
            self.end(now, old, 3, 4)
            if self.market.replacement_counts_filled:
                done = old.size - old.remaining
                order.size -= done
                order.remaining -= done
                reason = 0 if order.size > 0 else 13
        takes = not reason and self.would_take(order)
        if takes and order.post_only:
            reason = 1
        if reason:
            self.reply(now, order, 2, reason)
            return
        if takes:
            self.take(now, order)
        if order.remaining:
            self.settle_rest(now, order)
        self.sweep(now)

    def settle_rest(self, now, order):
        idle = order.reduce_only and self.position * order.side >= 0
        if order.immediate or idle:
            why = 3 if idle else (0 if order.remaining < order.size else 2)
            self.reply(now, order, 3, why)
            return
        order.front = UNSEEN
        if self.shows(order.side, order.price):
            order.front = self.book[order.side].get(order.price, 0) / self.strategy.lots_per_unit
        self.seq += 1
        order.seq = self.seq
        self.resting.append(order)
        self.reply(now, order, 1, 0)

    def refusal(self, now, order, old, old_id):
        m, value = self.market, order.price * order.size
        mark = self.mark()
        band = Fraction(order.price * 100, mark) - 1 if mark and m.band_up_ppm else None
        up, down = Fraction(m.band_up_ppm, 10**6), Fraction(m.band_down_ppm, 10**6)
        checks = (
            (11, (order.post_only and order.immediate) or order.price <= 0),
            (6, order.size < max(1, m.min_lots)),
            (7, value < m.min_tick_lots and not order.reduce_only),
            (8, m.max_tick_lots and value > m.max_tick_lots),
            (9, band is not None and (band > up if order.side == BUY else band < -down)),
            (10, order.expire_ns <= now),
            (5, old_id != 0 and old is None),
            (3, order.reduce_only and order.size > max(-order.side * self.position, 0)),
        )
        return next((reason for reason, fails in checks if fails), 0)

    def would_take(self, order):
        prices = [o.price for o in self.resting if o.side == -order.side]
        if self.trusted:
            prices.append(self.best[-order.side])
        return any((order.price - p) * order.side >= 0 for p in prices if 0 < p < NEVER)

    def take(self, now, order):
        for own in sorted(self.resting, key=lambda o: o.order_id):
            if own.side == -order.side and (own.price - order.price) * order.side <= 0:
                self.end(now, own, 3, 12)
        if not self.trusted:
            return
        first = self.best[-order.side]
        prices = [p for p in self.book[-order.side] if (p - first) * order.side >= 0]
        for price in sorted(prices, reverse=order.side == SELL):
            shown = self.book[-order.side][price]
            if (price - order.price) * order.side > 0 or not order.remaining:
                return
            lots = min(order.remaining, shown) if self.strategy.partial_fills else order.remaining
            lots = self.allowed(order, lots)
            if lots <= 0:
                return
            self.fill(now, order, price, lots, taker=True)

    def cancel(self, now, old_id):
        old = next((o for o in self.resting if o.order_id == old_id), None)
        if old is not None:
            self.end(now, old, 3, 0, cancel=True)
            return
        self.reply(now, Order(old_id, 0, 1, 0, 0, True, False, False, NEVER), 4, 5, cancel=True)

    def end(self, now, order, kind, reason, *, cancel=False):
        self.reply(now, order, kind, reason, cancel=cancel)
        self.resting.remove(order)

    # Fills and money.

    def allowed(self, order, lots):
        return min(lots, max(-order.side * self.position, 0)) if order.reduce_only else lots

    def fill(self, now, order, price, lots, *, taker=False):
        s = self.strategy
        order.remaining -= lots
        self.position += order.side * lots
        self.cash -= order.side * lots * price
        self.fees += Fraction((s.taker_fee_ppb if taker else s.maker_fee_ppb) * price * lots, 10**9)
        if taker:
            self.taker_volume += price * lots
        else:
            self.maker_volume += price * lots
            self.rebates += Fraction(self.rebate_ppb * price * lots, 10**9)
            self.day_rebates += Fraction(self.rebate_ppb * price * lots, 10**9)
        self.reply(now, order, 6, 0, lots=lots, price=price, taker=taker)

    def sweep(self, now):
        for order in sorted(self.resting, key=lambda o: o.order_id):
            if order.reduce_only and order.side * self.position >= 0:
                self.end(now, order, 3, 3)

    def mid2(self):
        two_sided = self.trusted and self.best[BUY] > 0 and self.best[SELL] < NEVER
        return sum(self.best.values()) if two_sided else 0

    def mark(self):
        return 50 * self.mid2() if not self.mark_parts and self.market.mark_from_mid else self.mark_parts

    def turn_day(self, now):
        day = now // DAY_NS
        if day == self.day:
            return
        if self.day >= 0:
            if math.floor(self.day_rebates) >= self.strategy.rebate_least_tick_lots:
                self.credited += self.day_rebates
            self.day_rebates = Fraction(0)
            if self.volume:
                reached = [
                    r
                    for share, r in self.tiers
                    if share and self.maker_volume // 1000 * 10**6 >= self.volume // 1000 * share
                ]
                self.rebate_ppb = reached[-1] if reached else 0
        self.day = day

    # What the market does.

    def row(self, now, kind, ticks, lots):
        code = kind & 15
        self.turn_day(now)
        if code in (1, 2):
            self.level(now, SIDES[code], ticks, lots)
        elif code in (4, 5, 6):
            self.trade(now, code, ticks, lots)
        elif code in (7, 8):
            side = SIDES[code]
            while (self.best[side] - ticks) * side > 0:
                if not self.level(now, side, self.best[side], 0):
                    break
            self.level(now, side, ticks, lots)
        elif code == 3:
            self.begin_snapshot()
        else:
            self.tell(now, code, ticks)
        if self.in_snapshot and kind & 128:
            self.end_snapshot(now)

    def tell(self, now, code, ticks):
        if code == 9:
            self.mark_parts = ticks
        elif code == 11 and self.position and self.mark():
            self.funding -= Fraction(ticks * self.mark() * self.position, 10**11)
            paid = Order(0, 0, 0, ticks, self.position, False, False, False, 0, self.mark())
            self.note(now, paid, 7, 0, self.position)
        elif code == 12:
            self.trusted = False

    def set(self, side, ticks, lots):
        levels, other = self.book[side], self.book[-side]
        before = levels.pop(ticks, 0)
        if lots:
            levels[ticks] = lots
            self.extent[side] = (
                min(self.extent[side], ticks) if side == BUY else max(self.extent[side], ticks)
            )
            if (ticks - self.best[side]) * side > 0:
                self.best[side] = ticks
                if (self.best[-side] - ticks) * side <= 0:
                    behind = [p for p in other if (p - ticks) * side > 0]
                    self.best[-side] = BEST[-side](behind, default=0 if side == SELL else NEVER)
        elif ticks == self.best[side]:
            behind = [p for p in levels if (p - ticks) * side < 0]
            self.best[side] = BEST[side](behind, default=0 if side == BUY else NEVER)
        return before

    def level(self, now, side, ticks, lots):
        if not self.trusted:
            return False
        best = self.best[side]
        before = self.set(side, ticks, lots)
        if self.in_snapshot:
            return True
        for order in self.resting:
            if order.side == side and order.price == ticks:
                self.move_up(order, before, lots)
        if lots and (ticks - best) * side > 0:
            self.arrive(now, -side, ticks, max(lots - before, 0), "best")
        elif lots > before:
            self.arrive(now, -side, ticks, lots - before, "level")
        return True

    def trade(self, now, code, ticks, lots):
        self.volume += ticks * lots
        if code == 5 or (code == 6 and ticks <= self.best[BUY]):
            self.arrive(now, BUY, ticks, lots, "trade")
        elif code == 4 or (code == 6 and ticks >= self.best[SELL]):
            self.arrive(now, SELL, ticks, lots, "trade")

    def begin_snapshot(self):
        self.old, self.book = self.book, {BUY: {}, SELL: {}}
        self.old_best, self.best = dict(self.best), {BUY: 0, SELL: NEVER}
        self.extent = {BUY: NEVER, SELL: 0}
        self.after_gap = not self.trusted
        if self.after_gap:
            self.old = {BUY: {}, SELL: {}}
        self.in_snapshot = self.limited = self.trusted = True

    def shows(self, side, ticks):
        if not self.trusted:
            return False
        return not self.limited or (ticks - self.extent[side]) * side >= 0

    def end_snapshot(self, now):
        self.in_snapshot = False
        for order in self.resting:
            before, lots = (book[order.side].get(order.price, 0) for book in (self.old, self.book))
            if self.shows(order.side, order.price) and before != lots:
                self.move_up(order, before, lots)
        for side in (SELL, BUY):
            improved = self.after_gap or (self.best[side] - self.old_best[side]) * side > 0
            for ticks in sorted(self.book[side], reverse=side == BUY):
                if (ticks - self.best[side]) * side > 0:
                    continue
                grown = self.book[side][ticks] - self.old[side].get(ticks, 0)
                if grown > 0 or improved:
                    self.arrive(now, -side, ticks, max(grown, 0), "best" if improved else "level")
                improved = False

    # Queues.

    def move_up(self, order, before_lots, lots):
        s = self.strategy
        if s.queue_model == 3:
            return
        before, after = before_lots / s.lots_per_unit, lots / s.lots_per_unit
        left, order.traded = before - after - order.traded, 0.0
        front, behind = order.front, before - order.front
        if s.queue_model == 4 and left >= 0 and behind >= 0:
            front = max(front - left, 0.0)
        elif s.queue_model != 0 and left >= 0 and behind >= 0:
            f = (
                (lambda x: x**s.queue_power)
                if s.queue_model == 1
                else (lambda x: math.log(1.0 + max(x, 0.0)))
            )
            a, b = f(behind), f(front) if front >= 0 or float(s.queue_power).is_integer() else 0.0
            p = a / (a + b) if a + b > 0 else 1.0
            front = front - (1.0 - p) * left + min(behind - p * left, 0.0)
        order.front = min(front, after)

    def weight(self, lots):
        return (
            math.log(1.0 + max(lots, 0.0))
            if self.strategy.queue_model == 2
            else lots**self.strategy.queue_power
        )

    def reached(self, order, ticks, lots, have, how):
        s = self.strategy
        if how != "trade" and not s.book_fills:
            return 0
        if order.is_better(ticks):
            order.front = 0.0 if s.partial_fills else order.front
            return have
        if s.queue_model == 3:
            return 0
        return self.through_queue(order, have, lots) if how == "trade" else have

    def arrive(self, now, side, ticks, lots, how):
        s, left = self.strategy, lots
        met = [o for o in self.resting if o.side == side and (o.price - ticks) * side >= 0]
        for order in sorted(met, key=lambda o: (-o.price * side, o.seq)):
            if not s.partial_fills and how == "level":
                continue
            have = left if s.partial_fills else max(lots, 1)
            reached = self.reached(order, ticks, lots, have, how)
            wanted = min(reached, order.remaining) if s.partial_fills else order.remaining * (reached > 0)
            take = self.allowed(order, wanted)
            if take > 0:
                left -= take
                self.fill(now, order, order.price, take)
                if not order.remaining:
                    self.resting.remove(order)
        self.sweep(now)

    def through_queue(self, order, lots, printed):
        unit = self.strategy.lots_per_unit
        order.front -= lots / unit
        order.traded += printed / unit
        if order.front >= 0:
            return 0
        passed = -order.front / (1.0 / unit)
        reached = math.floor(passed) + (passed % 1 >= 0.5)
        if self.strategy.partial_fills:
            order.front = 0.0
        return reached
