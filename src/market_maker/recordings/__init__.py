"""Readers of recorded markets."""
