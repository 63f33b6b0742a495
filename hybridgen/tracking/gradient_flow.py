"""Gradient flow while a model trains: norms of layers, size of updates, and norms through time."""

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor, nn

from hybridgen.cells import Stack
from hybridgen.cells.base import Cell
from hybridgen.tracking.gradient_lags import draw_lags, factor_per_step, lag_norms

#: Calls of a cell that are remembered in a batch; a critic is called several times.
_CALLS = 8


class GradientFlow(pl.Callback):
    """Every so many steps, measures how gradients flow: numbers for the loggers, and a picture.

    * ``gradient_flow/norm/LAYER``: norm of the gradient, before clipping where the model is optimised automatically.
    * ``gradient_flow/update_ratio/LAYER``: norm of a step's change of the weights over that of the weights. About
      1e-3 is usual; 1e-5 hardly learns, 1e-1 is about to diverge.
    * ``gradient_flow/per_step/CELL``: what each step back in time multiplies the gradient of the last step's loss by
      (:func:`hybridgen.tracking.gradient_lags.lag_norms`), for every recurrent cell that the batch ran through; by the
      cell alone, as if no document ended in between, and without dropout.

    The whole curves go to ``gradient_flow/flow.jsonl`` of the run folder, a line for each time; the picture to
    ``gradient_flow/step-NUMBER.png`` and to Weights & Biases. The first step is always measured: it shows the
    initialisation. The first process measures, on its part of the batch.

    Args:
        every: steps of the optimiser between two measurements.
        max_lag: steps back in time, at most.
        rows: sequences of a batch that the norms through time are a mean over, at most.
        folder: where ``gradient_flow/`` goes; the run folder by default.

    Raises:
        ValueError: if an option is less than 1; in training, with ``trainer.strategy`` fsdp, where no process has
            whole layers.
    """

    def __init__(self, every: int = 500, max_lag: int = 64, rows: int = 8, folder: str | None = None) -> None:
        for name, value in (("every", every), ("max_lag", max_lag), ("rows", rows)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of GradientFlow is {value!r}: give a whole number of at least 1")
        self.every, self.max_lag, self.rows = every, max_lag, rows
        self.folder = None if folder is None else Path(folder)
        self._armed: int | None = None  # the step at which a measurement began
        self._last: int | None = None
        self._weights: dict[str, Tensor] = {}
        self._norms: dict[str, float] = {}
        self._calls: dict[str, list[_CellCall]] = {}
        self._undo: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the strategy.

        Raises:
            ValueError: if the parameters are in shards (fsdp), where no process sees a gradient whole.
        """
        if isinstance(trainer.strategy, FSDPStrategy):
            raise ValueError("GradientFlow cannot measure with trainer.strategy fsdp: use ddp, or leave it out")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        root = trainer.log_dir or trainer.default_root_dir  # all processes must ask
        if self.folder is None:
            self.folder = Path(root)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a measurement where one is due."""
        due = self._last is None or trainer.global_step // self.every > self._last // self.every
        if trainer.global_rank or self._armed is not None or not due:
            return
        self._armed = trainer.global_step
        self._norms = {}
        self._weights = {name: p.detach().clone() for name, p in _trained(pl_module)}
        self._watch_cells(pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Read the gradient before it is clipped."""
        if self._armed is not None:
            self._read_gradients(pl_module, {id(p) for group in optimizer.param_groups for p in group["params"]})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After the step that was due, log and draw."""
        if self._armed is None:
            return
        if trainer.global_step == self._armed:  # gradients are still being accumulated
            self._unwatch()
            self._watch_cells(pl_module)
            return
        # What a model steps by itself has its gradient until the next batch.
        self._read_gradients(pl_module, None)
        ratios = _update_ratios(pl_module, self._weights)
        curves = self._measure_lags(pl_module)
        step, self._last, self._armed = self._armed, self._armed, None
        self._forget()
        self._write(trainer, step, _by_layer(self._norms), ratios, curves)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._forget()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._armed = None
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        return {"last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._last = state_dict["last"]

    # Measuring -------------------------------------------------------------------------------------------------

    def _read_gradients(self, model: nn.Module, only: set[int] | None) -> None:
        for name, parameter in _trained(model):
            asked = parameter.grad is not None and (only is None or id(parameter) in only)
            if asked and name not in self._norms:
                self._norms[name] = float(parameter.grad.detach().norm())

    def _watch_cells(self, model: nn.Module) -> None:
        """Remember what every cell is called with, until :meth:`_unwatch`."""
        dropped = {id(cell) for m in model.modules() if isinstance(m, Stack) and m.weight_drop for cell in m.cells}
        self._calls = {name: [] for name, cell in model.named_modules() if isinstance(cell, Cell)}
        for name, cell in model.named_modules():
            if not isinstance(cell, Cell):
                continue
            calls = self._calls[name]
            self._undo.append(cell.register_forward_hook(partial(_see_sequence, calls), with_kwargs=True).remove)
            # With weight drop another object takes the cell's place in each call, with this cell's attributes.
            if id(cell) not in dropped:
                cell.step = partial(_see_step, calls, cell.step)
                self._undo.append(partial(cell.__dict__.pop, "step", None))

    def _unwatch(self) -> None:
        for undo in self._undo:
            undo()
        self._undo.clear()

    def _forget(self) -> None:
        self._unwatch()
        self._weights, self._calls = {}, {}

    def _measure_lags(self, model: nn.Module) -> dict[str, Tensor]:
        self._unwatch()
        cells = dict(model.named_modules())
        curves = {}
        for name, calls in self._calls.items():
            told = [call for call in calls if call.gradient is not None]
            arguments = told[-1].arguments(self.rows) if told else None
            if arguments is not None:
                curves[name] = lag_norms(cells[name], *arguments, max_lag=self.max_lag)
        return curves

    def _write(
        self,
        trainer: pl.Trainer,
        step: int,
        norms: dict[str, float],
        ratios: dict[str, float],
        curves: dict[str, Tensor],
    ) -> None:
        factors = {name: factor_per_step(curve) for name, curve in curves.items()}
        kinds = (("norm", norms), ("update_ratio", ratios), ("per_step", factors))
        metrics = {f"gradient_flow/{kind}/{name}": value for kind, found in kinds for name, value in found.items()}
        folder = self.folder / "gradient_flow"
        folder.mkdir(parents=True, exist_ok=True)
        line = {"step": step, "norm": norms, "update_ratio": ratios, "lags": {n: c.tolist() for n, c in curves.items()}}
        with (folder / "flow.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        picture = folder / f"step-{step:08d}.png"
        flow_figure(norms, ratios, curves, title=f"gradient flow at step {step}").savefig(picture)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
            if isinstance(logger, WandbLogger):
                logger.log_image(key="gradient_flow", images=[str(picture)])


def flow_figure(norms: dict[str, float], ratios: dict[str, float], curves: dict[str, Tensor], *, title: str) -> Figure:
    """Norms through time on the left; gradient and update of each layer on the right.

    Args:
        norms: of gradients, by layer.
        ratios: of updates to weights, by layer.
        curves: of :func:`~hybridgen.tracking.gradient_lags.lag_norms`, by cell.
        title: what it is of.
    """
    figure = Figure(figsize=(12, max(4.0, 0.3 * len(norms) + 1.2)), layout="constrained")
    through_time, layers, updates = figure.subplots(1, 3, width_ratios=[2, 1, 1])
    draw_lags(through_time, curves)
    names = list(norms)
    for axes, found, label in ((layers, norms, "norm of the gradient"), (updates, ratios, "update / weight")):
        values = [found.get(name, 0.0) for name in names]
        axes.barh(range(len(names)), values, color="#2b6cb0")
        axes.set_xlabel(label)
        axes.invert_yaxis()
        if any(value > 0 for value in values):
            axes.set_xscale("log")
    layers.set_yticks(range(len(names)), names, fontsize="small")
    updates.set_yticks([])
    figure.suptitle(title)
    return figure


class _CellCall:
    """One call of a cell on a sequence, or many on its elements, and the gradient that came back."""

    def __init__(self, inputs: list[Tensor], state: Any, lengths: Tensor | None, stepped: bool) -> None:
        self.inputs, self.state, self.lengths, self.stepped = inputs, state, lengths, stepped
        self.gradient: Tensor | None = None  # (B, T, H), or of the last step that the loss read (B, H)
        self.read = -1  # that step

    def arguments(self, rows: int) -> tuple[Tensor, Tensor, Any] | None:
        """Inputs, gradient and state for :func:`lag_norms`, or None where there is nothing through time."""
        if self.stepped:
            inputs, gradient = torch.stack(self.inputs[: self.read + 1], 1), self.gradient
            chosen = torch.arange(min(rows, len(inputs)), device=inputs.device)
        else:
            (inputs,), lengths = self.inputs, self.lengths
            longest = inputs.shape[1] if lengths is None else int(lengths.max())
            whole = torch.arange(len(inputs), device=inputs.device)
            chosen = (whole if lengths is None else whole[(lengths == longest).to(whole.device)])[:rows]
            reached = self.gradient[chosen, :longest].abs().sum((0, 2)).nonzero()  # steps that the loss read
            if not len(reached):
                return None
            last = int(reached[-1])
            inputs, gradient = inputs[:, : last + 1], self.gradient[:, last]
        if inputs.shape[1] < 2 or not bool(gradient[chosen].isfinite().all()):
            return None
        state = None if self.state is None else type(self.state)(*(part[chosen] for part in self.state))
        return inputs[chosen], gradient[chosen], state


def _see_sequence(calls: list[_CellCall], cell: Any, arguments: tuple, options: dict[str, Any], results: Any) -> None:
    """A forward hook."""
    outputs = results[0]
    if not outputs.requires_grad:
        return
    state = arguments[1] if len(arguments) > 1 else options.get("state")
    call = _CellCall([arguments[0].detach()], _detached(state), options.get("lengths"), stepped=False)
    _remember(calls, call)

    def keep(gradient: Tensor) -> None:
        call.gradient = gradient.detach()

    outputs.register_hook(keep)


def _see_step(calls: list[_CellCall], step: Any, input: Tensor, state: Any = None, **options: Any) -> Any:
    """In the place of a cell's ``step``."""
    output, after = step(input, state, **options)
    if not output.requires_grad:
        return output, after
    # A sequence goes on where its state is the one of the step before.
    goes_on = calls and calls[-1].stepped and state is not None and calls[-1].expected == tuple(map(id, state))
    if not goes_on:
        _remember(calls, _CellCall([], _detached(state), None, stepped=True))
    call, number = calls[-1], len(calls[-1].inputs)
    call.inputs.append(input.detach())
    call.expected, call.alive = tuple(map(id, after)), after

    def keep(gradient: Tensor) -> None:
        # The last step that the loss reads comes first, and nothing of later steps is in it.
        if number >= call.read:
            call.read, call.gradient = number, gradient.detach()

    output.register_hook(keep)
    return output, after


def _remember(calls: list[_CellCall], call: _CellCall) -> None:
    calls.append(call)
    del calls[:-_CALLS]


def _detached(state: Any) -> Any:
    return None if state is None else type(state)(*(part.detach() for part in state))


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _by_layer(values: dict[str, float]) -> dict[str, float]:
    """Norms of parameters to norms of the modules that they lie in."""
    squares: dict[str, float] = defaultdict(float)
    for name, value in values.items():
        squares[name.rpartition(".")[0] or name] += value**2
    return {name: square**0.5 for name, square in squares.items()}


def _update_ratios(model: nn.Module, before: dict[str, Tensor]) -> dict[str, float]:
    present = {name: p.detach() for name, p in model.named_parameters() if name in before}
    changes = _by_layer({name: float((p - before[name]).norm()) for name, p in present.items()})
    sizes = _by_layer({name: float(before[name].norm()) for name in present})
    return {name: change / sizes[name] for name, change in changes.items() if sizes[name] > 0}
