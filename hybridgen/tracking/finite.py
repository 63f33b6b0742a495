"""Numbers gone wrong: a loss or a gradient that is not finite is caught before the optimiser takes a step.

What every process of a training decides here, all decide alike: one flag is all that they tell each other.
"""

import logging
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

log = logging.getLogger("hybridgen.training")

#: Where a loss scaler looks for its scale (precision 16-mixed), gradients overflow this often in a row and all is well.
_SCALER_STEPS = 20
#: Elements of the largest buffer that is kept: statistics of normalisations and multipliers are small.
_KEPT_BUFFER = 1_000_000


class TrainingDiverged(ValueError):
    """Training was given up: its numbers are not finite any more. The message says where, and what to try."""


def in_any_process(flag: Tensor | bool, device: torch.device | str = "cpu") -> bool:
    """Whether a flag is set in any process of a training; all of them must ask.

    Args:
        flag: this process's, one bool or a scalar tensor.
        device: where the processes can reduce tensors, where ``flag`` is no tensor.
    """
    flag = flag if isinstance(flag, Tensor) else torch.tensor(flag, device=device)
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        flag = flag.to(torch.int32)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag)


class SkippedSteps:
    """Counts the steps that were left out, and says when it is enough.

    Args:
        in_a_row: left out one after another, at most.
        in_all: left out over the whole training, at most.

    Raises:
        ValueError: if one of them is less than 1.
    """

    def __init__(self, in_a_row: int = 10, in_all: int = 1000) -> None:
        for name, value in (("in_a_row", in_a_row), ("in_all", in_all)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} of steps that are skipped is {value!r}: give a whole number of at least 1")
        self.in_a_row, self.in_all = in_a_row, in_all
        self.total = 0
        self._rows: dict[int, int] = {}

    def good(self, of: int = 0) -> None:
        """A step was taken.

        Args:
            of: which optimiser's.
        """
        self._rows[of] = 0

    def skip(self, why: str, step: int, of: int = 0, more: int = 0) -> None:
        """A step was left out.

        Args:
            why: what was not finite, for the message.
            step: the trainer's step.
            of: which optimiser's.
            more: how many more than ``in_a_row`` are allowed here.

        Raises:
            TrainingDiverged: if it is one too many.
        """
        self.total += 1
        row = self._rows[of] = self._rows.get(of, 0) + 1
        if row >= self.in_a_row + more or self.total >= self.in_all:
            often = f"{row} steps in a row" if row >= self.in_a_row + more else f"{self.total} steps"
            raise TrainingDiverged(
                f"training diverged: {often} had numbers that are not finite, last at step {step} ({why}): lower "
                "learning_rate or trainer.gradient_clip_val, or look for values in the data that are not finite"
            )
        if self.total <= 10 or self.total % 100 == 0:
            _warn("step %d is skipped, %s (%d in a row, %d in all)", step, why, row, self.total)


class SkipNonFinite(pl.Callback):
    """Leaves out every optimiser step whose loss or gradient is not finite, in any process; gives up after some.

    A step that is left out changes no weights, no moments of the optimiser and no buffers (statistics of
    normalisations, say); ``train/skipped_steps`` counts them. Works for automatic and manual optimisation through
    Lightning's optimisers. A model with a number ``skipped_updates`` looks after its updates itself (a GAN goes back to
    its last good weights): that number is logged then.

    A model that carries something from batch to batch may have a method ``forget_state()``, which is called where a
    step is left out: what it carries comes from the same numbers.

    A checkpoint of weights that are not finite is never written: the last good one stays.

    Args:
        in_a_row: steps left out one after another until training is given up.
        in_all: steps left out until training is given up.

    Raises:
        ValueError: if an option does not fit.
        TrainingDiverged: in training, when it is given up.
    """

    def __init__(self, in_a_row: int = 10, in_all: int = 1000) -> None:
        self.skipped = SkippedSteps(in_a_row, in_all)
        self._losses: list[Tensor] = []
        self._stepped = False
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the buffers as they are."""
        self._losses.clear()
        self._buffers = [] if _looks_after_itself(pl_module) else _small_buffers(pl_module)
        self._kept = [buffer.detach().clone() for buffer in self._buffers]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Take note of a loss, a scalar in nats or whatever the model minimises."""
        if _looks_after_itself(pl_module):
            return
        if self._stepped:  # several optimisers may step by one gradient
            self._losses, self._stepped = [], False
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the loss and the gradient; without gradients an optimiser's step does nothing."""
        if _looks_after_itself(pl_module):
            return
        losses, self._stepped = self._losses, True
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        finite = torch.nn.utils.get_total_norm(gradients).isfinite() if gradients else torch.tensor(True)
        for loss in losses:
            finite = finite & loss.to(finite.device).isfinite().all()
        which = trainer.optimizers.index(optimizer) if optimizer in trainer.optimizers else 0
        if not in_any_process(~finite if gradients else ~finite.to(pl_module.device)):
            self.skipped.good(which)
            if self._buffers:
                torch._foreach_copy_(self._kept, self._buffers)
            return
        why = _what(pl_module, losses, optimizer)
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            for buffer, kept in zip(self._buffers, self._kept, strict=True):
                buffer.copy_(kept)
        if hasattr(pl_module, "forget_state"):
            pl_module.forget_state()
        _check_weights(trainer, pl_module)
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self.skipped.skip(why, trainer.global_step, which, _SCALER_STEPS if scaled else 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log how many steps were left out."""
        total = pl_module.skipped_updates if _looks_after_itself(pl_module) else self.skipped.total
        pl_module.log("train/skipped_steps", float(total), batch_size=1)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save weights that are not finite."""
        _check_weights(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.skipped.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped.total = int(state_dict["total"])


def _looks_after_itself(model: nn.Module) -> bool:
    return hasattr(model, "skipped_updates")


def _small_buffers(model: nn.Module) -> list[Tensor]:
    return [b for b in model.buffers() if b.is_floating_point() and b.numel() <= _KEPT_BUFFER]


def _check_weights(trainer: pl.Trainer, model: nn.Module) -> None:
    """Raise TrainingDiverged if a weight is not finite in any process."""
    weights = [(name, p.detach()) for name, p in model.named_parameters() if p.is_floating_point() and p.numel()]
    # The sum of finite numbers may overflow, the largest of them cannot; a NaN is the largest.
    largest = [p.abs().amax() for _, p in weights]
    good = torch.stack([value.float() for value in largest]).isfinite() if largest else torch.ones(1, dtype=torch.bool)
    if not in_any_process(~good.all() if largest else False, getattr(model, "device", "cpu")):
        return
    bad = [name for (name, _), finite in zip(weights, good.tolist(), strict=True) if not finite] if largest else []
    path = getattr(trainer.checkpoint_callback, "last_model_path", "") if trainer.checkpoint_callback else ""
    kept = f"the last good checkpoint is {path}" if path else "nothing was saved"
    raise TrainingDiverged(
        f"training diverged: the weights of {bad[0] if bad else 'another process'} are not finite after step "
        f"{trainer.global_step} ({kept}): lower learning_rate"
    )


def _what(model: nn.Module, losses: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> str:
    """What of this process is not finite, in words."""
    for loss in losses:
        if not bool(loss.isfinite().all()):
            return f"the loss is {float(loss.reshape(-1)[0]):g}"
    names = {id(p): name for name, p in model.named_parameters()}
    bad = [
        names.get(id(p), "a parameter")
        for group in optimizer.param_groups
        for p in group["params"]
        if p.grad is not None and not bool(p.grad.isfinite().all())
    ]
    if not bad:
        return "in another process"
    more = f" and of {len(bad) - 1} others" if len(bad) > 1 else ""
    return f"the gradient of {bad[0]}{more} is not finite"


@rank_zero_only
def _warn(message: str, *values: Any) -> None:
    log.warning(message, *values)
