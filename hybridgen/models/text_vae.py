"""The variational autoencoder for sentences.

    q(z | x) = encoder(x),   p(x | z) = prod_t p(x[t] | x[0..t-1], z),   loss = -E_q[log p(x | z)] + KL term

Bowman et al. 2016, "Generating sentences from a continuous space", arXiv:1511.06349. What is done to the KL term so
that the latent is used stands in :mod:`hybridgen.objectives.variational`.
"""

import inspect
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from hybridgen import codecs
from hybridgen.data import TextBatch
from hybridgen.models.building import SAME_TEXT_CODEC, check_codec
from hybridgen.models.optimisation import configure, tell_epoch_length
from hybridgen.models.processes import shared
from hybridgen.models.text_vae_evaluation import CollapseReport, SentenceEvaluation, warn_of_collapse
from hybridgen.models.text_vae_network import SentenceVAE
from hybridgen.models.text_vae_options import check_choices, check_fit
from hybridgen.objectives import likelihood
from hybridgen.objectives.variational import AggressiveTraining, KLControl
from hybridgen.tracking.latent import TrackLatent


class TextVAE(SentenceVAE):
    """A variational autoencoder for sentences over any text codec; data with ``layout: lines``.

    Args:
        encoder: arguments of :class:`hybridgen.cells.Stack` without ``input_size``: cell, hidden_size, num_layers,
            bidirectional, ... Default: one layer of 256 LSTM cells. It reads the sentence and its ``<eos>``.
        decoder: likewise, not bidirectional.
        embedding_size: width of a token's embedding.
        latent_size: dimensions of the latent.
        pooling: what the posterior is computed from: ``last``, ``mean`` or ``max`` of the encoder's outputs.
        latent_to: where the decoder gets the latent: ``state`` (before the first word), ``input`` (with every word) or
            ``both``.
        posterior: ``gaussian``, or ``vmf`` (von Mises-Fisher on the unit sphere).
        kappa: concentration of ``vmf``; decides its KL, which is constant.
        prior: ``standard``, ``mixture`` (learned Gaussians) or ``vamp`` (posteriors of learned pseudo-sentences).
        prior_options: ``num_components`` and, for ``vamp``, ``length``.
        kl: options of :class:`hybridgen.objectives.variational.KLControl`: weight, schedule, free_bits, target_rate,
            capacity.
        batch_norm_gamma: fixed scale of the batch-normalised posterior mean (BN-VAE), 0.5 or so; None is off.
        delta: committed nats per dimension (delta-VAE); None is off.
        aggressive: train the encoder aggressively until its mutual information stops rising (He et al. 2019): true, or
            options of :class:`hybridgen.objectives.variational.AggressiveTraining`. Shared embeddings count as the
            decoder's.
        pretrain_epochs: first so many epochs as a plain autoencoder on the posterior's mean, then start the decoder
            anew (Li et al. 2019, arXiv:1909.00868). KL schedules begin after them.
        word_dropout: probability that a word is hidden from the decoder: read as ``<unk>``, or as a learned embedding
            where the codec has none.
        embedding_dropout: probability that a token's whole embedding is zero for a batch (Gal & Ghahramani 2016).
        head: ``categorical``, ``adaptive`` (large vocabularies, tokens sorted by frequency) or ``mixture``.
        head_options: further arguments of the head.
        tie_weights: share the output weights with the decoder's embedding.
        tie_embeddings: share the embeddings of encoder and decoder.
        optimizer: ``adamw``, ``adam``, ``sgd``, ``rmsprop`` or ``adagrad``. The loss is in nats per sentence.
        optimizer_options: further arguments of torch's class, such as ``{momentum: 0.9}``.
        learning_rate: where the schedule peaks.
        weight_decay: of matrices; vectors are never decayed.
        betas: of ``adamw`` and ``adam``.
        schedule: of the learning rate: ``cosine``, ``constant``, ``step`` or ``plateau``, after the warm-up.
        schedule_options: of ``step`` and ``plateau``; see :func:`hybridgen.models.optimisation.make_schedule`.
        warmup_steps: steps until the learning rate is at its peak.
        final_learning_rate: where the cosine ends, as a fraction of the peak.
        monitor_sentences: sentences of the validation data that the collapse monitor decodes with latents of others;
            0 leaves that out.
        iwae_samples: samples k of each sentence's importance-weighted bound in testing; None leaves it out.
        codec: a saved text codec; taken from the data when it is trained.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(
        self,
        *,
        encoder: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        embedding_size: int = 256,
        latent_size: int = 32,
        pooling: str = "last",
        latent_to: str = "both",
        posterior: str = "gaussian",
        kappa: float = 35.0,
        prior: str = "standard",
        prior_options: dict[str, Any] | None = None,
        kl: dict[str, Any] | None = None,
        batch_norm_gamma: float | None = None,
        delta: float | None = None,
        aggressive: bool | dict[str, Any] = False,
        pretrain_epochs: int = 0,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        head: str = "categorical",
        head_options: dict[str, Any] | None = None,
        tie_weights: bool = True,
        tie_embeddings: bool = True,
        optimizer: str = "adamw",
        optimizer_options: dict[str, Any] | None = None,
        learning_rate: float = 2.0e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        schedule: str = "cosine",
        schedule_options: dict[str, Any] | None = None,
        warmup_steps: int = 100,
        final_learning_rate: float = 0.05,
        monitor_sentences: int = 512,
        iwae_samples: int | None = 100,
        codec: dict[str, Any] | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _OPTIONS}
        check_choices(given)
        super().__init__(given)
        self.save_hyperparameters(ignore=["codec"])
        self.kl_control = KLControl(**check_fit(given))
        self.aggressive: AggressiveTraining | None = None
        if aggressive:
            self.aggressive = AggressiveTraining(**(aggressive if isinstance(aggressive, dict) else {}))
        self.kl_start_step: int | None = None if pretrain_epochs else 0  # None while the autoencoder is pre-trained
        self.collapse: CollapseReport | None = None  # of the last validation
        self._warned = False
        if codec is not None:
            self._build(codecs.from_config(codec))

    def run_callbacks(self, folder: Path) -> list[pl.Callback]:
        """What `hybridgen fit` adds to a training of this model: a look at the latent space after every validation."""
        return [TrackLatent(folder)]

    # Training --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the codec of the data, once.

        Raises:
            ValueError: if the data are no sentences, or their codec is another than the model was trained with.
        """
        data = self.trainer.datamodule
        if data is not None and getattr(data, "layout", "lines") != "lines":
            raise ValueError("a text VAE learns from sentences: set the data's layout to 'lines'")
        if self.codec is None:
            self._build(data.codec)
        check_codec(self.codec, data, SAME_TEXT_CODEC)

    def on_train_start(self) -> None:
        """Tell schedules in epochs how long an epoch is."""
        tell_epoch_length(self.kl_control, self.trainer)

    def on_train_epoch_start(self) -> None:
        if self.kl_start_step is None and self.current_epoch >= self.options["pretrain_epochs"]:
            self.kl_start_step = self.global_step
            self._start_decoder_anew()

    def training_step(self, batch: TextBatch, batch_index: int) -> Tensor:
        size = len(batch.inputs)
        to_decode, to_encode = self._embed(batch.inputs, batch.targets)
        posterior = self.encoder(to_encode, batch.lengths)
        pretraining = self.kl_start_step is None
        z = posterior.mean if pretraining else posterior.sample()
        hidden = self.decoder(to_decode, z, batch.lengths)
        rows, targets = likelihood.select(hidden, batch.targets, lengths=batch.lengths)
        reconstruction = self.head.loss(rows, targets).sum() / size
        kl = self.kl(posterior, z)
        if pretraining:
            # Times 0, so that every parameter has a gradient: several processes wait for each other's.
            loss, plain, weight = reconstruction + 0.0 * kl.sum(), kl.detach().sum() / size, 0.0
        else:
            term, plain, weight = self.kl_control(kl, step=self.global_step - self.kl_start_step)
            loss = reconstruction + term
        self._loss_per_token = loss.detach() * size / batch.num_targets
        values = {"loss": loss, "reconstruction": reconstruction, "kl": plain}
        share, values = shared(values, size, self.device)
        self.log("train/loss", values.pop("loss"), prog_bar=True, batch_size=size)
        values["kl_weight"] = weight
        if self.kl_control.target is not None:
            values["kl_multiplier"] = self.kl_control.multiplier
        if self.aggressive is not None:
            values["aggressive"] = float(self.aggressive.active)
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=size)
        return loss * share

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """While the encoder is trained aggressively, only a part of the model has gradients."""
        if self.aggressive is None or not self.aggressive.active or self.kl_start_step is None:
            return
        part = self.aggressive.part
        encoder = {id(parameter) for parameter in self._encoder_parameters()}
        for parameter in self.parameters():
            if (id(parameter) in encoder) != (part == "encoder"):
                parameter.grad = None
        loss = float(self._mean_of_processes(self._loss_per_token))
        if math.isfinite(loss):  # or else this step is left out
            self.aggressive.step(loss)

    def _mean_of_processes(self, value: Tensor) -> Tensor:
        """What all processes decide by, so that they decide alike."""
        return self.trainer.strategy.reduce(value.clone(), reduce_op="mean")

    def _encoder_parameters(self) -> list[nn.Parameter]:
        own = [] if self.options["tie_embeddings"] else list(self.encoder_embedding.parameters())
        return [*self.encoder.parameters(), *own]

    @torch.no_grad()
    def _start_decoder_anew(self) -> None:
        """Forget the decoder, and what the optimiser remembers of it; embeddings stay."""
        seed = self.trainer.strategy.broadcast(int(torch.randint(2**31, ())))  # the same in every process
        # Each process has noise of its own, which on a GPU comes from there.
        with torch.random.fork_rng(devices=[self.device] if self.on_gpu else []):
            torch.manual_seed(seed)
            pairs = [(self.decoder, self._new_decoder()), (self.head, self._new_head(self.embedding))]
        for module, fresh in pairs:
            for old, new in zip(module.parameters(), fresh.parameters(), strict=True):
                if old is self.embedding.weight:
                    continue
                old.copy_(new)
                for optimizer in self.trainer.optimizers:
                    optimizer.state.pop(old, None)

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule that the configuration names; see :mod:`hybridgen.models.optimisation`."""
        return configure(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file complete: the codec, and where the schedules are."""
        checkpoint["hybridgen_model"] = type(self).__name__
        checkpoint["options"] = self.options
        checkpoint["codec"] = self.codec.to_config()
        checkpoint["kl_start_step"] = self.kl_start_step
        checkpoint["aggressive"] = None if self.aggressive is None else self.aggressive.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.codec is None:
            self._build(codecs.from_config(checkpoint["codec"]))
        self.kl_start_step = checkpoint["kl_start_step"]
        if self.aggressive is not None and checkpoint["aggressive"] is not None:
            self.aggressive.load_state_dict(checkpoint["aggressive"])

    # Evaluation ------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        batches = sum(
            self.trainer.num_sanity_val_batches if self.trainer.sanity_checking else self.trainer.num_val_batches
        )
        self._evaluation = SentenceEvaluation(self, num_batches=batches, decoded=self.options["monitor_sentences"])

    def validation_step(self, batch: TextBatch, batch_index: int) -> None:
        self._evaluation.update(batch)

    def on_validation_epoch_end(self) -> None:
        metrics, self.collapse = self._evaluation.validation_metrics()
        self.log_dict({f"val/{name}": value for name, value in metrics.items()}, sync_dist=True)
        if self.trainer.sanity_checking:
            return
        fitting = self.trainer.state.fn == "fit"
        if fitting and self.aggressive is not None and self.kl_start_step is not None and self.collapse is not None:
            information = torch.tensor(metrics["mutual_information"], device=self.device)
            self.aggressive.observe(float(self._mean_of_processes(information)))
        # A KL weight that still rises has not had its say; what is left then is said at the end.
        if not fitting or (self.kl_start_step is not None and self._settled()):
            self._warned = warn_of_collapse(self.collapse) or self._warned

    def _settled(self) -> bool:
        return not self._warned and self.kl_control.schedule.settled(self.global_step - self.kl_start_step)

    def on_train_end(self) -> None:
        self._warned = self._warned or warn_of_collapse(self.collapse)

    def on_test_epoch_start(self) -> None:
        batches = sum(self.trainer.num_test_batches)
        self._evaluation = SentenceEvaluation(
            self, num_batches=batches, decoded=self.options["monitor_sentences"], k=self.options["iwae_samples"]
        )

    def test_step(self, batch: TextBatch, batch_index: int) -> None:
        self._evaluation.update(batch)

    def on_test_epoch_end(self) -> None:
        metrics, self.collapse = self._evaluation.test_metrics()
        self.log_dict({f"test/{name}": value for name, value in metrics.items()}, sync_dist=True)
        warn_of_collapse(self.collapse)


#: What builds a model again, beside its codec.
_OPTIONS = [name for name in inspect.signature(TextVAE).parameters if name != "codec"]
