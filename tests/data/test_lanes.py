"""Lanes: every target once, chunk after chunk, whatever the sizes, the ranks and the random lengths."""

import json

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from text_helpers import equal, make_tokens, numbered, row_lengths, rows_of

from hybridgen.data import DataError, Lanes

sizes = settings(deadline=None, max_examples=60)
lengths = st.integers(2, 400)
batch_sizes = st.integers(1, 7)
chunks = st.integers(2, 40)


@sizes
@given(length=lengths, batch_size=batch_sizes, bptt=chunks)
def test_lanes_one_after_another_are_the_text(length, batch_size, bptt):
    assume(length - 1 >= batch_size)
    loader = Lanes(numbered(length), batch_size=batch_size, bptt=bptt)
    lanes = [[] for _ in range(batch_size)]
    batches = list(loader)
    assert len(batches) == len(loader)
    for batch in batches:
        assert batch.inputs.shape[1] <= bptt
        for lane, (inputs, targets) in zip(lanes, rows_of(batch), strict=True):
            assert targets == [token + 1 for token in inputs]  # each input is what comes before its target
            lane.extend(targets)
    assert [target for lane in lanes for target in lane] == list(range(1, length))
    assert [batch.first for batch in batches] == [True] + [False] * (len(batches) - 1)
    assert all(batch.lengths is None for batch in batches[:-1])
    assert max(row_lengths(batches[-1])) - min(row_lengths(batches[-1])) <= 1
    assert sum(batch.num_targets for batch in batches) == length - 1


@sizes
@given(length=lengths, batch_size=st.integers(1, 4), bptt=chunks, world_size=st.integers(1, 3), random=st.booleans())
def test_ranks_together_read_what_one_process_with_more_lanes_reads(length, batch_size, bptt, world_size, random):
    assume(length - 1 >= batch_size * world_size)
    options = {"bptt": bptt + 6 * random, "random_bptt": random}
    tokens = numbered(length)
    whole = list(Lanes(tokens, batch_size=batch_size * world_size, **options))
    shares = [
        list(Lanes(tokens, batch_size=batch_size, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert rows_of(batch) == [row for part in parts for row in rows_of(part)]
        assert batch.positions.tolist() == [place for part in parts for place in part.positions.tolist()]
        assert all(part.first == batch.first for part in parts)


@sizes
@given(length=st.integers(10, 3000), batch_size=batch_sizes, bptt=st.integers(8, 40), more=st.integers(0, 20))
def test_random_chunks_cover_the_text_and_keep_to_the_cap(length, batch_size, bptt, more):
    loader = Lanes(numbered(length), batch_size=batch_size, bptt=bptt, random_bptt=True, max_bptt=bptt + more)
    for _ in range(2):
        lanes = [[] for _ in range(batch_size)]
        batches = list(loader)
        assert len(batches) == len(loader)  # the same in every epoch
        for batch in batches:
            assert batch.inputs.shape[1] <= bptt + more
            for lane, (_, targets) in zip(lanes, rows_of(batch), strict=True):
                lane.extend(targets)
        assert [target for lane in lanes for target in lane] == list(range(1, length))


def test_random_chunks_have_the_lengths_of_the_paper():
    loader = Lanes(numbered(200_000), batch_size=1, bptt=70, random_bptt=True, seed=3)
    lengths = np.diff(loader.plan(0))
    halves = lengths < 50
    assert 0.03 < halves.mean() < 0.07
    assert abs(lengths[~halves].mean() - 70) < 1
    assert abs(lengths[halves].mean() - 35) < 3
    assert 4 < lengths[~halves].std() < 6
    assert lengths.max() <= 80
    assert not np.array_equal(lengths, np.diff(loader.plan(1)))
    assert np.array_equal(
        lengths, np.diff(Lanes(numbered(200_000), batch_size=1, bptt=70, random_bptt=True, seed=3).plan(0))
    )


@sizes
@given(
    documents=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    batch_size=st.integers(1, 4),
    bptt=st.integers(2, 15),
)
def test_a_state_is_fresh_exactly_where_a_document_starts(documents, batch_size, bptt):
    starts = np.cumsum([0, *documents])[:-1]
    length = sum(documents) + 1
    assume(length - 1 >= batch_size)
    tokens = numbered(length, starts=starts)
    marked = set()
    for batch in Lanes(tokens, batch_size=batch_size, bptt=bptt):
        if batch.resets is not None:
            assert batch.resets.shape == batch.inputs.shape
            assert batch.resets.dtype == torch.bool
            assert batch.resets.any()
            marked.update(batch.inputs[batch.resets].tolist())
            if batch.first:
                assert not batch.resets[:, 0].any()  # `first` says it
        if batch.first:
            lane_starts = set(batch.positions.tolist())
    assert marked == set(starts.tolist()) - lane_starts
    carried_on = Lanes(tokens, batch_size=batch_size, bptt=bptt, reset_documents=False)
    assert all(batch.resets is None for batch in carried_on)


@sizes
@given(length=st.integers(40, 400), done=st.integers(0, 60), random=st.booleans(), batch_size=st.integers(1, 3))
def test_a_saved_position_goes_on_with_the_same_batches(length, done, random, batch_size):
    options = {"batch_size": batch_size, "bptt": 8, "random_bptt": random}
    loader = Lanes(numbered(length), **options)
    epochs = [list(loader) for _ in range(5)]
    flat = [(number, batch) for number, epoch in enumerate(epochs) for batch in epoch]
    done %= len(flat) - len(epochs[-1])
    loader = Lanes(numbered(length), **options)
    while done >= len(loader):
        done -= sum(1 for _ in loader)
    iterator = iter(loader)
    for _ in range(done):
        next(iterator)
    state = json.loads(json.dumps(loader.state_dict()))  # plain values
    resumed = Lanes(numbered(length), **options)
    resumed.load_state_dict(state)
    rest = [*resumed, *resumed]
    start = state["epoch"] * len(loader) + state["batch"]
    assert len(rest) == 2 * len(loader) - state["batch"]
    for ours, (_, theirs) in zip(rest, flat[start:], strict=False):
        assert equal(ours, theirs)


def test_an_epoch_left_early_is_followed_by_the_next_and_a_new_iterator_alone_changes_nothing():
    loader = Lanes(numbered(50), batch_size=2, bptt=4)
    iter(loader)
    next(iter(loader))
    assert (loader.epoch, loader.batch) == (0, 1)
    iter(loader)
    assert (loader.epoch, loader.batch) == (0, 1)
    next(iter(loader))
    assert (loader.epoch, loader.batch) == (1, 1)
    loader.set_epoch(1)
    assert (loader.epoch, loader.batch) == (1, 1)
    loader.set_epoch(4)
    assert (loader.epoch, loader.batch) == (4, 0)


def test_a_position_inside_an_epoch_is_refused_under_another_layout():
    loader = Lanes(numbered(50), batch_size=2, bptt=4)
    next(iter(loader))
    state = loader.state_dict()
    other = Lanes(numbered(50), batch_size=3, bptt=4)
    with pytest.raises(DataError, match=r"middle of an epoch with lanes=2 but now lanes=3"):
        other.load_state_dict(state)
    Lanes(numbered(50), batch_size=1, world_size=2, rank=1, bptt=4).load_state_dict(state)  # the same lanes
    with pytest.raises(DataError, match="position has '_index' in it, not an epoch and a batch of text"):
        other.load_state_dict({"_index": 3})
    list(loader)
    other.load_state_dict(loader.state_dict())  # between epochs anything may change
    assert (other.epoch, other.batch) == (2, 0)


def test_too_little_text_names_the_numbers():
    with pytest.raises(
        DataError, match=r"9 tokens to predict, fewer than the 12 lanes .*batch_size=4 times 3 processes"
    ):
        Lanes(numbered(10), batch_size=4, world_size=3, bptt=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
        ({"bptt": 1}, "bptt=1 must be a whole number of at least 2"),
        ({"max_bptt": 9}, "set random_bptt"),
        ({"random_bptt": True, "bptt": 5}, "bptt .*5 must be a whole number of at least 8"),
        ({"random_bptt": True, "bptt": 20, "max_bptt": 10}, "max_bptt=10 must be a whole number of at least 20"),
        ({"rank": 1}, "rank=1 must be one of the 1 processes"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(DataError, match=message):
        Lanes(numbered(100), **{"batch_size": 2, "bptt": 8, **options})


def test_batches_do_not_share_memory():
    loader = Lanes(make_tokens(range(30)), batch_size=2, bptt=5)
    for batch in loader:
        expected = batch.targets.clone()
        batch.inputs.fill_(-1)
        assert batch.targets.equal(expected)
