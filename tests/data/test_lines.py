"""Lines: each exactly once in an epoch, in batches of similar length, the same for every rank."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from text_helpers import equal, make_tokens, rows_of

from hybridgen.data import DataError, Lines

EOS, BOS = 0, 1
sizes = settings(deadline=None, max_examples=60)
line_lengths = st.lists(st.integers(1, 20), min_size=1, max_size=60)


def lines_of(lengths, start_id=EOS):
    """Lines of these many tokens, `<eos>` included: line n has the tokens 2 + 100 n, 3 + 100 n, ..."""
    stream, starts = [EOS], []
    for number, length in enumerate(lengths):
        starts.append(len(stream) - 1)
        stream += [2 + 100 * number + i for i in range(length - 1)] + [EOS]
    return make_tokens(stream, starts, start_id=start_id)


def expected_rows(lengths, start_id=EOS):
    texts = [[2 + 100 * number + i for i in range(length - 1)] for number, length in enumerate(lengths)]
    return sorted(([start_id, *text], [*text, EOS]) for text in texts)


@sizes
@given(lengths=line_lengths, batch_size=st.integers(1, 9), shuffle=st.booleans(), start_id=st.sampled_from([EOS, BOS]))
def test_every_line_is_in_an_epoch_once(lengths, batch_size, shuffle, start_id):
    loader = Lines(lines_of(lengths, start_id), batch_size=batch_size, shuffle=shuffle)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sorted(row for batch in batches for row in rows_of(batch)) == expected_rows(lengths, start_id)
        assert all(len(batch.inputs) <= batch_size for batch in batches)
        assert all(batch.first and batch.resets is None for batch in batches)
        assert sum(batch.num_targets for batch in batches) == sum(lengths)


@sizes
@given(lengths=line_lengths, batch_size=st.integers(1, 5), world_size=st.integers(1, 4))
def test_ranks_have_equal_numbers_of_batches_and_every_line_once(lengths, batch_size, world_size):
    assume(len(lengths) >= world_size)
    tokens = lines_of(lengths)
    shares = [list(Lines(tokens, batch_size=batch_size, rank=r, world_size=world_size)) for r in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    rows = [row for share in shares for batch in share for row in rows_of(batch)]
    assert sorted(rows) == expected_rows(lengths)
    at_most = batch_size if batch_size > 1 or world_size == 1 else 2
    assert all(1 <= len(batch.inputs) <= at_most for share in shares for batch in share)
    for together in zip(*shares, strict=True):
        assert max(len(batch.inputs) for batch in together) - min(len(batch.inputs) for batch in together) <= 1


def test_batches_hold_lines_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 60, size=3000).tolist()
    loader = Lines(lines_of(lengths), batch_size=16)
    batches = list(loader)
    padding = 1 - sum(batch.num_targets for batch in batches) / sum(batch.inputs.numel() for batch in batches)
    assert padding < 0.05  # at random it is 0.46
    means = [batch.num_targets / len(batch.inputs) for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3  # but not from short to long


def test_order_is_of_the_seed_and_the_epoch():
    def order(**options):
        return [batch.positions.tolist() for batch in Lines(lines_of([3] * 40), batch_size=4, **options)]

    assert order(seed=1) == order(seed=1) != order(seed=2)
    loader = Lines(lines_of([3] * 40), batch_size=4, seed=1)
    epochs = [[batch.positions.tolist() for batch in loader] for _ in range(2)]
    assert epochs[0] == order(seed=1) != epochs[1]
    in_order = Lines(lines_of([5, 2, 9, 4]), batch_size=2, shuffle=False)
    assert [batch.inputs.shape[1] for batch in in_order] == [4, 9]


@sizes
@given(lengths=line_lengths, done=st.integers(0, 40), batch_size=st.integers(1, 5))
def test_a_saved_position_goes_on_with_the_same_batches(lengths, done, batch_size):
    def loader():
        return Lines(lines_of(lengths), batch_size=batch_size, seed=5)

    whole = loader()
    first, second = list(whole), list(whole)
    done %= len(first)
    stopped = loader()
    iterator = iter(stopped)
    for _ in range(done):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    rest = [*resumed, *resumed]
    expected = first[done:] + second
    assert len(rest) == len(expected)
    assert all(equal(ours, theirs) for ours, theirs in zip(rest, expected, strict=True))


def test_lines_that_are_too_long_are_left_out():
    loader = Lines(lines_of([3, 8, 4, 9]), batch_size=2, max_length=4)
    assert loader.num_lines == 2
    assert sum(batch.num_targets for batch in loader) == 7


def test_lines_that_cannot_be():
    with pytest.raises(DataError, match="2 lines, fewer than 3 processes"):
        Lines(lines_of([3, 3]), batch_size=1, world_size=3)
    with pytest.raises(DataError, match="0 lines of at most max_length=2 tokens"):
        Lines(lines_of([3, 3]), batch_size=1, max_length=2)
    with pytest.raises(DataError, match="need a codec with <eos>"):
        Lines(make_tokens([1, 2, 3], has_eos=False), batch_size=1)
