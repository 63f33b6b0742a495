"""Sequences between models and the files of people: which file a kind of data is written to, and read from."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

from hybridgen.commands.run_config import config_of, data_section


class Given(NamedTuple):
    """Sequences that a person gave.

    Attributes:
        sequences: features ``(T, F)`` each.
        labels: the class of each by name, or None where they have none.
        conditions: features ``(T, C)`` of each, or None.
        names: of the sequences, for messages.
    """

    sequences: list[Any]
    labels: list[str] | None
    conditions: list[Any] | None
    names: list[str]


def write_things(
    out: Path, things: list[Any], codec: Any, *, labels: list[str] | None = None, details: list[dict] | None = None,
    columns: int | None = None,
) -> list[Path]:  # fmt: skip
    """Write what a model generated, by the kind of its codec.

    Series go to one file (.csv, .tsv, .npz or .parquet) or to ``series.csv`` in a folder; sounds to a folder of wav
    files with a manifest; piano rolls to a .mid or .png file or a folder; images to .png or a folder; sketches to .svg,
    .png, .npz or a folder.

    Args:
        out: file or folder.
        things: Series, waveforms or elements ``(T, F)``.
        codec: of the model.
        labels: the class of each sound, for the manifest.
        details: what else the manifest says of each sound.
        columns: of a grid of images or sketches.

    Returns:
        The files that were written.

    Raises:
        ValueError: if the place cannot be written, or has the suffix of another kind.
    """
    from hybridgen import data
    from hybridgen.codecs.decoding import decoded_things

    things = decoded_things(things, codec)
    if codec.name == "series":
        return [data.write_series(out if out.suffix else out / "series.csv", things, codec)]
    if codec.name == "pianoroll":
        from hybridgen.data.pianoroll_files import write_rolls

        return write_rolls(things, out, codec)
    if codec.name == "image_rows":
        from hybridgen.data.image_files import write_images

        return write_images(things, out, codec, columns=columns)
    if codec.name == "sketch":
        from hybridgen.data.sketch_files import write_sketches

        return write_sketches(things, out, codec, columns=columns)
    return data.write_audio(out, things, sample_rate=codec.sample_rate, labels=labels, details=details)


def told(paths: list[Path]) -> str:
    """Where files were written, for a message."""
    return str(paths[0]) if len(paths) == 1 else f"{len(paths)} files in {paths[0].parent}"


def holds_sequences(checkpoint: str) -> bool:
    """Whether a checkpoint is of a model of something other than text.

    Raises:
        CheckpointError: if it cannot be read.
    """
    from hybridgen import codecs
    from hybridgen.restoring import read_contents

    codec = read_contents(checkpoint)["codec"]
    # What is wrong with a codec is told when the model is made.
    return isinstance(codec, dict) and "codec" in codec and codec["codec"] not in codecs.names()


def data_of(checkpoint: str, config: str | None, codec: Any, source: str | None = None) -> Any:
    """The data module of a run, read by the model's own codec.

    Args:
        checkpoint: in the run's folder.
        config: the run's configuration, where it lies elsewhere.
        codec: of the model.
        source: other data of the same kind, of which nothing is put aside for validation or testing; only what is
            divided itself, such as a folder with train and test in it, has more parts than ``train``.

    Raises:
        ValueError: if there is no configuration, or its data do not fit the model.
    """
    from hybridgen import data

    path = config_of(checkpoint, config)
    name, arguments = data_section(path)
    known = ("SeriesData", "AudioData", "PianoRollData", "ImageRowsData", "SketchData")
    if name not in known:
        raise ValueError(f"--config: {path} trains on {name}: give one with {', '.join(known)}")
    if name in ("SeriesData", "AudioData"):
        arguments |= {"codec": codec.to_config()}
        arguments.pop("codec_options", None)
    try:
        if source is not None and name == "SeriesData":
            module = _series_of_file(arguments, source, codec)
        else:
            if source is not None:
                undivided = {} if name == "SketchData" else {"valid_fraction": 0.0, "test_fraction": 0.0}
                arguments |= {"source": source, **undivided}
            module = getattr(data, name)(**arguments)
    except TypeError as error:
        raise ValueError(f"--config: the data of {path} do not fit this version: {error}") from None
    if module.codec.name != codec.name or module.codec.num_features != codec.num_features:
        raise ValueError(f"--config: the data of {path} are not of the kind that this model was trained on")
    return module


def _series_of_file(arguments: dict[str, Any], source: str, codec: Any) -> Any:
    """The series of a file that a person gave: whole, but cut to windows where they are longer than the model's.

    Args:
        arguments: of the run's data.
        source: the file.
        codec: of the model.
    """
    import numpy as np

    from hybridgen.data.series import SeriesData
    from hybridgen.data.series_sources import KNOWN_SERIES
    from hybridgen.data.synthetic_series import SYNTHETIC

    own, window = arguments.get("source", "sines"), arguments.get("window")
    if own in KNOWN_SERIES:  # what the name of the run's data said, that of the file does not
        window = window or KNOWN_SERIES[own].window
        missing = [*(arguments.get("missing_values") or ()), *KNOWN_SERIES[own].missing_values]
        arguments = arguments | {"missing_values": missing}
    elif own in SYNTHETIC:
        window = window or arguments.get("length", 24)
    roles = _roles_in(source, arguments.get("delimiter", ","), codec)
    whole = {"source": source, "window": None, "split": "series", "valid_fraction": 0.0, "test_fraction": 0.0}
    module = SeriesData(**arguments | roles | whole)
    # Where the run had no id column, samples of any --length are told apart by the one that was written with them.
    told_apart = roles.get("id_column") is not None and arguments.get("id_column") is None
    if window is None or told_apart or np.diff(module.table.starts).max() <= window:
        return module
    return SeriesData(**arguments | roles | whole | {"window": window})


def _roles_in(source: str, delimiter: str, codec: Any) -> dict[str, Any]:
    """How to read a file that has its series apart as :func:`hybridgen.data.write_series` does; else nothing."""
    from hybridgen.data.series_writing import column_names

    number, label, _ = column_names(codec)
    path = Path(source).expanduser()
    if path.suffix.lower() == ".npz":
        return {"id_column": None} if "lengths" in _names_in(path, delimiter) else {}
    for mark in (delimiter, ","):
        names = _names_in(path, mark)
        if number in names:
            break
    else:
        return {}
    every = (*codec.columns, *codec.conditions, *codec.attributes)
    return {
        "header": True,
        "delimiter": mark,
        "id_column": number,
        "label_column": label if codec.labels and label in names else None,
        "columns": [column.name for column in codec.columns],
        "condition_columns": [column.name for column in codec.conditions],
        "attribute_columns": [column.name for column in codec.attributes],
        "categorical_columns": [column.name for column in every if column.is_text],
    }


def _names_in(path: Path, delimiter: str) -> list[str]:
    """The names of a file's columns or arrays; none of a file that cannot be read, which its reader tells."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            import numpy as np

            with np.load(path, allow_pickle=False) as arrays:
                return list(arrays.files)
        if suffix == ".parquet":
            from pyarrow import parquet

            return list(parquet.read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="") as lines:
            mark = "\t" if suffix == ".tsv" and delimiter == "," else delimiter
            return [cell.strip() for cell in next(csv.reader(lines, delimiter=mark), [])]
    except Exception:  # whatever a damaged file raises, SeriesData will say what is wrong with it
        return []


def all_sequences(module: Any, number: int | None, codec: Any) -> Given:
    """The first sequences of all parts of the data; see :func:`sequences_of`."""
    found = [sequences_of(module, part, number, codec) for part in module.parts]

    def joined(room: str) -> list[Any] | None:
        parts = [getattr(given, room) for given in found]
        return None if parts[0] is None else [one for part in parts for one in part][:number]

    return Given(*(joined(room) for room in Given._fields))


def sequences_of(module: Any, part: str, number: int | None, codec: Any) -> Given:
    """The first sequences of a part of the data, as the model's own codec has them.

    Raises:
        ValueError: if there is no such part, or a class that the model does not know.
    """
    import numpy as np
    import torch

    if part not in module.parts:
        raise ValueError(f"--part: there is no {part} part, only {', '.join(module.parts)}")
    if hasattr(module, "sequences"):
        whole = module.sequences(part)
        batch = whole.batch(np.arange(min(len(whole), number or len(whole))))
        ends = [batch.values.shape[1]] * len(batch.values) if batch.lengths is None else batch.lengths.tolist()
        rows = [row[:end] for row, end in zip(batch.values, ends, strict=True)]
        given = batch.conditions
        conditions = None if given is None else [row[:end] for row, end in zip(given, ends, strict=True)]
        labels = None if batch.labels is None else batch.labels.tolist()
    else:
        elements, labels, _ = module.parts[part]
        found = [torch.from_numpy(np.asarray(element)).float() for element in elements[:number]]
        rows = [_as_of_model(row, module.codec, codec) for row in found]
        conditions, labels = None, None if labels is None else labels[:number]
    # Other data number their classes in their own way: names are what both agree on.
    names = None if labels is None or not codec.labels else [module.codec.labels[label] for label in labels]
    unknown = sorted(set(names or ()) - set(codec.labels))
    if unknown:
        raise ValueError(f"the class {unknown[0]} is not one of the model's: use data of {', '.join(codec.labels)}")
    return Given(rows, names, conditions, [f"{part} {index}" for index in range(len(rows))])


def _as_of_model(row: Any, own: Any, codec: Any) -> Any:
    """A sequence that the data's own codec made, as the model's codec would have made it."""
    import torch

    if codec.name == "sketch" and own.scale != codec.scale:
        return torch.cat([row[:, :2] * (own.scale / codec.scale), row[:, 2:]], 1)
    if codec.name == "image_rows" and own.levels != codec.levels:
        return torch.from_numpy(codec.quantise(row.numpy()))
    return row


def read_file(path: str, codec: Any) -> Any | None:
    """One sequence from a file of its own, features ``(T, F)``; None where such a file holds many or is read otherwise.

    MIDI, wav and flac files and images are read.

    Raises:
        ValueError: if there is no such file, or it cannot be read.
    """
    file, suffix = Path(path).expanduser(), Path(path).suffix.lower()
    singles = {"pianoroll": (".mid", ".midi"), "image_rows": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")}
    if suffix in singles.get(codec.name, ()):
        return codec.encode(file).float()
    if hasattr(codec, "sample_rate") and suffix in (".wav", ".flac"):
        import torch

        from hybridgen.data.audio_files import read_sound

        samples, _ = read_sound(file, sample_rate=codec.sample_rate)
        return codec.encode(torch.as_tensor(samples).float())
    if not file.exists():
        raise ValueError(f"there is no file {path}")
    return None
