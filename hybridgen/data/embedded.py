"""Text that is on every machine: the language reference that Python's own ``help()`` reads.

Some 460 KB of English prose about Python (more in later versions), in the standard library as
``pydoc_data.topics``. Its wording changes a little with Python's version, so numbers measured on it belong
with the version they were measured under.
"""

from __future__ import annotations

from hybridgen.data.errors import DataError
from hybridgen.data.reading import TextDocument

# Held out are topics that share no paragraph with any other: most of the rest quote each other, so a split at
# random would test on text that was trained on.
_VALID = ("assignment", "augassign", "id-classes", "identifiers", "import")
_TEST = ("binary", "comparisons", "dict", "in", "lists", "raise", "strings")


def embedded_documents() -> dict[str, list[TextDocument]]:
    """Return the topics as documents, by part (``train``, ``valid``, ``test``), each in alphabetical order.

    Raises:
        DataError: This Python was installed without its documentation.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "this Python has no module pydoc_data.topics, where the embedded text comes from: give a source, such as "
            "a text file"
        ) from None
    parts: dict[str, list[TextDocument]] = {"train": [], "valid": [], "test": []}
    for topic in sorted(topics):
        part = "valid" if topic in _VALID else "test" if topic in _TEST else "train"
        parts[part].append(TextDocument(f"pydoc_data.topics: {topic}", topics[topic]))
    return parts
