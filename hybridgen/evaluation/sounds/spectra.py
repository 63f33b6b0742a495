"""What a listener here hears of a sound: its log-mel spectrum, whatever the codec that made it.

The mel scale is Slaney's (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Frames that every sound's spectrum is stretched or squeezed to.
FRAMES = 32
#: Mel bands.
BANDS = 40
_FLOOR = 1e-4  # 80 dB below full scale


def mel_spectra(sounds: Sequence[Tensor], sample_rate: int) -> Tensor:
    """Log-mel spectra of sounds of any length, all of one shape.

    Windows of 32 ms every 10 ms, 40 bands; each sound is first brought to full level, so that loudness tells nothing,
    and its spectrum is then brought to 32 frames by linear interpolation, so that sounds of different lengths compare.

    Args:
        sounds: waveforms ``(N,)`` in -1 to 1.
        sample_rate: samples in a second.

    Returns:
        ``(B, 32, 40)`` float32: 0 is 80 dB below the loudest, 1 is the loudest that a sine can be.

    Raises:
        ValueError: if there is no sound, or one is empty or not finite.
    """
    from torchaudio.transforms import MelSpectrogram

    if not sounds:
        raise ValueError("there is no sound to take spectra of")
    window = max(64, round(0.032 * sample_rate))
    transform = MelSpectrogram(
        sample_rate,
        n_fft=2 ** (window - 1).bit_length(),
        win_length=window,
        hop_length=max(1, round(0.01 * sample_rate)),
        n_mels=BANDS,
        power=1.0,
        f_min=20.0,
        mel_scale="slaney",
    )
    full_scale = float(transform.spectrogram.window.sum()) / 2
    spectra = []
    for number, sound in enumerate(sounds):
        if sound.dim() != 1 or not len(sound) or not sound.isfinite().all():
            raise ValueError(f"sound {number} must be a waveform (N,) of finite numbers, at least one")
        waveform = sound.detach().float().cpu()
        waveform = waveform / waveform.abs().max().clamp(min=1e-6)
        missing = transform.n_fft - len(waveform)  # the ends are mirrored, which needs some samples
        mels = transform(torch.nn.functional.pad(waveform, (0, max(0, missing)))) / full_scale  # (40, T)
        levels = mels.clamp(min=_FLOOR).log10() / 4 + 1
        spectra.append(torch.nn.functional.interpolate(levels[None], size=FRAMES, mode="linear")[0].T)
    return torch.stack(spectra)
