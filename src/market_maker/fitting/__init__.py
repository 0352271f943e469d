"""What a recorded market's first part says of it: volatility, and how far its trades reach."""
