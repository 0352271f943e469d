"""Backtests: compiled runners that are hosts of the same `observe` and `decide` that trade live."""
