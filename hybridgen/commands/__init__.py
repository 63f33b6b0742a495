"""What each command of `hybridgen` does."""
