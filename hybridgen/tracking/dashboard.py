"""What every training tells Weights & Biases beside its values: axes, the best value, and on request checkpoints."""

import math
from pathlib import Path

import pytorch_lightning as pl

from hybridgen.tracking.wandb_logger import CarefulWandbLogger


class TrackWandb(pl.Callback):
    """Horizontal axes, the best value in the summary, and checkpoints as an artifact.

    Curves are drawn against the model's ``step_metric`` (tokens seen, say), or against ``batch``: unlike Lightning's
    step that counts a batch once however many optimisers step on it. The summary has ``best/VALUE`` beside the epoch
    and the step that it was reached at, and the number of parameters.

    Args:
        monitor: the logged value that less of is better.
        checkpoints: folder whose ``best.ckpt`` and ``last.ckpt`` are kept when training ends; None keeps none.
    """

    def __init__(self, *, monitor: str, checkpoints: Path | None = None) -> None:
        self.monitor, self.checkpoints = monitor, checkpoints
        self.best = math.inf

    @staticmethod
    def _loggers(trainer: pl.Trainer) -> list[CarefulWandbLogger]:
        ours = [logger for logger in trainer.loggers if isinstance(logger, CarefulWandbLogger)]
        return ours if trainer.is_global_zero else []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        numbers = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        for logger in self._loggers(trainer):
            logger.batches = lambda: trainer.fit_loop.epoch_loop.total_batch_idx + 1
            logger.draw_against(getattr(pl_module, "step_metric", None) or "batch")
            logger.summarise({"parameters": numbers})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or not float(value) < self.best:
            return
        self.best = float(value)
        found = {
            f"best/{self.monitor}": self.best,
            "best/epoch": trainer.current_epoch,
            "best/step": trainer.global_step,
        }
        for logger in self._loggers(trainer):
            logger.summarise(found)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._keep(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._keep(trainer)  # loggers end before teardown then

    def _keep(self, trainer: pl.Trainer) -> None:
        if self.checkpoints is None:
            return
        paths = [self.checkpoints / f"{name}.ckpt" for name in ("best", "last")]
        paths = [path for path in paths if path.is_file()]
        self.checkpoints = None
        best = self.best if math.isfinite(self.best) else None
        for logger in self._loggers(trainer) if paths else ():
            logger.keep_files(paths, metadata={"monitor": self.monitor, "best": best, "step": trainer.global_step})

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.best = state_dict["best"]
