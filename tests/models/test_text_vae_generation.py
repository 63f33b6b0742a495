"""Sentences from latents and latents from sentences."""

import pytest
import torch

from hybridgen import codecs
from hybridgen.generation import DecodingOptions
from hybridgen.models import TextVAE
from hybridgen.objectives.variational import DiagonalGaussian, VonMisesFisher

LINES = ["the cat sat on the mat", "a dog", "", "the quick brown fox jumps over the lazy dog", "stop", "the dog sat"]


def make(codec="words", **options):
    small = {"cell": "gru", "hidden_size": 16}
    options = {"encoder": small, "decoder": small, "embedding_size": 8, "latent_size": 4} | options
    specials = {} if codec == "words" else {"specials": ["eos"]}
    made = codecs.make(codec, [line + "\n" for line in LINES], **specials)
    return TextVAE(**options, codec=made.to_config()).eval()


@pytest.mark.parametrize("options", [{}, {"posterior": "vmf"}, {"codec": "characters", "latent_to": "input"}])
def test_encoding_does_not_depend_on_the_company(options):
    model = make(**options)
    together = model.encode(LINES)
    assert isinstance(together, VonMisesFisher if options.get("posterior") == "vmf" else DiagonalGaussian)
    assert together.mean.shape == (6, 4)
    for i, line in enumerate(LINES):
        torch.testing.assert_close(model.encode([line]).mean[0], together.mean[i])
    torch.testing.assert_close(model.encode([LINES[0] + "\n"]).mean[0], together.mean[0])


@pytest.mark.parametrize(
    "options", [{}, {"posterior": "vmf"}, {"prior": "mixture"}, {"prior": "vamp", "prior_options": {"length": 3}}]
)
def test_every_sample_can_be_drawn_alone(options):
    model = make(**options)
    decoding = DecodingOptions(max_new_tokens=12, seed=3)
    several = model.generate(6, decoding)
    assert len(set(several.texts)) > 1
    alone = model.generate(2, decoding, sample_numbers=[4, 1])
    assert alone.texts == [several.texts[4], several.texts[1]]
    torch.testing.assert_close(
        model.sample_prior(1, seed=3, sample_numbers=[4])[0], model.sample_prior(6, seed=3)[4], atol=1e-6, rtol=1e-6
    )
    assert not torch.equal(model.sample_prior(6, seed=3), model.sample_prior(6, seed=4))
    before = torch.get_rng_state()
    model.generate(2)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = model.reconstruct(LINES, decoding, use_mean=False)
    again = model.reconstruct([LINES[3]], decoding, use_mean=False, sample_numbers=[3])
    assert again.texts == [drawn.texts[3]]


def test_prior_samples_have_the_priors_moments():
    z = make(latent_size=3).sample_prior(4000, seed=1)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=0.06, rtol=0)
    torch.testing.assert_close(z.var(0), torch.ones(3), atol=0.1, rtol=0)
    corners = torch.corrcoef(z.T) - torch.eye(3)
    assert float(corners.abs().max()) < 0.06


def test_log_probs_of_what_is_generated_are_the_models():
    model = make(latent_to="both")
    z = model.sample_prior(4)
    samples = model.decode(z, DecodingOptions(max_new_tokens=9))
    for row, length in enumerate(samples.lengths.tolist()):
        tokens = samples.tokens[row, :length]
        inputs = torch.cat([torch.tensor([model.start_id]), tokens[:-1]]).unsqueeze(0)
        with torch.no_grad():
            hidden = model.decoder(model.embedding(inputs), z[row : row + 1])[0]
            expected = model.head.log_probs(hidden).gather(1, tokens.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(samples.log_probs[row, :length], expected, atol=1e-5, rtol=1e-5)


def test_beam_search_finds_nothing_less_likely_than_greedy_and_greedy_reconstruction_is_the_default():
    model = make()
    z = model.sample_prior(5)
    greedy = model.decode(z, DecodingOptions(do_sample=False, max_new_tokens=6))
    beams = model.decode(z, DecodingOptions(do_sample=False, num_beams=20, max_new_tokens=6, length_penalty=0.0))
    assert len(beams.texts) == 5
    assert bool((beams.log_probs.sum(1) >= greedy.log_probs.sum(1) - 1e-5).all())
    for text, tokens, length, reason in zip(
        beams.texts, beams.tokens, beams.lengths, beams.finish_reasons, strict=True
    ):
        assert text == model.codec.decode(tokens[: int(length) - (reason == "eos")])
    expected = model.decode(model.encode(LINES).mean, DecodingOptions(do_sample=False)).texts
    assert model.reconstruct(LINES).texts == expected


def test_mistakes_are_told():
    model = make()
    with pytest.raises(ValueError, match="no sentences to encode"):
        model.encode([])
    with pytest.raises(ValueError, match="put it into a list"):
        model.encode("the cat")
    with pytest.raises(ValueError, match="sentence 1 has several lines"):
        model.encode(["a dog", "a dog\nthe cat"])
    with pytest.raises(ValueError, match="end token inside"):
        model.encode(["a <eos> dog"])
    with pytest.raises(ValueError, match="é"):
        make("characters").encode(["é"])
    with pytest.raises(ValueError, match="num_samples is 0"):
        model.generate(0)
    with pytest.raises(ValueError, match="sample_numbers must be"):
        model.generate(2, sample_numbers=[1])
    with pytest.raises(ValueError, match="seed is -1"):
        model.sample_prior(1, seed=-1)
    for z in (torch.zeros(2, 3), torch.zeros(4), torch.zeros(0, 4), torch.zeros(2, 4, dtype=torch.long)):
        with pytest.raises(ValueError, match="z must be floating point"):
            model.decode(z)
    no_end = codecs.make("characters", ["abc"]).to_config()
    with pytest.raises(ValueError, match="needs a codec with <eos>"):
        TextVAE(codec=no_end)
