"""The models: Lightning modules, one file each."""

from typing import Any

from hybridgen.models.draw import DRAW
from hybridgen.models.language_model import LanguageModel
from hybridgen.models.latent_gan import LatentGAN
from hybridgen.models.sequence_gan import SequenceGAN
from hybridgen.models.sequence_model import SequenceModel
from hybridgen.models.sequence_vaegan import SequenceVAEGAN
from hybridgen.models.text_vae import TextVAE
from hybridgen.models.variational_rnn import VariationalRNN

__all__ = [
    "DRAW",
    "LanguageModel",
    "LatentGAN",
    "SequenceGAN",
    "SequenceModel",
    "SequenceVAEGAN",
    "TextVAE",
    "VariationalRNN",
]

_OWN: dict[str, Any] = {}


def register(cls: type) -> None:
    """Add a model of your own by its class's name, so that its checkpoints can be loaded.

    It offers what :class:`LanguageModel` does: ``options`` (what builds it again, as plain values), the constructor's
    argument ``codec``, and ``on_save_checkpoint``.

    Raises:
        ValueError: if the name is one of the toolkit's.
    """
    if cls.__name__ in __all__:
        raise ValueError(f"there is already a model named {cls.__name__!r}: give yours another name")
    _OWN[cls.__name__] = cls


def find(name: str) -> Any:
    """The class of a model by its name, or None."""
    return globals()[name] if name in __all__ else _OWN.get(name)
