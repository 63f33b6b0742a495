"""Names of classes: checked when a codec is made or rebuilt, found when one is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from hybridgen.closest import name_the_closest
from hybridgen.codecs.errors import CodecError


def check_labels(labels: object) -> list[str]:
    """Return the names of the classes as str.

    Raises:
        CodecError: They are no list of different names.
    """
    if isinstance(labels, str) or not isinstance(labels, Sequence) or len(set(map(str, labels))) != len(labels):
        raise CodecError(f"labels={labels!r} is not a list of different names: give such a list")
    return [str(label) for label in labels]


def find_label(labels: Sequence[str], label: object) -> int:
    """Return the number of a class.

    Raises:
        CodecError: There is none of that name.
    """
    if not labels:
        raise CodecError(f"label={label!r} cannot be chosen: the training data had no labels")
    if str(label) not in labels:
        raise CodecError(f"there is no label {label!r}: {name_the_closest(str(label), labels)}")
    return list(labels).index(str(label))
