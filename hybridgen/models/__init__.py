"""The models: Lightning modules, one file each."""

from hybridgen.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
