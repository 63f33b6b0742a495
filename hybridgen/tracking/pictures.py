"""Pictures of sounds and series."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.signal import spectrogram

from hybridgen.codecs import Series

#: Columns of a table of series that are drawn, and series in each.
_COLUMNS, _SERIES = 12, 6


def spectrogram_figure(waveforms: Sequence[NDArray[np.float32]], rate: int) -> Figure:
    """Level over time and frequency of each sound, below each other; 80 dB from the brightest to black.

    Args:
        waveforms: each ``(N,)``, N at least 16.
        rate: samples a second.

    Raises:
        ValueError: if there is none, or one is too short.
    """
    if not waveforms or min(map(len, waveforms)) < 16:
        raise ValueError("a spectrogram needs sounds of at least 16 samples")
    figure = Figure(figsize=(6.4, 1.5 * len(waveforms) + 0.4), layout="constrained")
    axes = figure.subplots(len(waveforms), 1, squeeze=False)[:, 0]
    for axis, wave in zip(axes, waveforms, strict=True):
        window = min(512, len(wave))
        frequencies, _, power = spectrogram(wave, rate, nperseg=window, noverlap=window * 3 // 4)
        level = 10 * np.log10(np.maximum(power, 1e-12))
        top = float(level.max())
        extent = (0.0, len(wave) / rate, 0.0, float(frequencies[-1]) / 1000)
        axis.imshow(level, origin="lower", aspect="auto", extent=extent, vmin=top - 80, vmax=top, cmap="magma")
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    return figure


def series_numbers(series: Sequence[Series]) -> list[str]:
    """Names of the columns of numbers, which can be drawn; none where series have categories alone."""
    if not series:
        return []
    return [name for name, values in series[0].columns.items() if np.asarray(values).dtype.kind == "f"]


def series_figure(series: Sequence[Series]) -> Figure:
    """A few series, a plot for each of their columns of numbers (of the first twelve).

    Raises:
        ValueError: if there is nothing to draw.
    """
    numbers = series_numbers(series)
    if not numbers:
        raise ValueError("there are no columns of numbers to draw")
    numbers = numbers[:_COLUMNS]
    wide = min(4, len(numbers))
    rows = -(-len(numbers) // wide)
    figure = Figure(figsize=(max(5.0, 2.7 * wide), 1.9 * rows + 0.2), layout="constrained")
    axes = figure.subplots(rows, wide, squeeze=False).flatten()
    for axis, name in zip(axes, numbers, strict=False):
        for each in series[:_SERIES]:
            axis.plot(np.asarray(each.columns[name], dtype=float), linewidth=1, alpha=0.8)
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(numbers) :]:
        axis.set_axis_off()
    return figure
