"""The network of a text VAE, and what can be done with one that is trained."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen import codecs, heads
from hybridgen.cells.noise import dropout_mask
from hybridgen.data import TextBatch
from hybridgen.generation import DecodingOptions, Samples
from hybridgen.models import text_vae_generation as generation
from hybridgen.models import text_vae_parts as parts
from hybridgen.objectives import likelihood
from hybridgen.objectives.variational import gaussian_kl


class SentenceVAE(pl.LightningModule):
    """Encoder, decoder, head and prior; :class:`hybridgen.models.TextVAE` trains and evaluates them.

    What depends on the vocabulary (embeddings, head, prior) is made when the codec is known.

    Args:
        options: the arguments of :class:`hybridgen.models.TextVAE`, without the codec.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options
        self.latent_size = options["latent_size"]
        self.encoder = parts.SentenceEncoder(
            _stack(options["encoder"]),
            options["embedding_size"],
            self.latent_size,
            pooling=options["pooling"],
            posterior=options["posterior"],
            kappa=options["kappa"],
            batch_norm_gamma=options["batch_norm_gamma"],
            delta=options["delta"],
        )
        self.decoder = self._new_decoder()
        self.codec: codecs.TextCodec | None = None

    def _new_decoder(self) -> parts.SentenceDecoder:
        options = self.options
        return parts.SentenceDecoder(
            _stack(options["decoder"]), options["embedding_size"], self.latent_size, latent_to=options["latent_to"]
        )

    def _build(self, codec: codecs.TextCodec) -> None:
        """Make everything that depends on the vocabulary."""
        if codec.eos_id is None:
            raise ValueError("a text VAE needs a codec with <eos>: build it with specials=['eos']")
        self.codec = codec
        options = self.options
        self.embedding = self._new_embedding()
        self.encoder_embedding = self.embedding if options["tie_embeddings"] else self._new_embedding()
        hide = options["word_dropout"] and codec.unk_id is None
        self.hidden_word = nn.Parameter(torch.zeros(options["embedding_size"])) if hide else None
        self.head = self._new_head(self.embedding)
        self.prior = parts.make_prior(
            options["prior"],
            options["prior_options"] or {},
            posterior=options["posterior"],
            latent_size=self.latent_size,
            encoder=self.encoder,
            embedding=self.embedding.weight,
        )

    def _new_embedding(self) -> nn.Embedding:
        embedding = nn.Embedding(self.codec.vocab_size, self.options["embedding_size"])
        nn.init.normal_(embedding.weight, std=self.options["embedding_size"] ** -0.5)
        return embedding

    def _new_head(self, embedding: nn.Embedding) -> heads.Head:
        options = self.options
        tied = embedding if options["tie_weights"] else None
        width = self.decoder.stack.output_size
        return heads.make(options["head"], width, self.codec.vocab_size, tied=tied, **(options["head_options"] or {}))

    @property
    def start_id(self) -> int:
        """The token that stands before every sentence."""
        return self.codec.eos_id if self.codec.bos_id is None else self.codec.bos_id

    # The model -------------------------------------------------------------------------------------------------

    def forward(self, inputs: Tensor, sentences: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Log-probabilities of every next token, with a latent drawn from the posterior.

        Args:
            inputs: ``(B, T)`` what the decoder reads: the start token and the words.
            sentences: ``(B, T)`` what the encoder reads: the words and ``<eos>``.
            lengths: ``(B,)`` of both.

        Returns:
            Natural log-probabilities ``(B, T, V)`` and the posterior.
        """
        to_decode, to_encode = self._embed(inputs, sentences)
        posterior = self.encoder(to_encode, lengths)
        hidden = self.decoder(to_decode, posterior.sample(), lengths)
        return self.head.log_probs(hidden.flatten(0, 1)).unflatten(0, inputs.shape), posterior

    def posterior(self, sentences: Tensor, lengths: Tensor | None = None) -> parts.Posterior:
        """Posteriors ``(B, D)`` of sentences ``(B, T)``, which end in ``<eos>``; padding may be anything below V."""
        return self.encoder(F.embedding(sentences.clamp(min=0), self.encoder_embedding.weight), lengths)

    def kl(self, posterior: parts.Posterior, z: Tensor) -> Tensor:
        """KL of posteriors to the prior: ``(B, D)`` nats where it is known by dimension, else ``(B, 1)``.

        Args:
            posterior: ``(B, D)``.
            z: ``(B, D)`` drawn from it: the KL to a mixture has no closed form and is estimated by this one sample.
        """
        if self.options["posterior"] == "vmf":
            return posterior.kl_to_uniform().unsqueeze(-1)
        if self.options["prior"] == "standard":
            return gaussian_kl(posterior)
        return (posterior.log_prob(z) - self.prior.log_prob(z)).unsqueeze(-1)

    def reconstruction_nats(self, batch: TextBatch, z: Tensor) -> Tensor:
        """``-log p(x | z)`` of each sentence of a batch, ``(B,)``, without word dropout; z is ``(B, D)``."""
        embedded = F.embedding(batch.inputs, self.embedding.weight)
        return self.sentence_nats(embedded, batch.targets, batch.lengths, z)

    def sentence_nats(self, embedded: Tensor, targets: Tensor, lengths: Tensor | None, z: Tensor) -> Tensor:
        """:meth:`reconstruction_nats` of sentences that are embedded already, ``(B, T, E)``."""
        hidden = self.decoder(embedded, z, lengths)
        rows, chosen = likelihood.select(hidden, targets, lengths=lengths)
        return likelihood.sum_rows(self.head.nll(rows, chosen), tuple(targets.shape), lengths=lengths)

    def _embed(self, inputs: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings for the decoder and for the encoder, ``(B, T, E)`` each, with what dropout does to them."""
        options, hidden = self.options, None
        if self.training and options["word_dropout"]:
            dropped = parts.drop_words(inputs, options["word_dropout"])
            if self.hidden_word is None:
                inputs = inputs.masked_fill(dropped, self.codec.unk_id)
            else:
                hidden = dropped.unsqueeze(-1)
        sentences = sentences.clamp(min=0)
        if options["tie_embeddings"]:
            # One look-up: its gradient is as large as the vocabulary.
            both = torch.cat([inputs, sentences], 1)
            to_decode, to_encode = self._look_up(both, self.embedding).split(inputs.shape[1], 1)
        else:
            to_decode = self._look_up(inputs, self.embedding)
            to_encode = self._look_up(sentences, self.encoder_embedding)
        return (to_decode if hidden is None else torch.where(hidden, self.hidden_word, to_decode)), to_encode

    def _look_up(self, ids: Tensor, embedding: nn.Embedding) -> Tensor:
        embedded = F.embedding(ids, embedding.weight)
        if self.training and self.options["embedding_dropout"]:
            kept = dropout_mask((len(embedding.weight),), self.options["embedding_dropout"], embedding.weight)
            embedded = embedded * kept[ids].unsqueeze(-1)
        return embedded

    # Generation ------------------------------------------------------------------------------------------------

    def encode(self, texts: Sequence[str]) -> parts.Posterior:
        """Posteriors of sentences, ``(N, D)``.

        Args:
            texts: one line each, without its end. An empty one is the empty sentence; a word outside the vocabulary is
                read as ``<unk>`` where the codec has it.

        Returns:
            A :class:`~hybridgen.objectives.variational.DiagonalGaussian` or ``VonMisesFisher`` on the model's device.

        Raises:
            ValueError: if there are none, one has several lines, or one holds what the codec cannot read.
        """
        self.eval()
        return generation.encode(self, texts)

    def decode(
        self, z: Tensor, options: DecodingOptions | None = None, *, sample_numbers: Sequence[int] | None = None
    ) -> Samples:
        """A sentence from each latent.

        Args:
            z: ``(N, D)``.
            options: how tokens are chosen; with ``num_beams`` the best beam of each latent is returned.
            sample_numbers: number of each sample for its random draws, by default 0, 1, 2...

        Raises:
            ValueError: if z or an option does not fit.
        """
        self.eval()
        return generation.decode(self, z, options, sample_numbers)

    def sample_prior(self, num_samples: int, *, seed: int = 0, sample_numbers: Sequence[int] | None = None) -> Tensor:
        """Latents from the prior, ``(num_samples, D)``: number i of a seed is the same whatever is drawn with it.

        Raises:
            ValueError: if ``num_samples`` is below 1, or numbers or seed do not fit.
        """
        self.eval()
        return generation.sample_prior(self.prior, generation.sample_range(num_samples, sample_numbers), seed)

    def generate(
        self,
        num_samples: int,
        options: DecodingOptions | None = None,
        *,
        sample_numbers: Sequence[int] | None = None,
    ) -> Samples:
        """New sentences: latents from the prior, then words.

        Args:
            num_samples: how many.
            options: how tokens are chosen; its ``seed`` is of the latents too.
            sample_numbers: number of each sample for its random draws, by default 0, 1, 2...

        Raises:
            ValueError: if an option does not fit.
        """
        options = options or DecodingOptions()
        numbers = generation.sample_range(num_samples, sample_numbers)
        z = self.sample_prior(num_samples, seed=options.seed, sample_numbers=numbers)
        return self.decode(z, options, sample_numbers=numbers)

    def reconstruct(
        self,
        texts: Sequence[str],
        options: DecodingOptions | None = None,
        *,
        use_mean: bool = True,
        sample_numbers: Sequence[int] | None = None,
    ) -> Samples:
        """Sentences through the latent and back.

        Args:
            texts: see :meth:`encode`.
            options: how tokens are chosen; greedy by default.
            use_mean: take the posterior's mean; false draws from the posterior by the options' seed.
            sample_numbers: number of each sample for its random draws, by default 0, 1, 2...

        Raises:
            ValueError: if a sentence or an option does not fit.
        """
        options = options or DecodingOptions(do_sample=False)
        posterior = self.encode(texts)
        numbers = generation.sample_range(len(texts), sample_numbers)
        z = posterior.mean if use_mean else generation.sample_posterior(posterior, numbers, options.seed)
        return self.decode(z, options, sample_numbers=numbers)


def _stack(options: dict[str, Any] | None) -> dict[str, Any]:
    return {"cell": "lstm", "hidden_size": 256} | (options or {})
