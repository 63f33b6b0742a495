"""The same numbers as Hugging Face transformers; skipped where it is not installed."""

import dataclasses

import pytest
import torch

from hybridgen.generation import DecodingOptions, beam_search, sample
from hybridgen.generation.processors import PADDING, process_logits
from hybridgen.generation.warpers import warp_logits

from .toy_models import markov_step

transformers = pytest.importorskip("transformers")

from transformers.generation import logits_process as hf  # noqa: E402
from transformers.modeling_outputs import CausalLMOutput  # noqa: E402

VOCABULARY, END, LENGTH = 30, 4, 12


class MarkovConfig(transformers.PretrainedConfig):
    model_type = "markov_chain_for_tests"


class MarkovModel(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A first-order Markov chain as a Hugging Face model, so that the real `generate` can run on it."""

    config_class = MarkovConfig

    def __init__(self, table):
        super().__init__(MarkovConfig(vocab_size=len(table)))
        self.table = torch.nn.Parameter(table)
        self.post_init()

    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=self.table[input_ids])


def their_processors(options):
    """Exactly what `generate` would build from the same options, in its order."""
    names = {field.name for field in dataclasses.fields(options)} - {"seed", "stop_strings"}
    values = {name: getattr(options, name) for name in names}
    values["bad_words_ids"] = [list(word) for word in options.bad_words_ids] or None
    values["suppress_tokens"] = list(options.suppress_tokens) or None
    config = transformers.GenerationConfig(**values, eos_token_id=END, pad_token_id=0)
    config._eos_token_tensor = torch.tensor([END])
    model = MarkovModel(torch.zeros(2, 2))
    return model._get_logits_processor(config, input_ids_seq_length=LENGTH - 3, device="cpu")


def logits_and_history(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, VOCABULARY, generator=generator) * 3
    return logits, torch.randint(0, 6, (16, LENGTH), generator=generator)


OPTION_SETS = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": ((3,), (1, 2), (2, 2), (0, 1, 5), (END,))},
    {"min_new_tokens": 3},
    {"min_new_tokens": 4},
    {"suppress_tokens": (1, 7)},
    {"temperature": 0.6},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 100},
    {"top_p": 0.05},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.02},
    {"min_p": 0.5},
    {"typical_p": 0.2},
    {"typical_p": 0.9},
    {"temperature": 1.4, "top_k": 10, "top_p": 0.8, "min_p": 0.1, "typical_p": 0.7},
    {"temperature": 2.5, "top_p": 0.6, "typical_p": 0.5, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
    {"temperature": 0.5, "min_p": 0.05, "min_new_tokens": 9, "bad_words_ids": ((3,), (2, 2)), "top_k": 20},
]


@pytest.mark.parametrize("values", OPTION_SETS)
@pytest.mark.parametrize("seed", range(5))
def test_logits_after_all_processors(values, seed):
    options = DecodingOptions(**values)
    logits, history = logits_and_history(seed)
    expected = their_processors(options)(history, logits.clone())
    ours = process_logits(logits, history, options, new_tokens=3, end_tokens=(END,))
    assert torch.allclose(warp_logits(ours, options), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"temperature": 0.6}, hf.TemperatureLogitsWarper(0.6)),
        ({"top_k": 7}, hf.TopKLogitsWarper(7)),
        ({"top_p": 0.8}, hf.TopPLogitsWarper(0.8)),
        ({"min_p": 0.1}, hf.MinPLogitsWarper(0.1)),
        ({"typical_p": 0.6}, hf.TypicalLogitsWarper(0.6)),
    ],
)
def test_tied_logits(ours, theirs):
    logits, history = logits_and_history(0)
    logits = (logits / 3).round()
    result, expected = warp_logits(logits, DecodingOptions(**ours)), theirs(history, logits.clone())
    if "top_p" in ours:  # their sort is not stable: which of the tied tokens at the border are kept is arbitrary
        result, expected = result.sort(-1).values, expected.sort(-1).values
    assert torch.equal(result, expected)


def test_every_processor_was_compared():
    built = {type(p) for values in OPTION_SETS for p in their_processors(DecodingOptions(**values))}
    assert built == {
        hf.RepetitionPenaltyLogitsProcessor,
        hf.NoRepeatNGramLogitsProcessor,
        hf.NoBadWordsLogitsProcessor,
        hf.MinNewTokensLengthLogitsProcessor,
        hf.SuppressTokensLogitsProcessor,
        hf.TemperatureLogitsWarper,
        hf.TopKLogitsWarper,
        hf.TopPLogitsWarper,
        hf.MinPLogitsWarper,
        hf.TypicalLogitsWarper,
    }


def test_padding_on_the_left_is_their_ignored_prefix():
    logits, history = logits_and_history(1)
    lengths = torch.arange(16) % 5
    padding = torch.arange(LENGTH) < lengths[:, None]
    theirs = hf.RepetitionPenaltyLogitsProcessor(1.4, prompt_ignore_length=lengths)(history, logits.clone())
    options = DecodingOptions(repetition_penalty=1.4)
    ours = process_logits(logits, history.masked_fill(padding, PADDING), options, new_tokens=0)
    assert torch.allclose(ours, theirs)


def their_search(table, prompts, **values):
    result = MarkovModel(table).generate(
        prompts,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=0,
        use_cache=False,
        output_scores=True,
        return_dict_in_generate=True,
        **values,
    )
    return result, result.sequences[:, prompts.shape[1] :]


def tokens_of(padded):
    """Rows without their padding: up to the first end token."""
    rows = [row.tolist() for row in padded]
    return [row[: row.index(END) + 1] if END in row else row for row in rows]


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -0.5])
@pytest.mark.parametrize(("num_beams", "extra"), [(2, {}), (4, {"no_repeat_ngram_size": 2, "min_new_tokens": 3})])
def test_beam_search(early_stopping, length_penalty, num_beams, extra):
    for seed in range(4):
        table = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)) * 2
        prompts = torch.tensor([[1, 2], [3, 3], [0, 7], [5, 6]])
        values = {
            "num_beams": num_beams,
            "length_penalty": length_penalty,
            "early_stopping": early_stopping,
            "max_new_tokens": 9,
            **extra,
        }
        theirs, sequences = their_search(table, prompts, num_return_sequences=num_beams, **values)
        options = DecodingOptions(do_sample=False, **values)
        ours = beam_search(markov_step(table), prompts, torch.zeros(4, 1), options, eos_token_id=END)
        lengths = ours.lengths.flatten().tolist()
        flat = ours.tokens.flatten(0, 1)
        assert [row[:n].tolist() for row, n in zip(flat, lengths, strict=True)] == tokens_of(sequences)
        assert torch.allclose(ours.scores.flatten(), theirs.sequences_scores, atol=1e-5)


def test_greedy():
    table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 2
    prompts = torch.arange(VOCABULARY)[:, None]
    values = {"max_new_tokens": 10, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 2}
    _, sequences = their_search(table, prompts, **values)
    options = DecodingOptions(do_sample=False, **values)
    ours = sample(markov_step(table), prompts, torch.zeros(VOCABULARY, 1), options, eos_token_id=END)
    assert [row[:n].tolist() for row, n in zip(ours.tokens, ours.lengths.tolist(), strict=True)] == tokens_of(sequences)
