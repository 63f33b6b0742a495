"""What looks after adversarial training: collapse alarms, and the way back when numbers are no longer finite."""

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from hybridgen.tracking.finite import TrainingDiverged

log = logging.getLogger("hybridgen.sequence_gan")


class CollapseRatios(NamedTuple):
    """How much generated series vary, over how much real ones do; 1 is best, near 0 is a collapse.

    Attributes:
        pairwise_distance: of the mean distance between two series.
        variance: median over steps and features of the ratio of variances.
    """

    pairwise_distance: float
    variance: float


def collapse_ratios(real: Tensor, fake: Tensor, *, most: int = 500) -> CollapseRatios:
    """Compare how much two sets of series vary.

    Args:
        real: ``(N, T, F)``, N at least 2.
        fake: ``(M, T, F)``, M at least 2.
        most: series of each set that are compared in pairs.
    """
    one, other = real.flatten(1).float(), fake.flatten(1).float()
    distances = [torch.pdist(s[:most]).mean() for s in (one, other)]
    variances = one.var(0), other.var(0)
    varying = variances[0] > 1e-8
    ratios = (variances[1] / variances[0].clamp(min=1e-8))[varying]
    median = float(ratios.median()) if len(ratios) else 1.0
    return CollapseRatios(float(distances[1] / distances[0].clamp(min=1e-8)), median)


class CollapseAlarm:
    """Says in the log when a generator collapses, or its critic wins outright.

    Args:
        low: ratios below it are an alarm.
        accuracy: a mean critic accuracy above it is an alarm.
        patience: critic updates that the mean looks back over.
    """

    def __init__(self, *, low: float = 0.1, accuracy: float = 0.98, patience: int = 500) -> None:
        self.low, self.accuracy, self.patience = low, accuracy, patience
        self.mean, self.count = 0.5, 0

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain values."""
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.mean, self.count = float(state["mean"]), int(state["count"])

    def see_accuracy(self, accuracy: float, step: int) -> None:
        """Take the critic's accuracy of one update; the alarm is told once for every ``patience`` updates."""
        self.mean += (accuracy - self.mean) / self.patience
        self.count += 1
        if self.count >= self.patience and self.mean > self.accuracy:
            _warn(
                "batch %d: the critic has been right %.1f%% of the time: the generator gets no useful gradient; raise "
                "penalty_weight, lower critic_learning_rate or add augmentation",
                step,
                100 * self.mean,
            )
            self.count = 0

    def see_ratios(self, ratios: CollapseRatios, step: int) -> bool:
        """Take the ratios of a validation; whether they are an alarm."""
        worst = min(ratios)
        if worst >= self.low:
            return False
        _warn(
            "batch %d: the generator is collapsing: generated series vary %.3f times as much as real ones (distance), "
            "%.3f times (variance); raise penalty_weight, set minibatch to true or train longer",
            step,
            *ratios,
        )
        return True


class Guard:
    """Keeps the last good weights, and brings them back when a loss or a gradient is not finite.

    Args:
        modules: by name, what is kept.
        every: updates between two copies.
        most: how often in a row training may be brought back, before it is given up.
    """

    def __init__(self, modules: dict[str, nn.Module], *, every: int = 100, most: int = 10) -> None:
        self.modules, self.every, self.most = modules, every, most
        self.failures = 0
        self._since = 0
        self._good = self._copy()

    def _copy(self) -> dict[str, dict[str, Tensor]]:
        return {name: {k: v.detach().clone() for k, v in m.state_dict().items()} for name, m in self.modules.items()}

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain values and tensors."""
        return {"failures": self.failures, "since": self._since, "good": self._good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, of the same modules."""
        self.failures, self._since = int(state["failures"]), int(state["since"])
        for name, module in self.modules.items():
            own = module.state_dict()
            self._good[name] = {key: value.to(own[key].device) for key, value in state["good"][name].items()}

    def good(self) -> None:
        """An update went well."""
        self._since += 1
        if self._since < self.every:
            return
        self._since = 0
        copied = self._copy()
        finite = all(v.isfinite().all() for part in copied.values() for v in part.values() if v.is_floating_point())
        if finite:
            self._good, self.failures = copied, 0

    def roll_back(self, optimizers: Iterable[torch.optim.Optimizer], step: int) -> None:
        """Bring the last good weights back; the generator's are those of its average, if there is one.

        Raises:
            TrainingDiverged: if that has been done ``most`` times without a good copy between.
        """
        self.failures += 1
        if self.failures > self.most:
            raise TrainingDiverged(
                f"training diverged {self.failures} times in a row, last at batch {step}: lower learning_rate or "
                "gradient_clip_val, or raise penalty_weight"
            )
        _warn("batch %d: a loss or gradient is not finite: going back to the last good weights", step)
        for name, module in self.modules.items():
            state: dict[str, Any] = self._good[name]
            module.load_state_dict(state)
        average, generator = self.modules.get("average"), self.modules.get("generator")
        if average is not None and generator is not None and int(average.n_averaged) > 0:
            generator.load_state_dict(average.module.state_dict())
        for optimizer in optimizers:
            optimizer.state.clear()  # its moments are not finite either
            optimizer.zero_grad()
        self._since = 0


@rank_zero_only
def _warn(message: str, *values: Any) -> None:
    log.warning(message, *values)
