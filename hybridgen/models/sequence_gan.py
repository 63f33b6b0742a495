"""The recurrent GAN for series and sounds.

``direct``: generator and critic are stacks of cells over the sequence (C-RNN-GAN, Mogren 2016, arXiv:1611.09904; RCGAN,
Esteban et al. 2017, arXiv:1706.02633). ``latent``: a recurrent autoencoder first, then a GAN over the codes of the
training sequences, which are computed once, so that no gradient runs through time in the adversarial part (RTSGAN, Pei
et al. 2021). ``timegan``: an adversary of codes of every step, see :mod:`hybridgen.models.sequence_timegan`. By default
all are trained as R3GAN (Huang et al. 2024, arXiv:2501.05441): relativistic pairing with R1 and R2.
"""

import inspect
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from hybridgen import codecs
from hybridgen.data import SeriesBatch
from hybridgen.evaluation.series import mean_discrepancy
from hybridgen.models.building import check_codec
from hybridgen.models.calibration import Calibration, Maps
from hybridgen.models.optimisation import check_end, rate_factor
from hybridgen.models.processes import gathered, refuse_half_precision, shared, train_parts_in_turn
from hybridgen.models.sequence_autoencoder import SequenceAutoencoder
from hybridgen.models.sequence_gan_options import check_options, part_at, random_of
from hybridgen.models.sequence_gan_parts import (
    CodeCritic,
    CodeGenerator,
    Layout,
    RecurrentCritic,
    RecurrentGenerator,
)
from hybridgen.models.sequence_gan_sampling import Sampling
from hybridgen.models.sequence_gan_training import Updates, spread
from hybridgen.models.sequence_gan_watch import CollapseAlarm, Guard, collapse_ratios
from hybridgen.models.sequence_timegan import StepEmbedder, TimeGANGenerator, step_code_critic
from hybridgen.models.sequence_timegan_training import JointUpdates
from hybridgen.objectives import adversarial
from hybridgen.tracking.elements import SampleElements

#: Sequences that a validation compares, at most: its cost grows with their square.
COMPARED = 1000


class SequenceGAN(Sampling, JointUpdates, Updates, pl.LightningModule):
    """A recurrent GAN over the series of :class:`hybridgen.data.SeriesData` or the sounds of ``AudioData``.

    Every training batch counts once: in ``max_steps``, checkpoints, learning rates and logged axes, whatever the number
    of optimisers. Samples come from a moving average of the generator.

    Args:
        mode: ``latent`` (minutes on a CPU), ``direct`` or ``timegan``.
        stack: arguments of :class:`hybridgen.cells.Stack` without ``input_size`` for generator and critic or, in
            ``latent`` mode, encoder and decoder. Default: one layer of 64 GRU cells.
        critic_stack: the same for the critic of sequences, where it differs; bidirectional unless it says otherwise.
        sequence_noise: width of the noise of a whole sequence.
        step_noise: width of the noise of each call of the cells (not in ``latent``).
        steps_per_call: steps that one call of the generator emits and, in ``latent``, the encoder reads.
        feedback: whether the generator reads what it made in the call before, as in C-RNN-GAN (``direct``).
        warm_start_steps: batches in which it first learns to go on with real sequences (``direct`` with ``feedback``).
        code_size: width of a sequence's code or, in ``timegan``, of a step's.
        code_noise: standard deviation of noise on codes while the autoencoder learns; codes have 1.
        code_floor: how small an axis of the codes may be, as a part of the largest, and still be scaled up for the GAN:
            near 0 makes codes white, which shows the critic every detail but makes it hard to beat; 1 leaves small axes
            small (``latent``).
        linear_path: whether codes start as the principal components of whole sequences, to which the cells add what
            these leave (``latent``): fine detail comes through that cells alone learn only after very long.
        calibrate: whether samples get the covariance of codes and the distribution of every number that the training
            data has, see :mod:`hybridgen.models.calibration` (``latent``; of codes alone where there are conditions).
        autoencoder_steps: batches that the autoencoder learns from before all else (not in ``direct``).
        supervisor_steps: batches that the supervisor learns from after that, before the GAN starts (``timegan``).
        critic_threshold: the critic rests while its loss is below; null lets it always learn, as the loss
            ``wasserstein`` does, which has no lower end (``timegan``).
        latent_updates: updates of the GAN over codes for each batch after that (``latent``): each costs little.
        hidden_size: of generator and critic of codes (``latent``).
        num_layers: their hidden layers.
        scores: what the critic of sequences judges: ``sequence``, ``steps`` or ``both``.
        minibatch: whether the critic sees how much the batch varies.
        spectral_norm: whether the critic's matrices are divided by their largest singular value.
        loss: a pair of :mod:`hybridgen.objectives.adversarial`: ``relativistic``, ``non_saturating``, ``hinge``, ...
        penalty: ``r1_r2``, ``r1``, ``gradient_penalty`` (for ``wasserstein``) or ``none``.
        penalty_weight: gamma of R1 and R2, or the weight of the gradient penalty (10 is usual).
        penalty_every: updates of the critic for one with the penalty, which then weighs as much more.
        feature_matching: weight of matching the critic's mean features.
        moment_weight: of matching mean and deviation of each step and feature; null is 0, in ``timegan`` 100 (its own).
        augmentation: arguments of :class:`hybridgen.objectives.adversarial.Augment`, for few data (``direct``).
        critic_steps: updates of the critic for each of the generator.
        accumulate_batches: batches whose gradients are added up for an update (but for updates over ``latent`` codes).
        gradient_clip_val: norm that the gradients of each network are clipped to; null does not clip.
        average_decay: of the moving average of the generator.
        autoencoder_learning_rate: peak, of AdamW.
        learning_rate: peak, of the generator's Adam.
        critic_learning_rate: of the critic's; the generator's by default (two time scales: Heusel et al. 2017).
        betas: of both.
        schedule: ``cosine`` or ``constant``, after the warm-up; counted from the start of each part of training.
        warmup_steps: batches until a learning rate is at its peak.
        final_learning_rate: where the cosine ends, as a fraction of the peak.
        seed: of noise and draws; batch n of a seed draws the same in every run.
        max_length: steps of the longest training sequence; taken from the data.
        codec: a saved codec; taken from the data when it is trained.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    monitor = "val/mean_discrepancy"

    def __init__(
        self,
        *,
        mode: str = "latent",
        stack: dict[str, Any] | None = None,
        critic_stack: dict[str, Any] | None = None,
        sequence_noise: int = 32,
        step_noise: int = 8,
        steps_per_call: int = 1,
        feedback: bool = False,
        warm_start_steps: int = 0,
        code_size: int = 24,
        code_noise: float = 0.01,
        code_floor: float = 0.1,
        linear_path: bool = True,
        calibrate: bool = True,
        autoencoder_steps: int = 3000,
        supervisor_steps: int = 1000,
        critic_threshold: float | None = 0.15,
        latent_updates: int = 8,
        hidden_size: int = 128,
        num_layers: int = 3,
        scores: str = "both",
        minibatch: bool = True,
        spectral_norm: bool = False,
        loss: str = "relativistic",
        penalty: str = "r1_r2",
        penalty_weight: float = 1.0,
        penalty_every: int = 1,
        feature_matching: float = 0.0,
        moment_weight: float | None = None,
        augmentation: dict[str, Any] | None = None,
        critic_steps: int = 1,
        accumulate_batches: int = 1,
        gradient_clip_val: float | None = 10.0,
        average_decay: float = 0.999,
        autoencoder_learning_rate: float = 3.0e-3,
        learning_rate: float = 5.0e-4,
        critic_learning_rate: float | None = None,
        betas: tuple[float, float] = (0.0, 0.99),
        schedule: str = "cosine",
        warmup_steps: int = 100,
        final_learning_rate: float = 0.05,
        seed: int = 0,
        max_length: int | None = None,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters(ignore=["codec"])
        # What builds this model again, without what the command line adds to the hyperparameters.
        names = [name for name in inspect.signature(SequenceGAN).parameters if name != "codec"]
        self.options = {name: self.hparams[name] for name in names}
        check_options(self.options)
        self.adversarial = adversarial.make(loss)
        self.augment = None
        if augmentation is not None:
            try:
                self.augment = adversarial.Augment(**augmentation)
            except TypeError as error:
                raise ValueError(f"augmentation: {error}") from None
        self.codec: Any = None
        self.alarm = CollapseAlarm()
        self.guard: Guard | None = None
        self._loaded_guard: dict[str, Any] | None = None  # from a checkpoint, until training begins
        self._codes: Tensor | None = None
        self._found_maps: tuple[Any, Maps] | None = None  # with what they depend on
        if codec is not None:
            self._build(codecs.from_config(codec), max_length)

    def _build(self, codec: Any, max_length: int | None) -> None:
        options = self.hparams
        self.codec = codec
        self.options["max_length"] = self.max_length = max_length or 1
        self.layout = layout = Layout.of(codec)
        stack = {"cell": "gru", "hidden_size": 64} | (options.stack or {})
        judged = {"minibatch": options.minibatch, "spectral_norm": options.spectral_norm}
        # How long sequences of each class are, and with it how frequent the classes: what is drawn for new ones.
        self.register_buffer("length_counts", torch.zeros(max(1, layout.num_labels), self.max_length + 1))
        noise = {name: options[name] for name in ("sequence_noise", "step_noise", "steps_per_call")}
        judges = {"stack": stack | (options.critic_stack or {}), "scores": options.scores, **judged}
        if options.mode == "direct":
            self.generator = RecurrentGenerator(layout, stack, feedback=options.feedback, **noise)
            self.critic = RecurrentCritic(layout, **judges)
        elif options.mode == "timegan":
            self.embedder = StepEmbedder(layout, stack, options.code_size)
            self.generator = TimeGANGenerator(layout, stack, code_size=options.code_size, **noise)
            self.critic = step_code_critic(layout, options.code_size, **judges)
        else:
            self.autoencoder = SequenceAutoencoder(
                layout,
                stack,
                code_size=options.code_size,
                code_noise=options.code_noise,
                code_floor=options.code_floor,
                linear_steps=self.max_length if options.linear_path else 0,
                steps_per_call=options.steps_per_call,
            )
            self.calibration = Calibration(layout.groups, options.code_size)
            size = {"hidden_size": options.hidden_size, "num_layers": options.num_layers}
            self.generator = CodeGenerator(
                layout, code_size=options.code_size, with_length=True, noise_size=options.sequence_noise, **size
            )
            self.critic = CodeCritic(self.generator.width, layout.num_labels, **size, **judged)
        self.average = adversarial.moving_average(self.generator, decay=options.average_decay)

    def train(self, mode: bool = True) -> "SequenceGAN":
        """As ever, but the average is never in training mode, nor the autoencoder after its part of training."""
        super().train(mode)
        if self.codec is not None:
            self.average.eval()
            if self._codes is not None:
                self.autoencoder.eval()
        return self

    def run_callbacks(self, folder: Path) -> list[pl.Callback]:
        """What ``hybridgen fit`` adds to a training of this model: samples after every validation."""
        return [SampleElements(folder, every=0)]

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
            sequences = data.sequences("train")
            if self.codec is None:
                self._build(data.codec, sequences.max_length)
            self._count(sequences)
        elif self.codec is None:
            raise ValueError("this model has not been trained: give a checkpoint with --ckpt_path")
        check_codec(self.codec, data)

    def _count(self, sequences: Any) -> None:
        longest = self.length_counts.shape[1] - 1
        if sequences.max_length > longest:
            raise ValueError(
                f"the data has sequences of {sequences.max_length} steps, but the model was made for {longest}"
            )
        labels = sequences.labels if self.layout.num_labels else None
        rows = torch.zeros(len(sequences), dtype=torch.int64) if labels is None else torch.as_tensor(labels)
        lengths = torch.as_tensor(sequences.lengths)
        self.length_counts.zero_().index_put_((rows, lengths), torch.ones(len(rows)), accumulate=True)

    def on_fit_start(self) -> None:
        if self.hparams.mode == "latent" and self.autoencoder.needs_start:
            some = spread(self.trainer.datamodule.sequences("train"), self.layout.num_features)
            self.autoencoder.start(some.values, some.lengths)
        names = [n for n in ("generator", "critic", "average", "autoencoder", "embedder") if hasattr(self, n)]
        loaded, self._loaded_guard = self._loaded_guard, None
        if loaded is not None:
            names = [name for name in names if name in loaded["good"]]
        self.guard = Guard({name: getattr(self, name) for name in names})
        if loaded is not None:
            self.guard.load_state_dict(loaded)
        self._codes = None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The first one does nothing but count batches; then generator, critic and, but in ``direct``, autoencoder."""
        options = self.hparams
        check_end(options.schedule, self.trainer.estimated_stepping_batches)
        adam = {"betas": tuple(map(float, options.betas)), "eps": 1e-8}
        found = [
            torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.0),
            torch.optim.Adam(self.learners(1).parameters(), lr=options.learning_rate, **adam),
            torch.optim.Adam(
                self.critic.parameters(), lr=options.critic_learning_rate or options.learning_rate, **adam
            ),
        ]
        if options.mode != "direct":
            found.append(torch.optim.AdamW(self.learners(3).parameters(), lr=options.autoencoder_learning_rate))
        self._peaks = [optimizer.param_groups[0]["lr"] for optimizer in found]
        return found

    def training_step(self, batch: SeriesBatch, batch_index: int) -> None:
        """One batch, of whichever part of training it is in."""
        step, options = self.global_step, self.hparams
        self._random = random_of(options.seed, step, self.global_rank)
        self._raw = self.optimizers(use_pl_optimizer=False)
        part = part_at(options, step, self.trainer.estimated_stepping_batches)
        self._share, _ = shared({}, len(batch.values), self.device)
        done, batches = step - part.start, part.end - part.start
        factor = rate_factor(options.schedule, done, batches, options.final_learning_rate, options.warmup_steps)
        for optimizer, peak in zip(self._raw, self._peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        values = self._learn(part.name, batch, done)
        # Of all optimisers only this one is Lightning's: the batch counts once.
        self.optimizers()[0].step()
        _, values = shared(values, len(batch.values), self.device)
        if "critic_accuracy" in values:
            self.alarm.see_accuracy(float(values["critic_accuracy"]), step)
        values["learning_rate"] = factor * self._peaks[3 if part.name == "autoencoder" else 1]
        size = len(batch.values)
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=size)

    @property
    def holds_gradients(self) -> bool:
        """Whether the gradients are of a part of the batches of an update."""
        part = part_at(self.hparams, self.global_step)
        over_codes = self.hparams.mode == "latent" and part.name == "adversarial"
        return not over_codes and (self.global_step - part.start) % self.hparams.accumulate_batches != 0

    # Evaluation ------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._seen: list[SeriesBatch] = []
        self._rows, self._part = 0, "valid"

    def validation_step(self, batch: SeriesBatch, batch_index: int) -> None:
        # Spread over all of the data: what comes first may be another time than what comes last.
        every = -(-len(self.trainer.datamodule.sequences(self._part)) // COMPARED)
        first = min(-self._rows % every, len(batch.values))  # beyond the batch where none of it is compared
        rows = torch.arange(first, len(batch.values), every, device=self.device)
        self._rows += len(batch.values)
        if len(rows):
            self._seen.append(SeriesBatch(*(None if part is None else part[rows] for part in batch)))

    def on_validation_epoch_end(self) -> None:
        self._compare("val")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()
        self._part = "test"

    def test_step(self, batch: SeriesBatch, batch_index: int) -> None:
        self.validation_step(batch, batch_index)

    def on_test_epoch_end(self) -> None:
        self._compare("test")

    @torch.no_grad()
    def _compare(self, stage: str) -> None:
        """Log how far generated series are from real ones of the same lengths, classes and conditions."""
        maps = self._maps()
        real, fake, plain, errors = [], [], [], []
        for number, batch in enumerate(self._seen):
            made = itself = self._beside(batch, random_of(0, number, self.global_rank), maps).values
            if maps is not None:
                # Calibration would hide from the alarm how little the generator varies by itself.
                itself = self._beside(batch, random_of(0, number, self.global_rank), None).values
            for values, kept in ((batch.values, real), (made, fake), (itself, plain)):
                kept.append(nn.functional.pad(values, (0, 0, 0, self.max_length - values.shape[1])))
            if self.hparams.mode == "latent":
                errors.append(self.autoencoder.loss(batch.values, batch.mask, batch.lengths, batch.conditions, None))
            elif self.hparams.mode == "timegan":
                errors.append(self._reconstruction(batch))
        self._seen.clear()
        real, fake, plain = (gathered(torch.cat(part), self.device) for part in (real, fake, plain))
        if len(real) < 2:
            # One alone has no distribution; a checkpoint is still told by its validation.
            self.log(f"{stage}/mean_discrepancy", float("nan"), sync_dist=True, batch_size=1)
            return
        ratios = collapse_ratios(real, plain)
        values = {
            "mean_discrepancy": mean_discrepancy(real, fake).squared,
            "pairwise_distance_ratio": ratios.pairwise_distance,
            "variance_ratio": ratios.variance,
        }
        if errors:
            values["reconstruction"] = torch.stack(errors).mean()
        self.log_dict({f"{stage}/{n}": v for n, v in values.items()}, sync_dist=True, batch_size=len(real))
        part = part_at(self.hparams, self.global_step)
        late = part.name == "adversarial" and self.global_step > part.start + 500
        if stage == "val" and not self.trainer.sanity_checking and late:
            self.alarm.see_ratios(ratios, self.global_step)

    def predict_step(self, batch: SeriesBatch, batch_index: int) -> None:
        """There is nothing to predict.

        Raises:
            ValueError: always; the message names the command that makes sequences.
        """
        raise ValueError("a sequence GAN predicts nothing: make new sequences with hybridgen sample")
