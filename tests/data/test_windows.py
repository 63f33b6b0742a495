"""Cold windows: every target once, each window from nothing."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from text_helpers import numbered, rows_of

from hybridgen.data import ColdWindows, DataError


@settings(deadline=None, max_examples=100)
@given(
    length=st.integers(2, 300), window=st.integers(1, 20), batch_size=st.integers(1, 9), world_size=st.integers(1, 3)
)
def test_every_target_is_in_one_window(length, window, batch_size, world_size):
    assume(-(-(length - 1) // window) >= world_size)
    tokens = numbered(length)
    shares = [
        list(ColdWindows(tokens, window=window, batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    rows = sorted(row for share in shares for batch in share for row in rows_of(batch))
    targets = list(range(1, length))
    assert [row[1] for row in rows] == [targets[start : start + window] for start in range(0, length - 1, window)]
    assert all(targets == [token + 1 for token in inputs] for inputs, targets in rows)
    at_most = batch_size if batch_size > 1 or world_size == 1 else 2
    assert all(batch.first and len(batch.inputs) <= at_most for share in shares for batch in share)


def test_a_document_inside_a_window_starts_from_nothing_too():
    (batch,) = ColdWindows(numbered(9, starts=[0, 4, 6]), window=4, batch_size=8)
    assert batch.resets.nonzero().tolist() == [[1, 2]]  # element 4 starts a window, element 6 is inside
    (batch,) = ColdWindows(numbered(9, starts=[0, 4, 6]), window=4, batch_size=8, reset_documents=False)
    assert batch.resets is None


def test_windows_that_cannot_be():
    with pytest.raises(DataError, match="2 windows of 4 tokens, fewer than the 3 processes"):
        ColdWindows(numbered(9), window=4, batch_size=1, world_size=3)
    with pytest.raises(DataError, match="window=0"):
        ColdWindows(numbered(9), window=0, batch_size=1)
