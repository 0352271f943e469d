"""Market maker for crypto perpetuals on the Extended exchange."""
