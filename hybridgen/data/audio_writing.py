"""Writing sounds: wav files, and a list of them with what each is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from hybridgen.data.errors import DataError
from hybridgen.data.files import whole_file

MANIFEST = "manifest.jsonl"


def write_audio(
    folder: str | Path,
    waveforms: Sequence[Tensor | np.ndarray],
    *,
    sample_rate: int,
    labels: Sequence[str | None] | None = None,
    details: Sequence[Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write each waveform as a wav file of 16 bits, and ``manifest.jsonl`` that tells what each is; all or nothing.

    A line of the list has ``file``, ``label`` (where there are labels), ``seconds``, ``sample_rate``, ``peak`` (before
    it was turned down: a sound beyond full scale is, so that it does not clip) and what ``details`` adds. Files are
    named by their number, and by their label where it can be part of a name: ``0007_dog.wav``. ``AudioData`` reads the
    folder, with the labels by ``label_pattern='_(?P<label>.+)'``.

    Args:
        folder: Where they go; made where it is not there. It must hold no manifest and none of these files yet.
        waveforms: Each `(N,)`.
        sample_rate: Samples in a second.
        labels: The class of each.
        details: What else to say of each, as plain JSON values, such as the seed.

    Returns:
        The paths of the files, in order.

    Raises:
        DataError: There is nothing to write, a waveform is empty or not finite, or the folder cannot be written or
            holds sounds already.
    """
    folder = Path(folder).expanduser()
    if not len(waveforms):
        raise DataError(f"there is no sound to write to {folder}")
    if (folder / MANIFEST).exists():
        raise DataError(f"{folder} holds sounds already (it has a {MANIFEST}): choose a new folder, or remove it")
    lines, names, sounds = [], [], []
    digits = max(4, len(str(len(waveforms) - 1)))
    for number, waveform in enumerate(waveforms):
        samples = waveform.detach().float().cpu().numpy() if isinstance(waveform, Tensor) else np.asarray(waveform)
        if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
            raise DataError(f"sound {number} is empty or has samples that are not finite: nothing is written")
        peak = float(np.abs(samples).max())
        label = None if labels is None else labels[number]
        names.append(f"{number:0{digits}d}{_as_name(label)}.wav")
        sounds.append(samples / peak if peak > 1 else samples)
        lines.append(
            {
                "file": names[-1],
                **({} if label is None else {"label": label}),
                "seconds": round(len(samples) / sample_rate, 6),
                "sample_rate": sample_rate,
                "peak": round(peak, 6),
                **({} if details is None else details[number]),
            }
        )
    taken = next((name for name in names if (folder / name).exists()), None)
    if taken is not None:  # of no list of ours, and so a person's own
        raise DataError(f"{folder / taken} is there already: choose a new folder, or remove it")
    _write(folder, names, sounds, sample_rate, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return [folder / name for name in names]


def _write(folder: Path, names: list[str], sounds: list[np.ndarray], sample_rate: int, manifest: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".sounds.", suffix=".partial", dir=folder))
        try:
            for name, samples in zip(names, sounds, strict=True):
                soundfile.write(partial / name, samples, sample_rate, subtype="PCM_16")
            for name in names:
                (partial / name).replace(folder / name)
            with whole_file(folder / MANIFEST) as (handle, _):
                handle.write(manifest.encode())
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{folder} cannot be written ({reason}): choose another folder") from None


def _as_name(label: str | None) -> str:
    """Return a label as part of a file's name, or nothing where it cannot be one."""
    if label is None or not label.replace("-", "").replace(" ", "").replace("#", "").isalnum():
        return ""
    return "_" + label.replace(" ", "-")
