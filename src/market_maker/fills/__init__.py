"""The fill engine: what a recorded market would have done to our orders.

Strategies stand beside each other in one pass over the market; none sees the others. Read `rows` for what
is kept, `depth` for the book, `queue` for the place in a queue, `matching` for what market events do to our
orders, `orders` for what becomes of requests, `engine` for the clock that joins them.
"""
