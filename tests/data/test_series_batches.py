"""Batches of sequences: each once, the same for all that share them, and exactly where one left off."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.data import DataError, SequenceLoader, Sequences


def numbered(lengths, **more):
    """Sequences of which every row tells where it is from."""
    lengths = np.array(lengths)
    total = int(lengths.sum())
    values = np.stack([np.arange(total), -np.arange(total)], axis=1).astype(np.float32) + 1
    return Sequences(values=values, starts=lengths.cumsum() - lengths, lengths=lengths, **more)


def equal(ours, theirs):
    return all((a is None and b is None) or a.equal(b) for a, b in zip(ours, theirs, strict=True))


def test_what_says_nothing_is_none():
    batch = numbered([3, 3]).batch()
    assert batch.values.shape == (2, 3, 2)
    assert batch.indices.tolist() == [0, 1]
    assert batch[1:6] == (None,) * 5


def test_short_rows_are_padded_with_zeros_in_every_field():
    sequences = numbered(
        [1, 3],
        mask=np.ones((4, 2), dtype=bool),
        labels=np.array([5, 6]),
        attributes=np.ones((2, 1), dtype=np.float32),
        conditions=np.full((4, 1), 7, dtype=np.float32),
    )
    batch = sequences.batch(np.array([1, 0]))
    assert batch.lengths.tolist() == [3, 1]
    assert batch.values[..., 0].tolist() == [[2, 3, 4], [1, 0, 0]]
    assert batch.mask[1].tolist() == [[True, True], [False, False], [False, False]]
    assert batch.conditions[..., 0].tolist() == [[7, 7, 7], [7, 0, 0]]
    assert batch.labels.tolist() == [6, 5]
    assert batch.attributes.shape == (2, 1)
    assert sequences.batch(np.array([0])).lengths is None  # alone it is not short


def test_a_batch_is_a_copy():
    sequences = numbered([2, 2])
    sequences.batch().values.zero_()
    assert sequences.values.min() < 0


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_ranks_together_read_each_sequence_once(number, batch_size, world_size, shuffle):
    sequences = numbered([2] * number)
    if number < world_size:
        with pytest.raises(DataError, match=f"there are {number} sequences, fewer than {world_size} processes"):
            SequenceLoader(sequences, batch_size=batch_size, world_size=world_size)
        return
    loaders = [
        SequenceLoader(sequences, batch_size=batch_size, rank=rank, world_size=world_size, shuffle=shuffle)
        for rank in range(world_size)
    ]
    seen = []
    for batches in zip(*loaders, strict=True):  # equally many
        sizes = [len(batch.indices) for batch in batches]
        assert min(sizes) >= 1
        assert max(sizes) <= batch_size + (batch_size == 1)
        seen += [index for batch in batches for index in batch.indices.tolist()]
    assert sorted(seen) == list(range(number))
    assert shuffle or world_size > 1 or seen == list(range(number))


def test_epochs_differ_and_depend_on_the_seed_and_the_epoch_alone():
    def order(loader):
        return [index for batch in loader for index in batch.indices.tolist()]

    one, other = (SequenceLoader(numbered([2] * 30), batch_size=7, seed=3) for _ in range(2))
    first, second = order(one), order(one)
    assert first != second
    other.set_epoch(1)
    assert order(other) == second
    assert order(SequenceLoader(numbered([2] * 30), batch_size=7, seed=4)) != first


def test_a_loader_goes_on_exactly_where_it_was_saved():
    def make(**options):
        return SequenceLoader(numbered([2, 3, 4] * 7), **{"batch_size": 4, "seed": 1, **options})

    loader = make()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    rest, later = list(iterator), list(loader)
    resumed = make()
    resumed.load_state_dict(state)
    for wanted in (rest, later):
        found = list(resumed)
        assert len(found) == len(wanted)
        assert all(equal(a, b) for a, b in zip(found, wanted, strict=True))
    with pytest.raises(DataError, match="rows=4 but now rows=5"):
        make(batch_size=5).load_state_dict(state)


def test_batches_are_plain_tensors():
    (batch,) = SequenceLoader(numbered([2, 3]), batch_size=2, shuffle=False)
    assert batch.values.dtype == torch.float32
    assert batch.lengths.dtype == batch.indices.dtype == torch.int64
