"""Sounds: the round trip of each codec as good as it promises."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.codecs import CodecError, FramedCodec, LogMelCodec, MuLawCodec
from hybridgen.data.synthetic_notes import Note

RATE = 8000
CODECS = [
    FramedCodec(sample_rate=RATE, frame_length=100, hop_length=37, labels=["a", "b"]),
    MuLawCodec(sample_rate=RATE, frame_length=50, labels=["a", "b"]),
    LogMelCodec(sample_rate=RATE, labels=["a", "b"]),
]


def noise(length, seed=0):
    return torch.rand(length, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def note(instrument="plucked", pitch=60, seconds=0.3):
    return torch.from_numpy(Note(instrument, pitch, 3).play(RATE, seconds))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_contract(codec):
    waveform = note()
    values = codec.encode(waveform)
    assert values.shape == (codec.num_frames(len(waveform)), codec.num_features)
    assert values.dtype == torch.float32
    low = 0.0 if codec.kind == "unit" else -1.0
    assert values.min() >= low
    assert values.max() <= 1
    assert [(group.kind, group.start, group.stop) for group in codec.groups] == [(codec.kind, 0, codec.num_features)]
    assert codec.neutral.shape == (codec.num_features,)
    both = codec.decode(torch.stack([values, values]), lengths=torch.tensor([len(values), 4]))
    assert [len(sound) for sound in both] == [codec.num_samples(len(values)), codec.num_samples(4)]
    assert all(sound.isfinite().all() for sound in both)
    assert both[0].equal(codec.decode(values[None])[0])  # the same sound every time
    assert codec.label_index("b") == 1


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_saved_codec_is_the_same(codec):
    loaded = codecs.from_config(json.loads(json.dumps(codec.to_config())))
    assert type(loaded) is type(codec)
    assert loaded.to_config() == codec.to_config()
    assert loaded.encode(note()).equal(codec.encode(note()))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 700), st.integers(1, 90), st.integers(1, 90))
def test_framing_is_exact(length, frame_length, hop_length):
    codec = FramedCodec(sample_rate=RATE, frame_length=max(frame_length, hop_length), hop_length=hop_length)
    waveform = noise(length)
    (back,) = codec.decode(codec.encode(waveform)[None])
    assert len(back) >= length
    torch.testing.assert_close(back[:length], waveform, rtol=0, atol=1e-6)
    assert (back[length:].abs() < 1e-6).all()


def test_frames_that_disagree_fade_into_each_other():
    codec = FramedCodec(sample_rate=RATE, frame_length=64, hop_length=32)
    (back,) = codec.decode(torch.stack([torch.zeros(64), torch.ones(64)])[None])
    assert (back.diff() >= -1e-6).all()
    assert back.diff().max() < 0.06


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.sampled_from([16, 256]))
def test_mu_law_errs_by_half_a_level_at_most(samples, levels):
    codec = MuLawCodec(sample_rate=RATE, frame_length=7, levels=levels)
    waveform = torch.tensor(samples)
    (back,) = codec.decode(codec.encode(waveform)[None])
    error = (back[: len(waveform)] - waveform).abs()
    mu = levels - 1
    # The derivative of the inverse law at the farther of both places, times half of a level's width of 2 / mu.
    slope = math.log(levels) / mu * (1 + mu * torch.maximum(waveform.abs(), back[: len(waveform)].abs()))
    assert (error <= slope / mu * 1.001 + 1e-6).all()


def test_levels_are_torchaudios():
    from torchaudio.functional import mu_law_decoding, mu_law_encoding

    codec = MuLawCodec(sample_rate=RATE)
    waveform = noise(100)
    levels = codec.levels_of(waveform)
    assert levels.equal(mu_law_encoding(waveform, 256))
    assert codec.from_levels(levels).equal(mu_law_decoding(levels, 256))


def convergence(one, other, codec):
    """The spectral convergence: the distance of magnitudes over their size."""
    length = min(len(one), len(other))
    spectra = [
        torch.stft(x[:length], codec.fft_length, window=torch.hann_window(codec.fft_length), return_complex=True).abs()
        for x in (one, other)
    ]
    return float((spectra[0] - spectra[1]).norm() / spectra[0].norm())


@pytest.mark.parametrize(("instrument", "limit"), [("plucked", 0.4), ("struck", 0.3)])
def test_log_mel_spectra_sound_alike(instrument, limit):
    codec = LogMelCodec(sample_rate=RATE, num_mels=80)
    waveform = note(instrument)
    values = codec.encode(waveform)
    (back,) = codec.decode(values[None])
    assert convergence(waveform, back, codec) < limit
    again = codec.encode(back)[: len(values)]
    loud = values[: len(again)] > values.max() - 0.5  # within 40 decibels of the loudest
    assert (again - values[: len(again)])[loud].abs().mean() * codec.dynamic_range < 2  # decibels


def test_bands_of_a_tone_are_where_its_frequency_is():
    codec = LogMelCodec(sample_rate=RATE, num_mels=20)
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(4000) / RATE)
    analysed = codec.analyse(tone)
    assert abs(float(analysed.max())) < 6  # a full-scale sine is about 0 decibels
    mel = 2595 * math.log10(1 + 1000 / 700)
    edge = [2595 * math.log10(1 + f / 700) for f in (codec.low_frequency, codec.high_frequency)]
    expected = (mel - edge[0]) / (edge[1] - edge[0]) * 21 - 1
    assert abs(int(analysed[10].argmax()) - expected) <= 1


def test_silence_stays_silent_and_the_loudest_becomes_one():
    codec = LogMelCodec(sample_rate=RATE)
    values = codec.encode(torch.zeros(2000))
    assert (values == 0).all()
    assert codec.decode(values[None])[0].abs().max() < 1e-4
    loudest = float(codec.analyse(note()).max())
    assert float(codec.fitted(loudest).encode(note()).max()) == pytest.approx(1)


def test_the_shortest_sounds_are_decoded():
    for codec in CODECS:
        (back,) = codec.decode(codec.encode(torch.tensor([0.5]))[None])
        assert len(back) >= 1
        assert back.isfinite().all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FramedCodec(sample_rate=RATE, frame_length=10, hop_length=11), "hop_length=11 leaves gaps"),
        (lambda: FramedCodec(sample_rate=RATE, frame_length=0), "frame_length=0 must be a whole number"),
        (lambda: FramedCodec(sample_rate="fast"), "sample_rate='fast' must be a whole number"),
        (lambda: FramedCodec(sample_rate=RATE, labels=["a", "a"]), "is not a list of different names"),
        (lambda: MuLawCodec(sample_rate=RATE, levels=1), "levels=1 must be a whole number of at least 2"),
        (lambda: LogMelCodec(sample_rate=RATE, fft_length=128), "num_mels=64 bands are more than fft_length=128 can"),
        (lambda: LogMelCodec(sample_rate=RATE, high_frequency=5000.0), "must lie in 0 to 4000 Hz"),
        (lambda: LogMelCodec(sample_rate=RATE, hop_length=400), "hop_length=400 is more than half of fft_length=512"),
        (lambda: LogMelCodec(sample_rate=RATE, dynamic_range=0), "dynamic_range=0 must be above 0"),
        (lambda: LogMelCodec(sample_rate=RATE, loudest=float("nan")), "loudest=nan must be a number"),
        (lambda: CODECS[0].encode(torch.zeros(2, 5)), r"shape \(2, 5\) cannot be encoded: give .* one channel"),
        (lambda: CODECS[2].encode(torch.zeros(0)), r"shape \(0,\) cannot be encoded"),
        (lambda: CODECS[1].encode(torch.tensor([0.0, float("nan")])), "sample 1 of the waveform is not finite"),
        (lambda: CODECS[1].decode(torch.zeros(1, 4, 9)), r"give \(B, T, F\) with F=50"),
        (lambda: CODECS[0].decode(torch.full((1, 4, 100), math.inf)), "sound 0 has no frame, or values that are not"),
        (lambda: CODECS[0].label_index("c"), "there is no label 'c'"),
        (lambda: FramedCodec(sample_rate=RATE).label_index("c"), "had no labels"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(make, sentence):
    with pytest.raises(CodecError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)
