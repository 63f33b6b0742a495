"""The classifier that stands in for a listener, and the figures that it gives."""

import math

import pytest
import torch

from hybridgen.evaluation.sounds import SoundSet, evaluate_sounds, inception_score, mel_spectra, train_classifier

RATE = 4000


def tones(pitches, number, seed):
    """Sounds of near-equal pitch, of random length, loudness and noise, and their class."""
    random = torch.Generator().manual_seed(seed)
    sounds, labels = [], []
    for place in range(number):
        label = place % len(pitches)
        length = int(torch.randint(600, 2000, (), generator=random))
        detune = 1 + 0.1 * (torch.rand((), generator=random) - 0.5)
        time = torch.arange(length) / RATE
        wave = torch.sin(2 * math.pi * pitches[label] * detune * time) * torch.exp(-3 * time)
        noise = 0.02 * torch.randn(length, generator=random)
        sounds.append((wave + noise) * (0.1 + 0.9 * torch.rand((), generator=random)))
        labels.append(label)
    return SoundSet(sounds, torch.tensor(labels))


def test_spectra_have_one_shape_and_forget_loudness():
    sound = tones([300.0], 1, 0).sounds[0]
    spectra = mel_spectra([sound, 0.05 * sound, sound[:50]], RATE)
    assert spectra.shape == (3, 32, 40)
    torch.testing.assert_close(spectra[0], spectra[1], atol=1e-4, rtol=0)
    assert 0 <= float(spectra.min()) <= float(spectra.max()) <= 1.05


def test_a_higher_tone_lies_in_a_higher_band():
    low, high = mel_spectra([tones([200.0], 1, 1).sounds[0], tones([1500.0], 1, 1).sounds[0]], RATE).mean(1)
    assert int(low.argmax()) < int(high.argmax())


@pytest.mark.parametrize("sound", [torch.zeros(0), torch.full((100,), math.nan), torch.zeros(2, 100)])
def test_what_is_no_waveform_is_named_by_its_number(sound):
    with pytest.raises(ValueError, match="sound 1 must be"):
        mel_spectra([torch.ones(100), sound], RATE)


def test_inception_score_is_between_one_and_the_number_of_classes():
    assert inception_score(torch.full((8, 4), 0.25)) == pytest.approx(1)
    assert inception_score(torch.eye(4)) == pytest.approx(4, rel=1e-6)
    same = torch.zeros(8, 4)
    same[:, 2] = 1
    assert inception_score(same) == pytest.approx(1)  # clear, but all alike


def test_good_sounds_score_as_real_ones_and_wrong_ones_do_not():
    pitches = [250.0, 500.0, 1000.0]
    train, test, good = (tones(pitches, number, seed) for number, seed in ((120, 2), (30, 3), (30, 4)))
    options = {"sample_rate": RATE, "num_labels": 3, "epochs": 25}
    report = evaluate_sounds(train, test, good, test, **options)
    found = report.metrics()
    assert found["real_label_accuracy"] > 0.9
    assert found["label_accuracy"] > 0.9
    assert found["inception_score_ratio"] > 0.85
    assert 0.7 < found["memorisation_ratio"] < 1.4

    monotone = SoundSet(tones([500.0], 30, 5).sounds, good.labels)
    worse = evaluate_sounds(train, test, monotone, test, **options).metrics()
    assert worse["label_accuracy"] < 0.5
    assert worse["inception_score"] < found["inception_score"] / 1.3
    assert worse["frechet_distance"] > 2 * found["frechet_distance"]

    copies = SoundSet(train.sounds[:30], train.labels[:30])
    assert evaluate_sounds(train, test, copies, test, **options).metrics()["memorisation_ratio"] < 0.1


def test_the_same_seed_gives_the_same_classifier():
    train = tones([250.0, 1000.0], 16, 6)
    options = {"sample_rate": RATE, "num_labels": 2, "epochs": 1, "batch_size": 8}
    first, second, other = (
        train_classifier(train.sounds, train.labels, **options, seed=seed).label.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_labels_that_do_not_fit_are_refused():
    train = tones([250.0, 1000.0], 4, 7)
    with pytest.raises(ValueError, match="labels must be one of 0 to 1"):
        train_classifier(train.sounds, torch.tensor([0, 1, 2, 0]), sample_rate=RATE, num_labels=2)
