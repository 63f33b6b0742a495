"""What sampling does for speed changes nothing: text at the end or on the way, draws alone or ahead."""

import numpy as np
import pytest
import torch

from hybridgen import codecs, heads
from hybridgen.cells import Stack
from hybridgen.generation import DecodingOptions, sample, stream
from hybridgen.generation.drawing import choose_tokens, draw_from_levels, inverse_cdf
from hybridgen.generation.randomness import uniforms, uniforms_of_steps
from hybridgen.generation.stepping import TokenStep

TEXT = "the cat, the hat and the naïve café: 10 € — no more\nand a second line\n" * 20


def random_model(vocabulary):
    table = torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(3)) * 2
    return lambda tokens, state: (table[tokens], state)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("characters", {}),
        ("bytes", {}),
        ("words", {}),
        ("bpe", {"vocab_size": 300}),
        ("characters", {"specials": ["eos"]}),
    ],
)
def test_text_at_the_end_is_the_text_on_the_way(name, options):
    codec = codecs.make(name, [TEXT], **options)
    settings = {
        "prompts": [[1]] * 8,
        "state": torch.zeros(8, 1),
        "options": DecodingOptions(max_new_tokens=90, seed=4),
        "eos_token_id": codec.eos_id,
        "decode": codec.decode,
    }
    model = random_model(codec.vocab_size)
    on_the_way = [""] * 8
    for event in stream(model, **settings):
        for row, text in zip(event.rows.tolist(), event.texts, strict=True):
            on_the_way[row] += text
    samples = sample(model, **settings)
    assert samples.texts == on_the_way
    assert {"eos", "length"} >= set(samples.finish_reasons)


def test_draws_ahead_are_the_draws_of_each_step():
    numbers = np.array([5, 0, 2**40])
    ahead = uniforms_of_steps(9, numbers, 60, 10)
    assert np.array_equal(ahead, np.stack([uniforms(9, numbers, step) for step in range(60, 70)]))


def test_rows_that_end_leave_the_others_as_they_are():
    model, options = random_model(12), DecodingOptions(max_new_tokens=150, seed=1)
    settings = {"options": options, "eos_token_id": 3}
    together = sample(model, [[1]] * 20, torch.zeros(20, 1), **settings)
    assert len(set(together.lengths.tolist())) > 5
    for row in range(20):
        alone = sample(model, [[1]], torch.zeros(1, 1), sample_numbers=[row], **settings)
        length = int(alone.lengths)
        assert torch.equal(alone.tokens[0], together.tokens[row, :length])
        assert torch.equal(alone.log_probs[0], together.log_probs[row, :length])
        assert not together.tokens[row, length:].any()


def test_the_short_draw_is_the_general_one():
    logits = torch.randn(500, 40) * 3
    logits[:, 7] = -torch.inf
    draws = torch.from_numpy(uniforms(0, np.arange(500), 0))
    choice = choose_tokens(logits, torch.empty(500, 0), draws, DecodingOptions())
    tokens, log_probs = inverse_cdf(logits.log_softmax(-1), draws)
    assert torch.equal(choice.tokens, tokens)
    torch.testing.assert_close(choice.sampling_log_probs, log_probs)
    torch.testing.assert_close(choice.log_probs, log_probs)
    # A draw just below 1 lands on a token that can be drawn.
    last = choose_tokens(
        torch.tensor([[0.0, 0.0, -torch.inf]]), torch.empty(1, 0), draws[:1] * 0 + 1 - 2**-53, DecodingOptions()
    )
    assert int(last.tokens) < 2


def adaptive_head(**options):
    head = heads.make("adaptive", 8, 50, cutoffs=[5, 20], **options).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return head


@pytest.mark.parametrize("tied", [False, True])
def test_a_draw_in_two_levels_is_the_draw_from_all_classes(tied):
    head = adaptive_head(tied=torch.nn.Embedding(50, 6).double() if tied else None)
    hidden = torch.randn(3000, 8, dtype=torch.float64)
    draws = torch.from_numpy(uniforms(1, np.arange(3000), 0))
    found = draw_from_levels(head.prepare_levels(), hidden, draws)
    # In one row of a thousand, float32 logits put a border on the other side of the draw.
    expected, log_probs = inverse_cdf(head.log_probs(hidden).detach(), draws)
    same = found.tokens == expected
    assert same.double().mean() > 0.999
    torch.testing.assert_close(found.log_probs[same], log_probs[same], rtol=1e-5, atol=1e-5)
    for low, high in ((0, 5), (5, 20), (20, 50)):
        assert ((expected >= low) & (expected < high)).any()
    assert draw_from_levels(head.prepare_levels(), hidden * torch.nan, draws) is None


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9}, {"suppress_tokens": [0]}, {"repetition_penalty": 1.2}])
def test_generation_that_draws_in_levels(options):
    stack = Stack("lstm", 4, 8).double().eval()
    step = TokenStep(torch.randn(50, 4, dtype=torch.float64), stack, adaptive_head())
    assert step.draws
    called = []

    def plain(tokens, state):
        called.append(len(tokens))
        return step(tokens, state)

    settings = {"options": DecodingOptions(max_new_tokens=40, seed=2, **options), "eos_token_id": 30}
    prompts = [[1], [2, 3], [4]] * 5
    found = sample(step, prompts, stack.initial_state(15), **settings)
    expected = sample(plain, prompts, stack.initial_state(15), **settings)
    assert called
    assert torch.equal(found.tokens, expected.tokens)
    assert found.finish_reasons == expected.finish_reasons
    torch.testing.assert_close(found.log_probs, expected.log_probs)


def test_a_head_that_is_not_finite_is_told_of_in_levels_too():
    head = adaptive_head()
    head.cluster_weight.data.fill_(torch.nan)
    stack = Stack("lstm", 4, 8).double().eval()
    step = TokenStep(torch.randn(50, 4, dtype=torch.float64), stack, head)
    with pytest.raises(ValueError, match="NaN or infinite after 0 new tokens"):
        sample(step, [[1]], stack.initial_state(1))
