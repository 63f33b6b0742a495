"""Does a checkpoint fit the model that is to go on from it? Asked before any of its weights are used."""

import re
from typing import Any

from hybridgen.reliability.verify import CheckpointError

#: Schedules that are functions of the number of steps, and so may take each other's place within a run.
_BY_STEP = {"cosine", "constant", "step"}
#: Options that have nothing to do with the sizes of weights.
_HARMLESS = re.compile(r"rate|decay|betas|schedule|warmup|dropout|regularisation|optimizer|penalty|seed|steps")


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, ``{"stack.hidden_size": 64}``."""
    if not isinstance(values, dict):
        return {prefix: values}
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def differences(then: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two nested mappings, by dotted name: the value then and now, None where it was not given."""
    before, after = flat(then), flat(now)
    found = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = _plain(before.get(name)), _plain(after.get(name))
        if old != new:
            found[name] = (old, new)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if value == {} else value


def check_fit(checkpoint: dict[str, Any], model: Any, *, training: bool) -> None:
    """Raise if a model cannot go on from a checkpoint.

    Args:
        checkpoint: the contents of one of this toolkit's.
        model: after it has taken its codec from the data.
        training: whether it is to be trained, not only evaluated.

    Raises:
        CheckpointError: if the checkpoint is of another model, of another codec or of other sizes, or its optimiser is
            another; the message names the option.
    """
    kind, name = checkpoint["hybridgen_model"], type(model).__name__
    if kind != name:
        raise CheckpointError(f"the checkpoint is of a {kind}, but model.class_path is {name}: give the model it is of")
    codec = getattr(model, "codec", None)
    if codec is not None and codec.to_config() != checkpoint["codec"]:
        raise CheckpointError(
            "the data's codec is not the one this model was trained with: give the data and codec options that it had, "
            "or start a new run with --resume never"
        )
    changed = differences(checkpoint.get("options") or {}, getattr(model, "options", None) or {})
    if codec is not None:
        _check_sizes(checkpoint, model, changed)
    if training:
        _check_training(changed)


def first_mismatch(saved: dict[str, Any], own: dict[str, Any]) -> str | None:
    """The first weight, by name, that a checkpoint has and a model has not, or in another size; None where all fit."""
    shapes, expected = ({name: tuple(v.shape) for name, v in state.items()} for state in (saved, own))
    odd = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if not odd:
        return None
    example = odd[0]
    if example not in saved:
        return f"{example} is not in the checkpoint"
    if example not in own:
        return f"{example} of the checkpoint is not in the model"
    return f"{example} is {shapes[example]} in the checkpoint and {expected[example]} in the model"


def _check_sizes(checkpoint: dict[str, Any], model: Any, changed: dict[str, tuple[Any, Any]]) -> None:
    what = first_mismatch(checkpoint["state_dict"], model.state_dict())
    if what is None:
        return
    changed = {name: pair for name, pair in changed.items() if not _HARMLESS.search(name)} or changed
    if changed:
        options = ", ".join(f"model.{name} was {old} and is {new}" for name, (old, new) in changed.items())
        raise CheckpointError(
            f"the weights do not fit: {options} ({what}): give what it was, or start a new run with --resume never"
        )
    raise CheckpointError(f"the weights do not fit: {what}: the checkpoint is of another version of hybridgen")


def _check_training(changed: dict[str, tuple[Any, Any]]) -> None:
    for name in ("optimizer", "schedule"):
        if name not in changed:
            continue
        old, new = changed[name]
        if name == "schedule" and {old, new} <= _BY_STEP:
            continue
        raise CheckpointError(
            f"model.{name} was {old} and is {new}: what the one remembers is of no use to the other, give what it was, "
            "or start a new run with --resume never"
        )
