"""Layers of cells that are used as one cell.

Where the regularisation comes from: dropout with one mask for all steps, on inputs, outputs and the state (Gal &
Ghahramani 2016, arXiv:1512.05287); zoneout (Krueger et al. 2017, arXiv:1606.01305); weight drop, that is dropout
of the recurrent weights (Merity et al. 2018, arXiv:1708.02182).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.backwards import Backwards
from hybridgen.cells.base import Cell, checked_lengths
from hybridgen.cells.loop import with_weights
from hybridgen.cells.masks import Masks
from hybridgen.cells.noise import Noise, dropout_mask, zoneout_mask
from hybridgen.cells.registry import make
from hybridgen.cells.state import state_class


class Stack(nn.Module):
    """One or more layers of a cell, in one or both directions; used exactly like a cell.

    All rates are probabilities in [0, 1) and act in training only, except that zoneout takes its expectation
    otherwise.

    Args:
        cell: name of the cell, one of :func:`~hybridgen.cells.names`.
        input_size: width I of an input element.
        hidden_size: width of the layers: one number, or one per layer.
        num_layers: number of layers; taken from ``hidden_size`` where that is a list.
        bidirectional: run every layer forwards and backwards and join the outputs. There is no ``step`` then.
        residual: add a layer's input to its output; the first layer's only where the widths agree.
        layer_norm: layer normalisation of every layer's input and of the last one's output.
        input_dropout: dropout on the stack's input.
        dropout: dropout between layers.
        output_dropout: dropout on the stack's output.
        variational: one mask for all steps of a sequence in these three; false draws one per step, as
            ``torch.nn.LSTM`` does.
        state_dropout: dropout, with one mask for all steps, of the previous output where the recurrent weights
            read it.
        zoneout: probability that a unit of the hidden state (the output) stays as it was.
        zoneout_cell: the same for the cell state of an LSTM-like cell.
        weight_drop: dropout of the recurrent weights, one mask per sequence.
        learn_initial_state: train the state before the first element.
        initialisation: ``"orthogonal"``, ``"uniform"``, or the range of a uniform draw as a number; see
            :mod:`hybridgen.cells.initialise`.
        cell_options: options of the cell itself.

    Raises:
        ValueError: if an option's value does not fit, or does not fit the cell.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int | Sequence[int],
        *,
        num_layers: int | None = None,
        bidirectional: bool = False,
        residual: bool = False,
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        variational: bool = True,
        state_dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
        weight_drop: float = 0.0,
        learn_initial_state: bool = False,
        initialisation: str | float = "orthogonal",
        cell_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        widths = _widths(hidden_size, num_layers)
        self.cell_name = cell
        self.cell_options = dict(cell_options or {})
        self.input_size = input_size
        self.bidirectional = bidirectional
        self.residual = residual
        self.input_dropout, self.dropout, self.output_dropout = input_dropout, dropout, output_dropout
        self.variational = variational
        self.state_dropout = state_dropout
        self.zoneout, self.zoneout_cell = zoneout, zoneout_cell
        self.weight_drop = weight_drop
        for name in _RATES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a probability in [0, 1)")

        directions = 2 if bidirectional else 1
        cells, norms, width = [], [], input_size
        for hidden in widths:
            norms.append(nn.LayerNorm(width) if layer_norm else nn.Identity())
            layer = [make(cell, width, hidden, **self.cell_options) for _ in range(directions)]
            cells.append(nn.ModuleList(layer))
            output = layer[0].output_size * directions
            if residual and cells[1:] and output != width:
                raise ValueError(
                    f"residual needs layers of equal width, but layer {len(cells)} turns {width} into {output}"
                )
            width = output
        self.layers = nn.ModuleList(cells)
        self.norms = nn.ModuleList(norms)
        self.output_norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.has_layer_norm = layer_norm
        self.output_size = width
        self.hidden_size = widths[-1]
        self.num_layers = len(widths)
        _check_fit(self.cells[0], cell, self)
        for each in self.cells:
            each.reset_parameters(initialisation)
            if learn_initial_state:
                each.learn_initial_state()

    @functools.cached_property
    def State(self) -> type[tuple]:
        """The NamedTuple class of this stack's state."""
        return state_class(tuple(self.state_widths()))

    def __getstate__(self) -> dict[str, Any]:
        # The class of the state is made at run time: pickle could not find it, and it is made again when asked for.
        return {name: value for name, value in self.__dict__.items() if name != "State"}

    @property
    def cells(self) -> list[Cell]:
        """All cells: layer by layer, the forward one of each first."""
        return [cell for layer in self.layers for cell in layer]

    def state_widths(self) -> dict[str, int]:
        """Width of each component of the state, named ``layer0_h``, ``layer0_backward_h``, ``layer1_h``..."""
        return {
            f"{prefix}_{name}": width
            for prefix, cell in zip(self._prefixes(), self.cells, strict=True)
            for name, width in cell.state_widths().items()
        }

    def initial_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Any:
        """The state before the first element; see :meth:`Cell.initial_state`."""
        parts = [cell.initial_state(batch_size, device=device, dtype=dtype) for cell in self.cells]
        return self._join(parts)

    def draw_masks(self, batch_size: int, time: int) -> Masks:
        """Draw what is random in a call on ``batch_size`` sequences of ``time`` elements."""
        like = next(self.parameters())

        def drop(rate: float, width: int) -> Tensor | None:
            if not self.training or rate == 0:
                return None
            return dropout_mask((batch_size, 1 if self.variational else time, width), rate, like)

        inputs, width = [], self.input_size
        for k, layer in enumerate(self.layers):
            inputs.append(drop(self.dropout if k else self.input_dropout, width))
            width = layer[0].output_size * len(layer)
        noises = tuple(self._noise(cell, batch_size, time, like) for cell in self.cells)
        weights: tuple[dict[str, Tensor], ...] = tuple({} for _ in self.cells)
        if self.training and self.weight_drop:
            shapes = [
                {name: tuple(getattr(cell, name).shape) for name in cell.recurrent_weights} for cell in self.cells
            ]
            weights = tuple(
                {name: dropout_mask(shape, self.weight_drop, like) for name, shape in each.items()} for each in shapes
            )
        return Masks(tuple(inputs), drop(self.output_dropout, width), noises, weights)

    def step(self, input: Tensor, state: Any = None, *, masks: Masks | None = None) -> tuple[Tensor, Any]:
        """Advance by one element; see :meth:`Cell.step`.

        Args:
            input: ``(B, I)``.
            state: the previous state; the initial state when omitted.
            masks: what is random in this step, from :meth:`draw_masks` and :meth:`Masks.at`.

        Raises:
            ValueError: if a shape does not fit, or the stack is bidirectional.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional stack reads the future of a sequence: it has no step")
        masks = masks or self.draw_masks(input.shape[0], 1).at(0)
        if any(mask is not None and mask.dim() != 2 for mask in (*masks.inputs, masks.output)) or any(
            isinstance(m, Tensor) and m.dim() != 2 for noise in masks.noises for m in (noise.update or {}).values()
        ):
            raise ValueError("these masks are of a whole sequence: give those of one step, masks.at(t)")
        previous = self._split(state, input.shape[0])

        def run(k: int, x: Tensor) -> tuple[Tensor, Any]:
            cell, noise = self.cells[k], masks.noises[k]
            return _dropped(cell, masks.weights[k]).step(x, previous[k], noise=noise)

        output, states = self._through_layers(input, masks, run)
        return output, self._join(states)

    def forward(
        self,
        inputs: Tensor,
        state: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        masks: Masks | None = None,
        return_states: bool = False,
        way: str | None = None,
    ) -> tuple[Tensor, Any] | tuple[Tensor, Any, Any]:
        """Run a whole sequence; arguments and results are those of :meth:`Cell.forward`.

        Args:
            inputs: ``(B, T, I)``.
            state: state before the first element. For the backward direction: before the last.
            lengths: ``(B,)`` whole numbers in 0..T.
            resets: ``(B, T)`` bool; backwards, the same boundary between elements separates.
            masks: what is random in this call, from :meth:`draw_masks`.
            return_states: also return all states, ``(B, T, width)``.
            way: how the cells walk through time; the fastest that fits by default.

        Raises:
            ValueError: if an argument has another shape, ``lengths`` do not fit, or a cell cannot be walked by ``way``.
        """
        if inputs.dim() != 3:
            raise ValueError(f"inputs must have shape (batch, time, {self.input_size}) but have {tuple(inputs.shape)}")
        batch_size, time = inputs.shape[:2]
        masks = masks or self.draw_masks(batch_size, time)
        previous = self._split(state, batch_size)
        lengths = checked_lengths(lengths, batch_size, time, inputs.device)
        padding = None
        if lengths is not None and (self.residual or self.has_layer_norm):
            # Only here does padding pass anything but a cell, which looks after itself.
            padding = (torch.arange(time, device=inputs.device) >= lengths[:, None]).unsqueeze(-1)  # (B, T, 1)
            inputs = inputs.masked_fill(padding, 0.0)
        backwards = Backwards(lengths, resets, batch_size, time, inputs.device) if self.bidirectional else None
        all_states: list[Any] = [None] * len(self.cells)

        def run(k: int, x: Tensor) -> tuple[Tensor, Any]:
            reverse = self.bidirectional and k % 2 == 1
            options = {
                "lengths": lengths,
                "resets": backwards.resets if reverse else resets,
                "noise": masks.noises[k],
                "return_states": return_states,
                "way": way,
            }
            cell, arguments = self.cells[k], (backwards.flip(x) if reverse else x, previous[k])
            results = _dropped(cell, masks.weights[k])(*arguments, **options)
            output, last, *states = results
            if reverse:
                output = backwards.flip(output)
                states = [type(s)(*map(backwards.flip, s)) for s in states]
            all_states[k] = states[0] if states else None
            return output, last

        outputs, states = self._through_layers(inputs, masks, run)
        if padding is not None:
            outputs = outputs.masked_fill(padding, 0.0)
        last = self._join(states)
        return (outputs, last, self._join(all_states)) if return_states else (outputs, last)

    def extra_repr(self) -> str:
        """The options that are not visible in the layers, as ``print(module)`` shows them."""
        shown = [f"{name}={getattr(self, name)}" for name in _RATES if getattr(self, name)]
        return ", ".join([*(["residual"] if self.residual else []), *shown])

    def _through_layers(
        self, x: Tensor, masks: Masks, run: Callable[[int, Tensor], tuple[Tensor, Any]]
    ) -> tuple[Tensor, list[Any]]:
        """The way through the layers, the same for a step and a sequence: ``run(k, x)`` runs cell k."""
        states, k = [], 0
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            before = x
            x = norm(x)
            if masks.inputs[number] is not None:
                x = x * masks.inputs[number]
            outputs = []
            for _ in layer:
                output, state = run(k, x)
                outputs.append(output)
                states.append(state)
                k += 1
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.residual and before.shape[-1] == x.shape[-1]:
                x = x + before
        x = self.output_norm(x)
        return (x if masks.output is None else x * masks.output), states

    def _noise(self, cell: Cell, batch_size: int, time: int, like: Tensor) -> Noise:
        read = None
        if self.training and self.state_dropout:
            read = dropout_mask((batch_size, cell.output_size), self.state_dropout, like)
        update = {}
        for name, rate in ((cell.hidden_component, self.zoneout), (cell.memory_component, self.zoneout_cell)):
            if rate:
                shape = (batch_size, time, cell.state_widths()[name])
                update[name] = zoneout_mask(shape, rate, self.training, like)
        return Noise(read, update or None)

    def _prefixes(self) -> list[str]:
        directions = ("", "_backward") if self.bidirectional else ("",)
        return [f"layer{k}{direction}" for k in range(len(self.layers)) for direction in directions]

    def _join(self, parts: list[Any]) -> Any:
        return self.State(*(component for part in parts for component in part))

    def _split(self, state: Any, batch_size: int) -> list[Any]:
        """The state cell by cell; None (which each cell makes its own initial state of) when there is none."""
        if state is None:
            return [None] * len(self.cells)
        if not isinstance(state, tuple) or len(state) != len(self.State._fields):
            raise ValueError(
                f"the state of this stack has the components {self.State._fields} but got "
                f"{type(state).__name__}; make one with initial_state(batch_size)"
            )
        rest = iter(state)
        return [cell.State(*(next(rest) for _ in cell.State._fields)) for cell in self.cells]


_RATES = (
    "input_dropout",
    "dropout",
    "output_dropout",
    "state_dropout",
    "zoneout",
    "zoneout_cell",
    "weight_drop",
)


def _dropped(cell: Cell, masks: dict[str, Tensor]) -> Cell:
    """The cell with its recurrent weights after weight drop; the parameters stay what they are."""
    if not masks:
        return cell
    return with_weights(cell, {name: getattr(cell, name) * mask for name, mask in masks.items()})


def _widths(hidden_size: int | Sequence[int], num_layers: int | None) -> list[int]:
    if not isinstance(hidden_size, Sequence):
        if num_layers is not None and num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}: a stack has at least one layer")
        return [hidden_size] * (1 if num_layers is None else num_layers)
    widths = list(hidden_size)
    if not widths:
        raise ValueError("hidden_size is an empty list: give one width per layer")
    if num_layers is not None and num_layers != len(widths):
        raise ValueError(f"hidden_size lists {len(widths)} layers but num_layers is {num_layers}: give one of them")
    return widths


def _check_fit(cell: Cell, name: str, stack: Stack) -> None:
    """Refuse regularisation that the cell has no place for."""
    lacks = {
        "weight_drop": None if cell.recurrent_weights else "recurrent weights",
        "state_dropout": None if cell.recurrent_weights else "recurrent weights that read its state",
        "zoneout": None if cell.hidden_component else "hidden state that is its output",
        "zoneout_cell": None if cell.memory_component else "cell state that stands by itself",
    }
    for option, missing in lacks.items():
        if getattr(stack, option) and missing:
            raise ValueError(f"{option} does not fit the cell {name!r}, which has no {missing}: leave it at 0")
