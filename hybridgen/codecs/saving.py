"""What every codec shares: it is saved as the plain JSON of its constructor's arguments, and rebuilt from it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from hybridgen.codecs.checks import read_config
from hybridgen.codecs.errors import CodecError

Codec = TypeVar("Codec", bound="SavedCodec")


class SavedCodec(ABC):
    """A codec that travels inside a checkpoint: ``to_config()`` writes it, ``from_config()`` rebuilds it.

    Attributes:
        name: The name under which ``codecs.from_config`` knows the codec.
        version: Rises when the same config would mean something else.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""

    def to_config(self) -> dict[str, Any]:
        """Return the codec as plain JSON values, complete: loading needs no other file."""
        return {"codec": self.name, "version": self.version, **self._options()}

    @classmethod
    def from_config(cls: type[Codec], config: Mapping[str, Any]) -> Codec:
        """Rebuild the codec that ``to_config()`` saved.

        Raises:
            CodecError: The config is of another codec or version, or damaged.
        """
        keys = [p for p in inspect.signature(cls.__init__).parameters if p != "self"]
        options = read_config(config, cls.name, cls.version, keys)
        try:
            return cls(**options)
        except CodecError as error:
            raise CodecError(f"the saved {cls.name} codec cannot be used, since {error}") from None

    def __reduce__(self) -> tuple[Callable[..., SavedCodec], tuple[dict[str, Any]]]:
        # Workers and copies rebuild the codec: a tokenizer of the bpe codec forgets some of its settings when it is
        # pickled by itself.
        return type(self).from_config, (self.to_config(),)
