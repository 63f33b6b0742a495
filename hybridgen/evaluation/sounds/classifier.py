"""A small classifier of sounds, which stands in for a listener: what class is this, and how sure.

Its part is that of the Inception network for images: Salimans et al. 2016, arXiv:1606.03498. The network is our own.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.evaluation.series.inputs import check_counts
from hybridgen.evaluation.sounds.spectra import BANDS, mel_spectra


class SoundClassifier(nn.Module):
    """Convolutions over log-mel spectra of 32 frames, then one hidden layer whose units are the features.

    Args:
        num_labels: classes.
        sample_rate: of the sounds.
        channels: of the first convolution; each further one has twice as many.
        features: units of the hidden layer, D.
    """

    def __init__(self, num_labels: int, sample_rate: int, *, channels: int = 16, features: int = 64) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        widths = [1, channels, 2 * channels, 4 * channels]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(widths[-1] * (BANDS // 8) * 4, features)
        self.dropout = nn.Dropout(0.4)
        self.label = nn.Linear(features, num_labels)

    def features_of(self, spectra: Tensor) -> Tensor:
        """The hidden layer ``(B, D)`` of spectra ``(B, 32, 40)``."""
        found = self.convolutions(spectra.unsqueeze(1) - 0.4)  # centred, one channel
        return torch.relu(self.hidden(found.flatten(1)))

    def forward(self, spectra: Tensor) -> Tensor:
        """Logits ``(B, num_labels)`` of spectra ``(B, 32, 40)``."""
        return self.label(self.dropout(self.features_of(spectra)))

    @torch.no_grad()
    def hear(self, sounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Probabilities ``(B, num_labels)`` and features ``(B, D)`` of waveforms."""
        self.eval()
        features = self.features_of(mel_spectra(sounds, self.sample_rate))
        return self.label(features).softmax(-1), features


@torch.enable_grad()
def train_classifier(
    sounds: Sequence[Tensor],
    labels: Tensor,
    *,
    sample_rate: int,
    num_labels: int,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> SoundClassifier:
    """Train a classifier of real sounds.

    Bands and frames are masked at random and spectra are stretched and moved a little in time (Park et al. 2019,
    arXiv:1904.08779), so that it listens to more than one trait of a sound.

    Args:
        sounds: waveforms ``(N,)``.
        labels: ``(B,)`` class numbers.
        sample_rate: samples in a second.
        num_labels: classes.
        epochs: passes over the sounds.
        batch_size: sounds of a step.
        learning_rate: of AdamW at its peak; a cosine after a short warm-up.
        seed: of weights, order and masks.

    Raises:
        ValueError: if labels do not fit the sounds, or a number is not as described.
    """
    check_counts(epochs=epochs, batch_size=batch_size, num_labels=num_labels)
    labels = torch.as_tensor(labels).long()
    if labels.shape != (len(sounds),) or int(labels.min()) < 0 or int(labels.max()) >= num_labels:
        raise ValueError(f"labels must be one of 0 to {num_labels - 1} for each of the {len(sounds)} sounds")
    spectra = mel_spectra(sounds, sample_rate)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = SoundClassifier(num_labels, sample_rate)
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=learning_rate, weight_decay=0.05)
        steps = epochs * -(-len(sounds) // batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
        for _ in range(epochs):
            for chosen in torch.randperm(len(sounds), generator=random).split(batch_size):
                logits = classifier(_augmented(spectra[chosen], random))
                loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(classifier.parameters(), 5.0)
                optimizer.step()
                schedule.step()
    return classifier.eval()


def _augmented(spectra: Tensor, random: torch.Generator) -> Tensor:
    """Spectra ``(B, 32, 40)`` stretched, moved and masked, each in its own way."""
    batch, frames, bands = spectra.shape
    draw = torch.rand(batch, 6, generator=random)
    scale, shift = 0.8 + 0.4 * draw[:, 0], 0.3 * (draw[:, 1] - 0.5)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 1, 2] = 1.0, scale, shift
    grid = F.affine_grid(theta, [batch, 1, frames, bands], align_corners=False)
    moved = F.grid_sample(spectra.unsqueeze(1), grid, align_corners=False, padding_mode="border").squeeze(1)
    band, frame = torch.arange(bands), torch.arange(frames)
    low, early = draw[:, 2:3] * bands, draw[:, 4:5] * frames
    masked = ((band >= low) & (band < low + 8 * draw[:, 3:4])).unsqueeze(1)  # (B, 1, 40)
    masked = masked | ((frame >= early) & (frame < early + 6 * draw[:, 5:6])).unsqueeze(2)
    return moved.masked_fill(masked, 0.0)
