"""What the models of sequences of vectors share: data, optimiser, evaluation, checkpoints, generation.

A batch has ``elements (B, T, F)``, ``lengths (B,)`` and ``labels (B,)`` or None (:class:`hybridgen.data.ElementBatch`);
those of series and sounds become such. A data module has a ``codec`` with ``num_features`` and ``labels``, the names of
the classes.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from hybridgen import codecs, heads
from hybridgen.closest import did_you_mean
from hybridgen.data import ElementBatch
from hybridgen.evaluation.frames import FrameTotals
from hybridgen.models.building import check_codec
from hybridgen.models.optimisation import adamw, warmup_then
from hybridgen.models.processes import whole_parameters
from hybridgen.tracking.elements import SampleElements


class ElementModel(pl.LightningModule):
    """A model of sequences of vectors; the two kinds are SequenceModel and VariationalRNN.

    They write :meth:`_build`, :meth:`_draw` and :meth:`bounds`. Their constructors save their hyperparameters and then
    call :meth:`_begin`.
    """

    def _begin(self, codec: dict[str, Any] | None) -> None:
        """Check the head's name and build the layers, if the codec is known already."""
        # What builds this model again, without what the command line adds to the hyperparameters.
        known = inspect.signature(type(self)).parameters
        self.options = {name: self.hparams[name] for name in known if name != "codec"}
        head, choices = self.options["head"], heads.element_names()
        if head not in choices:
            raise ValueError(f"head is {head!r}: {did_you_mean(head, choices, 'choose one of ' + ', '.join(choices))}")
        self.codec: Any = None
        self._totals: dict[str, FrameTotals] = {}
        if codec is not None:
            self._take(codecs.from_config(codec))

    # What a model writes -----------------------------------------------------------------------------------------

    def _build(self) -> None:
        """Make the layers, from ``self.options`` and ``self.codec``."""
        raise NotImplementedError(f"{type(self).__name__} must define _build()")

    def bounds(self, batch: Any, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """Negative log-likelihoods by estimator: ``(B,)`` nats of whole sequences, and of their first elements."""
        raise NotImplementedError(f"{type(self).__name__} must define bounds()")

    def _draw(self, labels: Tensor | None, noise: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Generate ``(N, T, F)`` from random numbers ``(N, T, ...)``, on the model's device."""
        raise NotImplementedError(f"{type(self).__name__} must define _draw()")

    # What follows ------------------------------------------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        """Number of classes, 0 for none."""
        return len(self.codec.labels)

    def run_callbacks(self, folder: Path) -> list[pl.Callback]:
        """What ``hybridgen fit`` adds to a training of this model: samples after validations."""
        return [SampleElements(folder)]

    def setup(self, stage: str) -> None:
        """Take the codec of the data, once.

        Raises:
            ValueError: if the data's codec is not the model's, or the head is for other elements.
        """
        data = self.trainer.datamodule
        if self.codec is None:
            self._take(data.codec)
        check_codec(self.codec, data, "the options that it had")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Take batches of series and of sounds as those of any elements.

        Raises:
            ValueError: if there is something in them that is no element.
        """
        if not hasattr(batch, "values") or hasattr(batch, "elements"):
            return batch
        for name in ("mask", "attributes", "conditions"):
            if getattr(batch, name) is not None:
                what = "missing cells" if name == "mask" else name
                raise ValueError(
                    f"the data has {what}, which a {type(self).__name__} does not read: use a SequenceGAN, or change "
                    "the data"
                )
        rows, steps = batch.values.shape[:2]
        lengths = torch.full((rows,), steps, device=batch.values.device) if batch.lengths is None else batch.lengths
        return ElementBatch(batch.values, lengths, batch.labels, batch.indices, int(lengths.sum()))

    def _take(self, codec: Any) -> None:
        kinds = {group.kind for group in getattr(codec, "groups", ())} - {"unit", "symmetric", "real"}
        if kinds:
            raise ValueError(
                f"the data has categories or missing cells, for which a {type(self).__name__} has no head: use a "
                "SequenceVAEGAN or a SequenceGAN"
            )
        self.codec = codec
        self._build()
        width = self.head.element_size
        if width != codec.num_features:
            raise ValueError(f"the head is {width} wide but an element of the data is {codec.num_features} wide")

    def make_head(self, feature_size: int) -> heads.ElementHead:
        """The head of the options, for features ``(N, feature_size)``."""
        options = self.options
        return heads.make(options["head"], feature_size, self.codec.num_features, **(options["head_options"] or {}))

    def labels_of(self, batch: Any) -> Tensor | None:
        """The classes of a batch ``(B,)``, or None for a model without.

        Raises:
            ValueError: if the model has classes and the batch has none.
        """
        if not self.num_labels:
            return None
        if batch.labels is None:
            raise ValueError("this model is conditional but the data has no labels: switch them on in the data")
        return batch.labels

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Any, batch_index: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        scores = self._scores()
        for name, values in scores.items():
            self.log(f"val/{name}_per_frame", values["per_frame"], prog_bar=True)
        self.log("val/loss", scores[self.judged_by]["per_frame"])

    def on_test_epoch_end(self) -> None:
        for name, values in self._scores().items():
            for convention, value in values.items():
                self.log(f"test/{name}_{convention}", value)

    @property
    def judged_by(self) -> str:
        """Which of the estimators of :meth:`bounds` is ``val/loss``."""
        return "nats"

    def _start_evaluation(self) -> None:
        self._totals = {}
        # The same draws in every evaluation, so that two epochs differ by what was learned; on the CPU, so that
        # machines agree.
        self._generator = torch.Generator().manual_seed(self.global_rank)

    def _evaluate(self, batch: Any) -> None:
        for name, (nats, first) in self.bounds(batch, self._generator).items():
            self._totals.setdefault(name, FrameTotals()).update(nats, first, batch.lengths.to(nats.device))

    def _scores(self) -> dict[str, dict[str, float]]:
        for totals in self._totals.values():
            totals.sums = self.trainer.strategy.reduce(totals.sums.to(self.device), reduce_op="sum").cpu()
        return {name: totals.scores() for name, totals in self._totals.items()}

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and the schedule, counted in batches."""
        options = self.options
        given = {name: options[name] for name in ("learning_rate", "weight_decay")}
        with whole_parameters(self):
            optimizer = adamw([self], **given, betas=tuple(options["betas"]))
        scheduler = warmup_then(
            optimizer,
            schedule=options["schedule"],
            warmup_steps=options["warmup_steps"],
            total_steps=self.trainer.estimated_stepping_batches,
            final_fraction=options["final_learning_rate"],
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file complete."""
        checkpoint["hybridgen_model"] = type(self).__name__
        checkpoint["options"] = self.options
        checkpoint["codec"] = self.codec.to_config()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.codec is None:
            self._take(codecs.from_config(checkpoint["codec"]))

    @torch.no_grad()
    def generate(
        self,
        num_samples: int = 1,
        *,
        length: int | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        labels: Sequence[int | str] | None = None,
        sample_numbers: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """New sequences, for the codec to write.

        Args:
            num_samples: how many.
            length: elements of each. Default: what is usual for the codec (the rows of an image, the longest sketch),
                else 64.
            seed: of the random draws. Sample i of a seed is the same alone and in any batch.
            temperature: of the head's draws, at least 0; see :meth:`hybridgen.heads.ElementHead.sample`.
            labels: the class of each sample, by number or name, or one for all; by default each class in turn.
            sample_numbers: number of each sample for its random draws, by default 0, 1, 2...

        Returns:
            ``(length, F)`` float32 on the CPU for each sample.

        Raises:
            ValueError: if an option does not fit.
        """
        if self.codec is None:
            raise ValueError("this model has not been trained: fit it, or load a checkpoint")
        length = getattr(self.codec, "usual_length", 64) if length is None else length
        for name, value in (("num_samples", num_samples), ("length", length)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: give a whole number of at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}: give a number of at least 0")
        numbers = list(range(num_samples) if sample_numbers is None else sample_numbers)
        if len(numbers) != num_samples or min(numbers) < 0:
            raise ValueError(f"sample_numbers are {numbers}: give one of at least 0 for each of {num_samples} samples")
        chosen = self._chosen_labels(labels, numbers)
        normal, uniform = self.num_normals, self.head.num_uniforms
        rows = []
        for number in numbers:
            # One stream for each sample, whose beginning does not depend on the length.
            draws = np.random.default_rng((seed, number))
            rows.append([(draws.standard_normal(normal), draws.random(uniform)) for _ in range(length)])
        noise = torch.tensor(np.asarray([[n for n, _ in row] for row in rows]), dtype=torch.float32)
        uniforms = torch.tensor(np.asarray([[u for _, u in row] for row in rows]), dtype=torch.float32)
        was_training = self.training
        self.eval()
        try:
            drawn = self._draw(chosen, noise.to(self.device), uniforms.to(self.device), temperature)
        finally:
            self.train(was_training)
        return list(drawn.float().cpu())

    @property
    def num_normals(self) -> int:
        """How many normal numbers an element takes, beside the head's uniform ones."""
        return 0

    def _chosen_labels(self, labels: Sequence[int | str] | None, numbers: list[int]) -> Tensor | None:
        names = self.codec.labels
        if not names:
            if labels is not None:
                raise ValueError("labels are given but this model has no classes: leave them out")
            return None
        given = [number % len(names) for number in numbers] if labels is None else list(labels)
        if len(given) == 1:
            given = given * len(numbers)
        if len(given) != len(numbers):
            raise ValueError(f"there are {len(given)} labels for {len(numbers)} samples: give one for each, or one")
        return torch.tensor([_label_number(label, names) for label in given], device=self.device)


def _label_number(label: int | str, names: list[str]) -> int:
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, str) and label.isdigit():
        label = int(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return label
    otherwise = f"choose one of {', '.join(names)}"
    raise ValueError(f"label {label!r} is unknown: {did_you_mean(label, names, otherwise)}")
