"""The hybrid: recurrent, variational and adversarial at once.

    critic       min  L_critic(real; reconstructions and samples from the prior)
    generator    min  [ -E_q log p(x | z)  +  KL term  +  1/2 |C(x) - C(x')|^2 ] / frames  +  L_adversarial

C are the critic's outputs at every step: the learned similarity of Larsen et al. 2016, "Autoencoding beyond pixels
using a learned similarity metric", arXiv:1512.09300, whose images become sequences here. As there, the critic learns
from the adversarial part alone, the encoder from everything but that, and generated are both x', decoded from q(z | x),
and decoded draws of the prior. Each of the three parts can be left out.
"""

import inspect
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from hybridgen import codecs
from hybridgen.models.building import check_codec
from hybridgen.models.feature_head import FeatureHead
from hybridgen.models.optimisation import check_end, rate_factor, tell_epoch_length
from hybridgen.models.processes import gathered, refuse_half_precision, shared, train_parts_in_turn
from hybridgen.models.sequence_gan_options import random_of
from hybridgen.models.sequence_gan_parts import RecurrentCritic
from hybridgen.models.sequence_gan_training import Updates
from hybridgen.models.sequence_gan_watch import CollapseAlarm, Guard
from hybridgen.models.sequence_vaegan_evaluation import Evaluation
from hybridgen.models.sequence_vaegan_generation import Generation
from hybridgen.models.sequence_vaegan_network import (
    Rows,
    SequenceDecoder,
    SequenceEncoder,
    SequenceVAE,
    layout_of,
    make_head,
)
from hybridgen.models.sequence_vaegan_options import check_options
from hybridgen.models.sequence_vaegan_training import HybridUpdates
from hybridgen.objectives import adversarial
from hybridgen.objectives.variational import KLControl
from hybridgen.tracking.elements import SampleElements


class SequenceVAEGAN(Generation, Evaluation, HybridUpdates, Updates, pl.LightningModule):
    """A recurrent VAE with a recurrent critic, over series, sounds, piano rolls, rows of images or strokes.

    Without ``adversarial`` it is a VAE of sequences (with ``autoregressive`` and strokes: Sketch-RNN, Ha & Eck 2017,
    arXiv:1704.03477); with ``reconstruction: none`` and ``variational: false`` it is a GAN. Every training batch counts
    once, whatever the number of optimisers. Samples come from a moving average of the generator.

    Args:
        reconstruction: ``likelihood`` (of the head), ``features`` (of the critic), ``both`` or ``none``.
        adversarial: whether there is a critic, whose verdict on reconstructions and samples trains the generator.
        variational: whether codes are draws from a posterior with a KL term. Without, they are batch-normalised.
        stack: arguments of :class:`hybridgen.cells.Stack` without ``input_size`` for encoder (always bidirectional),
            decoder and critic. Default: one layer of 64 GRU cells.
        critic_stack: the same for the critic, where it differs; bidirectional unless it says otherwise.
        latent_size: width D of the latent.
        steps_per_call: steps that one call of the cells of encoder and decoder reads and emits.
        autoregressive: whether the decoder reads the element before. Its draws for the critic are then made step by
            step, reading themselves; the likelihood reads the data (teacher forcing).
        history_dropout: probability that an autoregressive decoder does not see the element before, in training.
        head: distribution of an element: ``bernoulli``, ``gaussian``, ``mixture_of_logistics``, ``bivariate_mixture``.
            Default: for series and sounds normal numbers, categories and missing cells, each by its kind; for the
            others what suits their codec.
        head_options: further arguments of the head.
        critic_sees: ``draws`` (reparameterised, or straight through where discrete) or ``means`` (of keys:
            probabilities, which a critic can tell from keys by their softness).
        likelihood_weight: of the likelihood, in nats per frame.
        feature_weight: of the squared distance of features, per frame.
        adversarial_weight: of the critic's verdict.
        kl: options of :class:`hybridgen.objectives.variational.KLControl`: weight, schedule, free_bits, target_rate,
            capacity, in nats per sequence.
        scores: what the critic judges: ``sequence``, ``steps`` or ``both``.
        minibatch: whether the critic sees how much the batch varies.
        spectral_norm: whether the critic's matrices are divided by their largest singular value.
        loss: a pair of :mod:`hybridgen.objectives.adversarial`: ``relativistic``, ``non_saturating``, ``hinge``, ...
        penalty: ``r1_r2``, ``r1``, ``gradient_penalty`` (for ``wasserstein``) or ``none``.
        penalty_weight: gamma of R1 and R2, or the weight of the gradient penalty (10 is usual).
        penalty_every: updates of the critic for one with the penalty, which then weighs as much more.
        critic_steps: updates of the critic for each of the generator.
        accumulate_batches: batches whose gradients are added up for an update.
        gradient_clip_val: norm that the gradients of each network are clipped to; null does not clip.
        average_decay: of the moving average of the generator.
        learning_rate: peak, of the AdamW of encoder and decoder.
        critic_learning_rate: of the critic's Adam; the generator's by default.
        weight_decay: of encoder and decoder.
        betas: of both.
        schedule: ``cosine`` or ``constant``, after the warm-up.
        warmup_steps: batches until a learning rate is at its peak.
        final_learning_rate: where the cosine ends, as a fraction of the peak.
        iwae_samples: samples k of each sequence's importance-weighted bound in testing.
        seed: of noise and draws; batch n of a seed draws the same in every run.
        max_length: steps of the longest training sequence; taken from the data.
        codec: a saved codec; taken from the data when it is trained.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(
        self,
        *,
        reconstruction: str = "both",
        adversarial: bool = True,
        variational: bool = True,
        stack: dict[str, Any] | None = None,
        critic_stack: dict[str, Any] | None = None,
        latent_size: int = 32,
        steps_per_call: int = 1,
        autoregressive: bool = False,
        history_dropout: float = 0.0,
        head: str | None = None,
        head_options: dict[str, Any] | None = None,
        critic_sees: str = "draws",
        likelihood_weight: float = 1.0,
        feature_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        kl: dict[str, Any] | None = None,
        scores: str = "both",
        minibatch: bool = True,
        spectral_norm: bool = False,
        loss: str = "relativistic",
        penalty: str = "r1_r2",
        penalty_weight: float = 1.0,
        penalty_every: int = 1,
        critic_steps: int = 1,
        accumulate_batches: int = 1,
        gradient_clip_val: float | None = 10.0,
        average_decay: float = 0.999,
        learning_rate: float = 1.0e-3,
        critic_learning_rate: float | None = None,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.5, 0.99),
        schedule: str = "cosine",
        warmup_steps: int = 100,
        final_learning_rate: float = 0.05,
        iwae_samples: int = 10,
        seed: int = 0,
        max_length: int | None = None,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters(ignore=["codec"])
        # What builds this model again, without what the command line adds to the hyperparameters.
        names = [name for name in inspect.signature(SequenceVAEGAN).parameters if name != "codec"]
        self.options = {name: self.hparams[name] for name in names}
        check_options(self.options)
        self.kl_control = KLControl(**(kl or {})) if variational else None
        self.adversarial = _pair(loss)
        self.codec: Any = None
        self.critic: RecurrentCritic | None = None
        self.alarm = CollapseAlarm()
        self.guard: Guard | None = None
        self._loaded_guard: dict[str, Any] | None = None  # from a checkpoint, until training begins
        self.skipped_updates = 0  # of either network, because a number was not finite
        self._share = 1.0
        if codec is not None:
            self._build(codecs.from_config(codec), max_length)

    @property
    def monitor(self) -> str:
        """What the best checkpoint has least of: what is told of samples where a critic judges, else the bound."""
        if self.hparams.adversarial:
            return "val/mean_discrepancy"
        return "val/elbo_per_frame" if self.hparams.variational else "val/reconstruction_per_frame"

    def _build(self, codec: Any, max_length: int | None) -> None:
        options = self.hparams
        self.codec = codec
        self.options["max_length"] = self.max_length = max_length or 1
        self.layout = layout = layout_of(codec)
        stack = {"cell": "gru", "hidden_size": 64} | (options.stack or {})
        stack.pop("bidirectional", None)
        size = {"latent_size": options.latent_size, "steps_per_call": options.steps_per_call}
        encoder = None
        if options.reconstruction != "none":
            encoder = SequenceEncoder(layout, stack, variational=options.variational, **size)
        history = {"autoregressive": options.autoregressive, "history_dropout": options.history_dropout}
        decoder = SequenceDecoder(layout, stack, **size, **history)
        head = make_head(options.head, options.head_options, codec, decoder.feature_size)
        self.generator = SequenceVAE(encoder, decoder, head)
        if options.adversarial:
            judged = {"minibatch": options.minibatch, "spectral_norm": options.spectral_norm}
            critic = stack | (options.critic_stack or {})
            self.critic = RecurrentCritic(layout, critic, scores=options.scores, **judged)
        self.average = adversarial.moving_average(self.generator, decay=options.average_decay)
        # How long sequences of each class are, and with it how frequent the classes: what is drawn for new ones.
        self.register_buffer("length_counts", torch.zeros(max(1, layout.num_labels), self.max_length + 1))

    def train(self, mode: bool = True) -> "SequenceVAEGAN":
        """As ever, but the average is never in training mode."""
        super().train(mode)
        if self.codec is not None:
            self.average.eval()
        return self

    def run_callbacks(self, folder: Path) -> list[pl.Callback]:
        """What ``hybridgen fit`` adds to a training of this model: samples after validations, where they are rolls."""
        return [SampleElements(folder)]

    # Training --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take codec and lengths of the data, once.

        Raises:
            ValueError: if the precision is 16, the data's codec is another than the model was trained with, or
                there is no model yet.
        """
        data = self.trainer.datamodule
        if data is None:
            return
        train_parts_in_turn(self)
        refuse_half_precision(self.trainer)
        if stage == "fit":
            lengths, labels = _lengths_of(data, self.trainer.strategy.root_device)
            if self.codec is None:
                self._build(data.codec, int(lengths.max()))
            self._count(lengths, labels)
        elif self.codec is None:
            raise ValueError("this model has not been trained: give a checkpoint with --ckpt_path")
        check_codec(self.codec, data)

    def _count(self, lengths: Tensor, labels: Tensor | None) -> None:
        longest = self.length_counts.shape[1] - 1
        if int(lengths.max()) > longest:
            raise ValueError(
                f"the data has sequences of {int(lengths.max())} steps, but the model was made for {longest}"
            )
        if self.layout.num_labels and labels is None:
            raise ValueError("this model is conditional but the data has no labels: switch them on in the data")
        rows = labels if self.layout.num_labels else torch.zeros_like(lengths)
        there = self.length_counts.device  # before a training begins that is not yet where the trainer will have it
        self.length_counts.zero_().index_put_(
            (rows.to(there), lengths.to(there)), torch.ones(len(lengths), device=there), accumulate=True
        )

    def on_fit_start(self) -> None:
        names = ["generator", "average", *(["critic"] if self.critic is not None else [])]
        self.guard = Guard({name: getattr(self, name) for name in names})
        loaded, self._loaded_guard = self._loaded_guard, None
        if loaded is not None:
            self.guard.load_state_dict(loaded)

    def on_train_start(self) -> None:
        """Tell schedules in epochs how long an epoch is."""
        if self.kl_control is not None:
            tell_epoch_length(self.kl_control, self.trainer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The first one does nothing but count batches; then those of generator and, where there is one, critic."""
        options = self.hparams
        check_end(options.schedule, self.trainer.estimated_stepping_batches)
        adam = {"betas": tuple(map(float, options.betas)), "eps": 1e-8}
        decay = {"weight_decay": options.weight_decay}
        found = [
            torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.0),
            torch.optim.AdamW(self.generator.parameters(), lr=options.learning_rate, **adam, **decay),
        ]
        if self.critic is not None:
            rate = options.critic_learning_rate or options.learning_rate
            found.append(torch.optim.Adam(self.critic.parameters(), lr=rate, **adam))
        self._peaks = [optimizer.param_groups[0]["lr"] for optimizer in found]
        return found

    def training_step(self, batch: Any, batch_index: int) -> None:
        """One batch: of the critic, then of encoder and decoder."""
        step, options = self.global_step, self.hparams
        rows = Rows.of(batch)
        self.check_rows(rows)
        self._random = random_of(options.seed, step, self.global_rank)
        self._raw = self.optimizers(use_pl_optimizer=False)
        self._share, _ = shared({}, len(rows.values), self.device)
        total = self.trainer.estimated_stepping_batches
        factor = rate_factor(options.schedule, step, total, options.final_learning_rate, options.warmup_steps)
        for optimizer, peak in zip(self._raw, self._peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        values = self.update_both(rows, step)
        # Of all optimisers only this one is Lightning's: the batch counts once.
        self.optimizers()[0].step()
        _, values = shared(values, len(rows.values), self.device)
        if "critic_accuracy" in values:
            self.alarm.see_accuracy(float(values["critic_accuracy"]), step)
        values["learning_rate"] = factor * self._peaks[1]
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=len(rows.values))

    def check_rows(self, rows: Rows) -> None:
        """Check that a batch has classes where the model knows some, and is large enough.

        Raises:
            ValueError: if it has none, or fewer than 2 sequences in training.
        """
        if self.layout.num_labels and rows.labels is None:
            raise ValueError("this model is conditional but the data has no labels: switch them on in the data")
        if len(rows.values) < 2 and self.training:
            raise ValueError("this model needs at least 2 sequences in a batch: raise batch_size of the data")
        if rows.mask is not None and not isinstance(self.generator.head, FeatureHead) and not bool(rows.mask.all()):
            raise ValueError(
                f"the data has missing cells, which the head {self.hparams.head!r} would take for observed ones: leave "
                "head out, or set missing of the data to drop, interpolate or fill"
            )

    @property
    def holds_gradients(self) -> bool:
        """Whether the gradients are of a part of the batches of an update."""
        return self.global_step % self.hparams.accumulate_batches != 0

    def predict_step(self, batch: Any, batch_index: int) -> None:
        """There is nothing to predict.

        Raises:
            ValueError: always; the message names the command that makes sequences.
        """
        raise ValueError("a SequenceVAEGAN predicts nothing: make new sequences with hybridgen sample")


def _pair(loss: str) -> adversarial.AdversarialLoss:
    return adversarial.make(loss)  # in the constructor that name is an option


def _lengths_of(data: Any, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Lengths ``(S,)`` of all training sequences, as they are batched, and their classes; the same in every process."""
    if hasattr(data, "sequences"):
        sequences = data.sequences("train")
        labels = None if sequences.labels is None else torch.as_tensor(sequences.labels)
        return torch.as_tensor(sequences.lengths), labels
    batches = [(batch.lengths, batch.labels) for batch in data.train_dataloader()]  # a loader of our own: it is read up
    lengths = gathered(torch.cat([lengths for lengths, _ in batches]), device)
    if batches[0][1] is None:
        return lengths, None
    return lengths, gathered(torch.cat([labels for _, labels in batches]), device)
