"""``torch.compile`` for the cells of a model while it trains."""

import logging
from typing import Any

import pytorch_lightning as pl
import torch

from hybridgen.cells import Stack
from hybridgen.cells.base import Cell

log = logging.getLogger("hybridgen.training")


class CompileCells(pl.Callback):
    """Compiles the cells of a model, each by itself: whole sequences and single steps.

    ``--trainer.callbacks+ hybridgen.tracking.CompileCells``. A compiled cell walks through time by its loop, unrolled:
    compiling takes longer the longer sequences are, and again for each new length (torch gives up after eight and says
    so). It is for cells that have no kernel or hand-written gradient of their own, on sequences of one length and of a
    few dozen steps; the others are faster as they are.

    A critic whose gradient is penalised is differentiated twice, which compiled code cannot be: its cells are left as
    they are, and that is told.

    Args:
        backend: of ``torch.compile``: ``inductor`` needs a C++ compiler on a CPU, Triton on a GPU.

    Raises:
        ValueError: if there is no such backend; in training, if the model has no cell that could be compiled, or has
            weight drop, which gives a cell other weights in every call: compiled code would not see them.
    """

    def __init__(self, backend: str = "inductor") -> None:
        known = [*torch.compiler.list_backends(exclude_tags=()), "eager"]
        if backend not in known:
            raise ValueError(f"backend of CompileCells is {backend!r}: choose one of {', '.join(sorted(set(known)))}")
        self.backend = backend
        self._compiled: list[Cell] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile: the model is built, and has not run yet.

        Raises:
            ValueError: if the model cannot be compiled; see the class.
        """
        name = type(pl_module).__name__
        trained = {id(p) for p in pl_module.parameters() if p.requires_grad}
        cells = {
            path: module
            for path, module in pl_module.named_modules()
            if isinstance(module, Cell) and any(id(p) in trained for p in module.parameters())
        }
        if not cells:
            raise ValueError(f"CompileCells: {name} trains no cells: leave it out")
        for path, module in pl_module.named_modules():
            if isinstance(module, Stack) and module.weight_drop:
                raise ValueError(f"CompileCells cannot compile the cells of {path}, which has weight_drop: set it to 0")
        twice = {path for path in cells if _differentiated_twice(pl_module, path)}
        if len(twice) == len(cells):
            raise ValueError(f"CompileCells: the cells of {name} are differentiated twice: set penalty to none")
        if twice and trainer.is_global_zero:
            log.warning("%d cells of the critic are not compiled: its penalty differentiates them twice", len(twice))
        for path, cell in cells.items():
            if path not in twice:
                cell.compile(backend=self.backend)
                cell.step = torch.compile(cell.step, backend=self.backend)
                self._compiled.append(cell)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the model as it was, since compiled code cannot be copied."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for cell in self._compiled:
            cell._compiled_call_impl = None
            cell.__dict__.pop("step", None)
        self._compiled.clear()


def _differentiated_twice(model: Any, path: str) -> bool:
    return path.split(".")[0] == "critic" and model.hparams.get("penalty", "none") != "none"
