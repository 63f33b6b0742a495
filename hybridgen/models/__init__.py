"""The models: Lightning modules, one file each."""

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
