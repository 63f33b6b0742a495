"""Tracking: where a run's files go and what is logged while it trains."""
