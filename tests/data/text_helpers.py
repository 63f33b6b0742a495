"""Token files made by hand, and what a loader's batches say about the stream they were cut from."""

import tempfile
from pathlib import Path

import numpy as np

from hybridgen.data import IGNORED, TokenCounts, TokenFile


def make_tokens(stream, starts=(0,), *, has_eos=True, start_id=0):
    """A token file of these ids, whose files are gone but still mapped."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "tokens"), Path(folder, "starts")
        np.asarray(stream, dtype="<u4").tofile(paths[0])
        np.asarray(starts, dtype="<i8").tofile(paths[1])
        counts = TokenCounts(len(stream) - has_eos, len(stream) - 1, 0, 0, 0, len(starts))
        return TokenFile(*paths, dtype="<u4", has_eos=has_eos, counts=counts, start_id=start_id)


def numbered(length, **options):
    """A token file whose element i is i, so that every token tells where it is from."""
    return make_tokens(np.arange(length), **options)


def row_lengths(batch):
    rows, steps = batch.inputs.shape
    return [steps] * rows if batch.lengths is None else batch.lengths.tolist()


def rows_of(batch):
    """`(inputs, targets)` of each row without padding, having checked the padding."""
    assert batch.inputs.shape == batch.targets.shape
    assert batch.inputs.dtype == batch.targets.dtype == batch.positions.dtype
    assert batch.num_targets == sum(row_lengths(batch)) > 0
    assert max(row_lengths(batch)) == batch.inputs.shape[1]
    rows = []
    for inputs, targets, length in zip(batch.inputs.tolist(), batch.targets.tolist(), row_lengths(batch), strict=True):
        assert inputs[length:] == [0] * (len(inputs) - length)
        assert targets[length:] == [IGNORED] * (len(targets) - length)
        rows.append((inputs[:length], targets[:length]))
    return rows


def equal(ours, theirs):
    """Whether two batches are the same in every field."""
    return all(
        (a is None and b is None) or (a == b if isinstance(a, int) else a.equal(b))
        for a, b in zip(ours, theirs, strict=True)
    )
