"""What the commands on a latent space share: the model, sentences from files, and tables."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from hybridgen.commands.options import Parser, read_text
from hybridgen.commands.writing import write_json_lines

#: Sentences that are decoded at a time; decides the memory, not the result.
TOGETHER = 128


class Sentence(NamedTuple):
    """A sentence of a file.

    Attributes:
        line: its line, from 1.
        text: without the line's end and the space around it.
    """

    line: int
    text: str


def add_shared(parser: Parser) -> None:
    """Add the options that all commands on a latent space have."""
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint of a text VAE that fit wrote")
    parser.add_argument("--out", metavar="FILE", help="write JSON lines here as well as the table to the terminal")


def read_sentences(path: str, *, option: str = "FILE") -> list[Sentence]:
    """The sentences of a UTF-8 file, one a line. Empty lines are left out, and their number is told.

    Raises:
        ValueError: if there is no such file, it is not UTF-8, or it has no sentence.
    """
    lines = read_text(path, option).splitlines()
    found = [Sentence(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ValueError(f"{option}: {path} has no sentence: give a file with one on each line")
    if len(found) < len(lines):
        print(f"{path}: {len(lines) - len(found)} empty lines are left out", file=sys.stderr)
    return found


def check_sentence(text: str, what: str) -> str:
    """A sentence given on the command line, without the space around it.

    Raises:
        ValueError: if it is empty, or more than one line.
    """
    text = text.strip()
    if not text:
        raise ValueError(f"{what} is empty: give a sentence")
    if len(text.splitlines()) > 1:
        raise ValueError(f"{what} has more than one line: give one sentence")
    return text


def load_latent(path: str) -> Any:
    """The model of a checkpoint, which must have a latent space of sentences.

    Raises:
        ValueError: if the checkpoint cannot be used, or is of another kind of model.
    """
    from hybridgen.loading import load

    model = load(path)
    if not (hasattr(model, "encode") and hasattr(model, "decode")):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, which has no latent space of sentences: "
            "give a checkpoint of a TextVAE"
        )
    return model


def check_sentences(model: Any, sentences: Sequence[Sentence], path: str) -> None:
    """Refuse what a model's codec cannot read, before anything is computed.

    Raises:
        ValueError: naming file and line, for a character it does not know and cannot replace, or an end token inside.
    """
    for sentence in sentences:
        try:
            ids = model.codec.encode(sentence.text)
        except ValueError as error:
            raise ValueError(f"{path}, line {sentence.line}: {error}") from None
        if bool((ids == model.codec.eos_id).any()):
            raise ValueError(f"{path}, line {sentence.line} holds the end token inside it: leave it out")


def encode(model: Any, sentences: Sequence[Sentence], path: str) -> Any:
    """Posterior means of sentences, ``(N, D)`` on the CPU; raises like :func:`check_sentences`."""
    check_sentences(model, sentences, path)
    return model.encode([sentence.text for sentence in sentences]).mean.cpu()


def encode_one(model: Any, text: str, what: str) -> Any:
    """Posterior mean ``(D,)`` of a sentence given on the command line; see :func:`encode`.

    Raises:
        ValueError: if it is no sentence of the model; the message names ``what``.
    """
    try:
        return model.encode([text]).mean[0].cpu()
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def on_the_sphere(model: Any, latents: Any) -> Any:
    """Latents ``(N, D)`` where the model's are: those of a von Mises-Fisher posterior have length one, always."""
    import torch

    if getattr(model, "options", {}).get("posterior") != "vmf":
        return latents
    return torch.nn.functional.normalize(latents, dim=-1)


def decode(model: Any, latents: Any, decoding: Any) -> list[dict[str, Any]]:
    """Sentences of latents ``(N, D)``: for each ``text``, ``tokens``, ``nats`` and ``finish_reason``.

    Row i draws as sample i of the seed, whatever the size of the pieces.
    """
    latents = on_the_sphere(model, latents)
    rows: list[dict[str, Any]] = []
    for first in range(0, len(latents), TOGETHER):
        piece = latents[first : first + TOGETHER]
        numbers = range(first, first + len(piece))
        rows += sample_rows(model.decode(piece, decoding, sample_numbers=list(numbers)))
    return rows


def sample_rows(samples: Any) -> list[dict[str, Any]]:
    """Samples as plain values: what was written, how long it is, how probable it was under the model."""
    columns = (samples.texts, samples.lengths.tolist(), samples.log_probs.sum(1).tolist(), samples.finish_reasons)
    return [
        {"text": text.strip("\n"), "tokens": length, "nats": -log_prob, "finish_reason": reason}
        for text, length, log_prob, reason in zip(*columns, strict=True)
    ]


def note_unknown(model: Any, rows: list[dict[str, Any]], key: str) -> None:
    """Add ``unknown`` to rows: how many of the tokens of ``row[key]`` the model's codec does not know.

    A sentence that is all unknown is encoded all the same, as so many ``<unk>``; a note tells that it says nothing.
    """
    unknown = model.codec.unk_id
    nothing = 0
    for row in rows:
        ids = model.codec.encode(row[key])
        row["unknown"] = 0 if unknown is None else int((ids == unknown).sum())
        nothing += len(ids) > 0 and row["unknown"] == len(ids)
    if nothing:
        note = (
            f"{nothing} of {len(rows)} sentences have no word that the model knows: its output says nothing about them"
        )
        print(note, file=sys.stderr)


def prior_rows(model: Any, num_samples: int, decoding: Any, prompt: str) -> list[dict[str, Any]]:
    """Rows of ``hybridgen sample`` from a model that writes whole sentences from its prior.

    Raises:
        ValueError: if there is a prompt: such a model begins sentences itself.
    """
    if prompt:
        raise ValueError(
            f"a {type(model).__name__} writes whole sentences from its prior and continues none: leave out the prompt"
        )
    rows: list[dict[str, Any]] = []
    for first in range(0, num_samples, TOGETHER):
        numbers = list(range(first, min(first + TOGETHER, num_samples)))
        rows += sample_rows(model.generate(len(numbers), decoding, sample_numbers=numbers))
    return [{"sample": i, "seed": decoding.seed, "prompt": "", **row} for i, row in enumerate(rows)]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table for the terminal: text wraps inside its column, numbers have two decimals."""
    cells = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    is_text = [any(isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    taken = sum(w for w, text in zip(widths, is_text, strict=True) if not text) + 2 * (len(columns) - 1)
    room = max(24, (shutil.get_terminal_size((120, 24)).columns - taken) // max(1, sum(is_text)))
    widths = [min(w, room) if text else w for w, text in zip(widths, is_text, strict=True)]
    for row in [list(columns), ["-" * w for w in widths], *cells]:
        lines = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for part in range(max(map(len, lines))):
            pieces = [
                (cell[part] if part < len(cell) else "").ljust(width)
                if text
                else (cell[part] if part < len(cell) else "").rjust(width)
                for cell, width, text in zip(lines, widths, is_text, strict=True)
            ]
            print("  ".join(pieces).rstrip())


def write_rows(out: str | None, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines, if a file is wanted."""
    if out is None:
        return
    write_json_lines(out, rows)
    print(f"{len(rows)} rows written to {out}", file=sys.stderr)
