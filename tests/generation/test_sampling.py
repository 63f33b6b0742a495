import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.generation import DecodingOptions, sample, stream

from .toy_models import ToyModel, chi_square_is_plausible, markov_step

END = 0
PROMPTS = [[1], [2, 3, 4, 5], [3, 3], [4, 1, 2], [5, 5, 5, 5, 5, 5], [1, 2]]


def generate(model, prompts, options, **rest):
    return sample(model.step, prompts, model.initial_state(len(prompts)), options, eos_token_id=END, **rest)


def rows(samples):
    """Each row as comparable plain values."""
    return [
        (samples.tokens[i, :n].tolist(), samples.log_probs[i, :n].tolist(), samples.finish_reasons[i])
        for i, n in enumerate(samples.lengths.tolist())
    ]


OPTION_SETS = [
    DecodingOptions(max_new_tokens=12, seed=5),
    DecodingOptions(max_new_tokens=12, seed=5, top_k=3, temperature=1.5),
    DecodingOptions(max_new_tokens=12, seed=5, top_p=0.8, repetition_penalty=1.3),
    DecodingOptions(max_new_tokens=12, seed=5, no_repeat_ngram_size=2, min_new_tokens=4),
    DecodingOptions(max_new_tokens=12, seed=5, bad_words_ids=[[1, 2], [3, 3, 1]], typical_p=0.9),
    DecodingOptions(max_new_tokens=12, do_sample=False),
]


@pytest.mark.parametrize("options", OPTION_SETS)
def test_a_sample_is_the_same_in_any_batch_and_any_order(options):
    model = ToyModel(6)
    together = rows(generate(model, PROMPTS, options))
    assert len({len(tokens) for tokens, _, _ in together}) > 1, "the rows should end at different times"
    for number, prompt in enumerate(PROMPTS):
        assert rows(generate(model, [prompt], options, sample_numbers=[number])) == [together[number]]
    order = [4, 0, 5, 2]
    shuffled = rows(generate(model, [PROMPTS[i] for i in order], options, sample_numbers=order))
    assert shuffled == [together[i] for i in order]


def test_samples_of_different_numbers_and_seeds_differ():
    model = ToyModel(6, scale=0.5)
    options = [DecodingOptions(max_new_tokens=12, min_new_tokens=12, seed=seed) for seed in (0, 1)]
    outputs = [tuple(tokens) for option in options for tokens, _, _ in rows(generate(model, [[1]] * 20, option))]
    assert len(set(outputs)) == 40


def test_log_probs_are_those_of_the_model():
    model = ToyModel(6)
    options = DecodingOptions(max_new_tokens=8, temperature=0.7, top_k=4, repetition_penalty=1.2)
    for prompt, (tokens, log_probs, _) in zip(PROMPTS, rows(generate(model, PROMPTS, options)), strict=True):
        assert log_probs == pytest.approx(model.log_probs(prompt, tokens), abs=1e-5)


def test_untouched_sampling_draws_from_the_model_itself():
    samples = generate(ToyModel(6), PROMPTS, DecodingOptions(max_new_tokens=8))
    assert torch.allclose(samples.log_probs, samples.sampling_log_probs, atol=1e-6)


def test_joint_distribution_of_two_tokens():
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    count, options = 20000, DecodingOptions(max_new_tokens=2, temperature=0.8, seed=11)
    samples = sample(markov_step(table), [[2]] * count, torch.zeros(count, 1), options)
    transition = (table.double() / 0.8).softmax(-1)
    expected = transition[2][:, None] * transition * count
    counts = torch.bincount(samples.tokens[:, 0] * 5 + samples.tokens[:, 1], minlength=25)
    assert chi_square_is_plausible(counts, expected.flatten())


def test_rows_end_at_the_end_token_and_stay_ended():
    model = ToyModel(6)
    samples = generate(model, PROMPTS * 4, DecodingOptions(max_new_tokens=10), pad_token_id=-7)
    assert set(samples.finish_reasons) == {"eos", "length"}
    for tokens, length, reason in zip(samples.tokens, samples.lengths.tolist(), samples.finish_reasons, strict=True):
        new, padding = tokens[:length].tolist(), tokens[length:].tolist()
        assert (END in new) == (reason == "eos")
        assert END not in new[:-1]
        assert reason == "eos" or length == 10
        assert set(padding) <= {-7}
    beyond = torch.arange(samples.tokens.shape[1]) >= samples.lengths[:, None]
    assert bool((samples.log_probs[beyond] == 0).all())
    assert bool((samples.sampling_log_probs[beyond] == 0).all())


def test_ended_rows_leave_the_batch():
    model = ToyModel(6)
    samples = generate(model, [[1]] * 20, DecodingOptions(max_new_tokens=10))
    running = [int((samples.lengths > position).sum()) for position in range(int(samples.lengths.max()))]
    assert model.batch_sizes == running
    assert running[-1] < 20


def test_several_end_tokens():
    model = ToyModel(6)
    options = DecodingOptions(max_new_tokens=30)
    samples = sample(model.step, PROMPTS, model.initial_state(6), options, eos_token_id=[0, 3])
    last = samples.tokens.gather(1, samples.lengths[:, None] - 1)[:, 0]
    assert set(last.tolist()) == {0, 3}


def test_minimum_length():
    samples = generate(ToyModel(6), [[1]] * 40, DecodingOptions(max_new_tokens=9, min_new_tokens=4))
    assert int(samples.lengths.min()) == 5, "the end token comes right after the minimum in some of 40 rows"
    unlimited = generate(ToyModel(6), [[1]] * 40, DecodingOptions(max_new_tokens=9))
    assert int(unlimited.lengths.min()) < 5


@given(st.integers(1, 3), st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=25)
def test_no_ngram_occurs_twice(size, seed, do_sample):
    model = ToyModel(8, seed=seed, scale=4.0)
    prompts = [[1, 2, 1], [3], [4, 5, 6, 7]]
    longest = {1: 3, 2: 10, 3: 20}[size]  # more could leave no token to choose
    options = DecodingOptions(
        max_new_tokens=longest, no_repeat_ngram_size=size, seed=seed, do_sample=do_sample, suppress_tokens=[0]
    )
    for prompt, tokens in zip(prompts, generate(model, prompts, options).tokens.tolist(), strict=True):
        whole = prompt + tokens
        ngrams = [tuple(whole[i : i + size]) for i in range(len(whole) - size + 1)]
        new = ngrams[max(0, len(prompt) - size + 1) :]
        assert all(ngrams.count(ngram) == 1 for ngram in new)


def test_prefill_gives_what_stepping_gives():
    model, options = ToyModel(6), DecodingOptions(max_new_tokens=6, repetition_penalty=1.2)
    calls = []

    def prefill(tokens, lengths, state):
        calls.append((tokens.clone(), lengths.tolist()))
        hidden = []
        for row, length in enumerate(lengths.tolist()):
            one = model.initial_state(1)
            for token in tokens[row, :length]:
                _, one = model.step(token[None], one)
            hidden.append(one)
        return type(state)(*(torch.cat(leaves) for leaves in zip(*hidden, strict=True)))

    assert rows(generate(model, PROMPTS, options, prefill=prefill)) == rows(generate(model, PROMPTS, options))
    ((tokens, lengths),) = calls
    assert lengths == [len(prompt) - 1 for prompt in PROMPTS]
    assert tokens[1].tolist() == [2, 3, 4, 0, 0]


def test_prompts_may_be_a_tensor_and_states_any_nesting():
    model = ToyModel(6)

    def step(tokens, state):
        logits, new = model.step(tokens, state["deep"][0][1])
        return logits, {"deep": [(None, new)], "label": state["label"]}

    prompts = torch.tensor([[1, 2], [3, 4], [5, 1]])
    state = {"deep": [(None, model.initial_state(3))], "label": torch.zeros(3, 2, 2)}
    options = DecodingOptions(max_new_tokens=5)
    nested = sample(step, prompts, state, options, eos_token_id=END)
    assert rows(nested) == rows(generate(model, prompts.tolist(), options))


def test_streaming_gives_the_same_tokens_one_step_at_a_time():
    model, options = ToyModel(6), DecodingOptions(max_new_tokens=10)
    whole = generate(model, PROMPTS, options)
    collected = {row: [] for row in range(len(PROMPTS))}
    steps = stream(model.step, PROMPTS, model.initial_state(len(PROMPTS)), options, eos_token_id=END)
    before = len(model.batch_sizes)
    for count, event in enumerate(steps, start=1):
        for row, token, reason in zip(event.rows.tolist(), event.tokens.tolist(), event.finish_reasons, strict=True):
            collected[row].append(token)
            assert (reason is not None) == (len(collected[row]) == whole.lengths[row])
            assert reason in (None, whole.finish_reasons[row])
        assert len(model.batch_sizes) == before + count, "a step must not run before it is asked for"
    assert list(collected.values()) == [tokens for tokens, _, _ in rows(whole)]


LETTERS = ["", "a", "b", "c", "ab", "ca"]


def spell(ids):
    return "".join(LETTERS[token] for token in ids)


def test_stop_strings_end_a_row_and_are_not_part_of_it():
    model, stops = ToyModel(6), ("aba", "cc")
    free = generate(model, [[1]] * 30, DecodingOptions(max_new_tokens=15), decode=spell)
    stopped = generate(model, [[1]] * 30, DecodingOptions(max_new_tokens=15, stop_strings=stops), decode=spell)
    assert {"stop", "eos", "length"} >= set(stopped.finish_reasons) >= {"stop", "eos"}
    for number, (text, length) in enumerate(zip(stopped.texts, stopped.lengths.tolist(), strict=True)):
        assert not any(stop in text for stop in stops)
        assert free.texts[number].startswith(text)
        assert stopped.tokens[number, :length].tolist() == free.tokens[number, :length].tolist()
        if stopped.finish_reasons[number] == "stop":
            rest = free.texts[number][len(text) :]
            assert rest.startswith(stops)
            assert text.startswith(spell(stopped.tokens[number, :length].tolist()))
        else:
            assert text == free.texts[number]
            assert stopped.finish_reasons[number] == free.finish_reasons[number]


def test_streamed_text_is_the_text_and_never_shows_a_stop_string():
    model, options = ToyModel(6), DecodingOptions(max_new_tokens=15, stop_strings=["aba", "cc"])
    state = model.initial_state(30)
    shown = [""] * 30
    for event in stream(model.step, [[1]] * 30, state, options, eos_token_id=END, decode=spell):
        for row, text in zip(event.rows.tolist(), event.texts, strict=True):
            shown[row] += text
    assert shown == generate(model, [[1]] * 30, options, decode=spell).texts


def test_the_end_token_is_not_decoded():
    model = ToyModel(6)
    samples = generate(model, PROMPTS, DecodingOptions(max_new_tokens=30), decode=lambda ids: "".join(map(str, ids)))
    assert "eos" in samples.finish_reasons
    assert not any(str(END) in text for text in samples.texts)


def test_no_gradient_is_recorded_and_the_mode_is_left_as_it_was():
    weight = torch.ones(4, 4, requires_grad=True)
    modes = []

    def step(tokens, state):
        modes.append(torch.is_grad_enabled())
        return weight[tokens], state

    samples = sample(step, [[1, 2, 3]], torch.zeros(1, 1), DecodingOptions(max_new_tokens=3))
    assert modes == [False] * 5
    assert not samples.log_probs.requires_grad
    next(stream(step, [[1]], torch.zeros(1, 1)))
    assert torch.is_grad_enabled()


def test_greedy_takes_the_most_probable_token():
    model = ToyModel(6)
    tokens = rows(generate(model, [[1, 2]], DecodingOptions(max_new_tokens=10, do_sample=False)))[0][0]
    for position in range(len(tokens)):
        scores = [model.log_probs([1, 2], [*tokens[:position], token])[-1] for token in range(6)]
        assert tokens[position] == scores.index(max(scores))


def test_half_precision_logits_are_accepted():
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    options = DecodingOptions(max_new_tokens=4, top_k=2)
    samples = sample(markov_step(table), [[1]] * 3, torch.zeros(3, 1), options)
    assert samples.log_probs.dtype == torch.float32


STATE = torch.zeros(2, 1)
TABLE = torch.zeros(4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": [[1], []]}, "Prompt 1 is empty"),
        ({"prompts": [[1], [0.5]]}, "Prompt 1 must be a list of token ids"),
        ({"prompts": [[1], [-1]]}, "Prompt 1 must be a list of token ids"),
        ({"prompts": ["ab", "c"]}, "Prompt 0 must be a list of token ids"),
        ({"prompts": [1, 2]}, "Prompt 0 must be a list of token ids"),
        ({"state": torch.zeros(3, 1)}, r"shape \(3, 1\), but there are 2 prompts"),
        ({"state": torch.zeros(())}, r"shape \(\), but there are 2 prompts"),
        ({"eos_token_id": 4}, "eos_token_id .* not in the vocabulary of 4"),
        ({"eos_token_id": -1}, "eos_token_id must be >= 0"),
        ({"sample_numbers": [0]}, "sample_numbers must be one whole number"),
        ({"sample_numbers": [0, -1]}, "sample_numbers must be one whole number"),
        ({"options": DecodingOptions(stop_strings="x")}, "stop_strings need decode"),
        ({"options": DecodingOptions(num_beams=2, do_sample=False)}, "use beam_search"),
        ({"step": lambda tokens, state: (TABLE[tokens][None], state)}, r"shape \(B, V\) for its B = 2"),
        ({"step": lambda tokens, state: (TABLE[:1], state)}, r"returned \(1, 4\)"),
    ],
)
def test_wrong_arguments_are_reported(change, message):
    arguments = {"step": markov_step(TABLE), "prompts": [[1], [2]], "state": STATE, **change}
    with pytest.raises(ValueError, match=message):
        sample(**arguments)


def test_a_state_of_another_kind_is_reported():
    with pytest.raises(TypeError, match="made of tensors with the batch first, but holds a int"):
        sample(markov_step(TABLE), [[1], [2]], (STATE, 3))


def test_streaming_reports_wrong_arguments_at_the_call():
    with pytest.raises(ValueError, match="no prompts"):
        stream(markov_step(TABLE), [], STATE)


def test_all_steps_of_a_long_prompt_are_read():
    model = ToyModel(6)
    options = DecodingOptions(max_new_tokens=1, do_sample=False)
    outputs = {tuple(p): int(generate(model, [list(p)], options).tokens) for p in itertools.product((1, 2), repeat=5)}
    expected = {p: max(range(6), key=lambda token, p=p: model.log_probs(list(p), [token])[-1]) for p in outputs}
    assert outputs == expected
    assert len(set(outputs.values())) > 1
