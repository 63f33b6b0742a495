"""What single hidden units of a text model read: their activations over a text (Karpathy et al. 2015, 1506.02078)."""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridgen.cells import Stack
from hybridgen.generation import DecodingOptions

#: Tokens of the text that are looked at, and units that the page holds, at most.
MOST_TOKENS, MOST_UNITS = 700, 256
#: A correlation below this is no reading.
_WORTH = 0.35


@dataclass
class Units:
    """Activations of the top layer over a text.

    Attributes:
        tokens: of the text, as they are shown.
        source: where the text is from.
        units: numbers of the units.
        values: a byte for each unit and token, 0 to 254 for minus the unit's largest size to plus that, in base64.
        sizes: the largest size of each unit.
        readings: units that follow something a person can name: ``unit``, ``what``, ``correlation``.
    """

    tokens: list[str]
    source: str
    units: list[int]
    values: str
    sizes: list[float]
    readings: list[dict[str, Any]]


def read_units(model: Any, text: str | None) -> Units | None:
    """Run a text through a model and watch its top layer.

    Args:
        model: of a checkpoint; one without a text codec, or whose layers are not a stack, has no such picture.
        text: to read; by default the model writes it itself.

    Raises:
        ValueError: if the model cannot read the text, or computes what is no number.
    """
    stack = next((module for module in model.modules() if isinstance(module, Stack)), None)
    if stack is None or not (hasattr(model, "hidden") or hasattr(model, "encode")):
        return None
    if not hasattr(model.codec, "vocab_size"):
        return None
    source = "a text that was given"
    if text is None:
        text, source = _own_text(model), "a text that the model wrote"
    with torch.no_grad():
        tokens, outputs = _watch(model, stack, text)
    if len(tokens) < 8:
        return None
    if not torch.isfinite(outputs).all():
        raise ValueError("what the model computes is not finite")
    chosen = outputs.std(0).argsort(descending=True)[:MOST_UNITS].sort().values
    values = outputs[:, chosen].T.float().cpu().numpy()  # (units, tokens)
    sizes = np.abs(values).max(1).clip(min=1e-6)
    as_bytes = np.round((values / sizes[:, None] + 1) * 127).astype(np.uint8)
    numbers = [int(number) for number in chosen]
    return Units(
        tokens,
        source,
        numbers,
        b64encode(as_bytes.tobytes()).decode(),
        [float(f"{size:.3g}") for size in sizes],
        _readings(tokens, values, numbers),
    )


def _own_text(model: Any) -> str:
    if hasattr(model, "generate_stream"):
        return model.generate([""], DecodingOptions(max_new_tokens=MOST_TOKENS, temperature=0.8)).texts[0]
    return "\n".join(model.generate(12, DecodingOptions(max_new_tokens=60, temperature=0.8)).texts)


def _watch(model: Any, stack: Stack, text: str) -> tuple[list[str], Tensor]:
    """Tokens, as they are shown, and outputs ``(T, H)`` of the stack after each."""
    if hasattr(model, "hidden"):
        ids = model.codec.encode(text)[:MOST_TOKENS]
        if not len(ids):
            return [], torch.zeros(0, 1)
        outputs, _ = model.hidden(torch.as_tensor(ids, dtype=torch.long)[None])
        return _shown(model.codec, ids), outputs[0]
    seen: list[Tensor] = []
    hook = stack.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
    tokens: list[str] = []
    rows: list[Tensor] = []
    try:
        for line in filter(None, map(str.strip, text.splitlines())):
            if len(tokens) >= MOST_TOKENS:
                break
            seen.clear()
            model.encode([line])
            ids = model.codec.encode(line)
            # A sentence may get tokens of its own at its ends; what belongs to its words comes first.
            count = min(len(ids), seen[0].shape[1])
            pieces = _shown(model.codec, ids[:count])
            tokens += [*pieces[:-1], pieces[-1].rstrip() + "\n"]
            rows.append(seen[0][0, :count])
    finally:
        hook.remove()
    return (tokens, torch.cat(rows)) if rows else ([], torch.zeros(0, 1))


def _shown(codec: Any, ids: Any) -> list[str]:
    """The text of each token, so that all together are the text."""
    ids = [int(each) for each in ids]
    whole = codec.decode(ids)
    pieces = [codec.decode([each]) for each in ids]
    if "".join(pieces) == whole:
        return pieces
    spaced = [piece if i == 0 or piece.startswith((" ", "\n")) else " " + piece for i, piece in enumerate(pieces)]
    return spaced if "".join(spaced) == whole else [piece + " " for piece in pieces]


def _readings(tokens: list[str], values: NDArray[np.float32], numbers: list[int]) -> list[dict[str, Any]]:
    """For each thing that a person can name the unit that follows it best, if one does."""
    found = []
    centred = values - values.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1).clip(min=1e-9)
    for what, signal in _signals(tokens).items():
        moved = signal - signal.mean()
        size = np.linalg.norm(moved)
        # A thing that occurs twice in the text is followed by some unit or other by chance.
        if size < 1e-9 or min((signal > signal.mean()).sum(), (signal <= signal.mean()).sum()) < 8:
            continue
        correlations = centred @ moved / (lengths * size)
        best = int(np.abs(correlations).argmax())
        if abs(correlations[best]) >= _WORTH:
            found.append({"unit": numbers[best], "what": what, "correlation": round(float(correlations[best]), 2)})
    return sorted(found, key=lambda reading: -abs(reading["correlation"]))


def _signals(tokens: list[str]) -> dict[str, NDArray[np.float64]]:
    """What could be read at each token."""
    signals: dict[str, list[float]] = {}
    quoted, depth, column, word, since = False, 0, 0, 0, 0
    for token in tokens:
        quoted ^= token.count('"') % 2 == 1
        depth = max(0, depth + sum(map(token.count, "([{")) - sum(map(token.count, ")]}")))
        column = 0 if "\n" in token else column + len(token)
        word = 0 if re.search(r"\s$|^\s", token) else word + 1
        since = 0 if re.search(r"[.!?]\s*$", token) else since + 1
        plain = token.strip()
        here = {
            "inside quotes": quoted,
            "inside brackets": depth > 0,
            "position in the line": column,
            "position in the word": word,
            "distance from the last sentence's end": min(since, 60),
            "space or line end": not plain,
            "capital letter": plain[:1].isupper(),
            "digit": plain[:1].isdigit(),
            "punctuation": bool(plain) and not any(each.isalnum() for each in plain),
            "vowel": plain.lower() in set("aeiou"),
        }
        for what, value in here.items():
            signals.setdefault(what, []).append(float(value))
    return {what: np.array(values) for what, values in signals.items()}
