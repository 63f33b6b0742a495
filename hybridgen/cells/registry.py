"""The cells by name."""

import inspect
from typing import Any

from hybridgen.cells.base import Cell
from hybridgen.cells.gru import GRU
from hybridgen.cells.indrnn import IndRNN
from hybridgen.cells.layernorm_gru import LayerNormGRU
from hybridgen.cells.layernorm_lstm import LayerNormLSTM
from hybridgen.cells.lstm import LSTM
from hybridgen.cells.mgu import MGU
from hybridgen.cells.mingru import MinGRU
from hybridgen.cells.minlstm import MinLSTM
from hybridgen.cells.mlstm import MLSTM
from hybridgen.cells.mogrifier_lstm import MogrifierLSTM
from hybridgen.cells.peephole_lstm import PeepholeLSTM
from hybridgen.cells.qrnn import QRNN
from hybridgen.cells.rglru import RGLRU
from hybridgen.cells.rnn import RNN
from hybridgen.cells.slstm import SLSTM
from hybridgen.cells.sru import SRU
from hybridgen.closest import did_you_mean

_CELLS: dict[str, type[Cell]] = {
    "rnn": RNN,
    "indrnn": IndRNN,
    "gru": GRU,
    "mgu": MGU,
    "lstm": LSTM,
    "peephole_lstm": PeepholeLSTM,
    "layernorm_lstm": LayerNormLSTM,
    "layernorm_gru": LayerNormGRU,
    "mogrifier_lstm": MogrifierLSTM,
    "slstm": SLSTM,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "sru": SRU,
    "qrnn": QRNN,
    "rglru": RGLRU,
    "mlstm": MLSTM,
}

_OWN = frozenset(_CELLS)


def names() -> tuple[str, ...]:
    """The names :func:`make` knows, gated cells first, then those that are linear in time."""
    return tuple(_CELLS)


def cell_class(name: str) -> type[Cell]:
    """The class behind a name.

    Raises:
        ValueError: if there is no such cell; the message names the closest one.
    """
    if name not in _CELLS:
        hint = did_you_mean(name, _CELLS, f"choose one of {', '.join(_CELLS)}")
        raise ValueError(f"there is no cell named {name!r}: {hint}")
    return _CELLS[name]


def make(name: str, input_size: int, hidden_size: int, **options: Any) -> Cell:
    """Build a cell by name.

    Args:
        name: one of :func:`names`.
        input_size: width I of an input element.
        hidden_size: width H of the state.
        **options: the cell's own options, keyword arguments of its class.

    Returns:
        The cell, its weights drawn.

    Raises:
        ValueError: if the name, an option's name or its value does not fit.
    """
    cls = cell_class(name)
    known = options_of(cls)
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known, f"it has {', '.join(known) or 'none'}")
            raise ValueError(f"cell {name!r} has no option {option!r}: {hint}")
    return cls(input_size, hidden_size, **options)


def options_of(cls: type[Cell]) -> dict[str, Any]:
    """The options of a cell's class and their defaults."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def register(name: str, cls: type[Cell]) -> None:
    """Add a cell of your own, so that :func:`make`, :class:`Stack` and every configuration know its name.

    A name of your own may be given again (a notebook cell that is run twice); those of the toolkit may not.

    Raises:
        ValueError: if the name is one of the toolkit's or the class is no :class:`Cell`.
    """
    if name in _OWN:
        raise ValueError(f"there is already a cell named {name!r}")
    if not (isinstance(cls, type) and issubclass(cls, Cell)):
        raise ValueError(f"{cls!r} is not a subclass of hybridgen.cells.Cell")
    _CELLS[name] = cls
