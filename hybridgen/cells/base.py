"""The cell contract: what every recurrent cell of the toolkit is, and what its author writes.

Public layout is ``(batch, time, features)``, written ``(B, T, F)``. A state is a NamedTuple of ``(B, width)``
tensors. A cell can be used in three ways that agree to rounding::

    state = cell.initial_state(batch_size)
    output, state = cell.step(input, state)             # (B, I) -> (B, H): one element, for generation
    outputs, state = cell(inputs, state)                # (B, T, I) -> (B, T, H): a whole sequence
    outputs, state = cell(inputs, state, lengths=lengths, resets=resets)

The author of a cell writes its parameters and its mathematics: :meth:`Cell.project` (whatever needs no state, for
all time steps at once) and :meth:`Cell.advance` (one step), or, for a recurrence that is linear in its state,
:meth:`Cell.coefficients` instead of ``advance``. How time is walked is decided in
:mod:`hybridgen.cells.through_time` alone.
"""

import functools
import operator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hybridgen.cells import through_time
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.noise import Noise
from hybridgen.cells.precision import autocasts


class Hidden(NamedTuple):
    """State of a cell that carries its output and nothing else."""

    h: Tensor  # (B, H)


class HiddenAndCell(NamedTuple):
    """State of an LSTM-like cell."""

    h: Tensor  # (B, H), the output
    c: Tensor  # (B, H), the memory behind the output gate


class Cell(nn.Module):
    """A recurrent cell. See the module's text for how it is used and how one is written.

    Attributes:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        output_size: width of an output element (H unless the cell says otherwise).
        State: the NamedTuple class of this cell's state.
        recurrent_weights: names of the parameters that multiply the previous output (what weight drop drops).
            Empty for cells whose recurrence has no weight matrix.
        hidden_component, memory_component: names of the state's component that is the output, and of the one
            behind it (None where the cell has none); zoneout on hidden and cell state acts on these.
        linear_in_time: the recurrence is ``s[t] = a[t] * s[t-1] + b[t]`` with a and b from the inputs alone.
        variants: sets of options that change the mathematics; the test suite runs every cell with each of them
            (at input_size 5 and hidden_size 6).
        learnable_components: components of the initial state that can be learned; all of them by default.
        starts_at: what components of the initial state hold, where that is not zero.
        reads_previous_inputs: the state also holds earlier inputs, which ``project_step`` reads.
    """

    State: ClassVar[type[tuple]] = Hidden
    recurrent_weights: ClassVar[tuple[str, ...]] = ()
    hidden_component: ClassVar[str | None] = "h"
    memory_component: ClassVar[str | None] = None
    linear_in_time: ClassVar[bool] = False
    reads_previous_inputs: ClassVar[bool] = False
    learnable_components: ClassVar[tuple[str, ...] | None] = None
    variants: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    starts_at: ClassVar[dict[str, float]] = {}

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = checked_size("input_size", input_size)
        self.hidden_size = checked_size("hidden_size", hidden_size)
        self.output_size = self.hidden_size
        self.learned_state: nn.ParameterDict | None = None

    # What an author writes -----------------------------------------------------------------------------------

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; see :func:`~hybridgen.cells.initialise.initialise_`, which is the default."""
        initialise_(self, scheme)

    def state_widths(self) -> dict[str, int]:
        """Width of each component of the state; all ``hidden_size`` unless overridden."""
        return dict.fromkeys(self.State._fields, self.hidden_size)

    def project(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Everything that depends on the inputs alone, for all steps at once.

        Args:
            inputs: ``(..., I)``: a sequence ``(B, T, I)`` or one element ``(B, I)``.

        Returns:
            One tensor or a tuple of tensors with the same leading dimensions.
        """
        raise NotImplementedError(f"{type(self).__name__} must define project()")

    def project_step(self, input: Tensor, state: Any) -> Any:
        """:meth:`project` of one element ``(B, I)``, for cells that also read previous inputs."""
        return self.project(input)

    def project_sequence(self, inputs: Tensor, state: Any, resets: Tensor | None) -> Any:
        """:meth:`project` of a sequence ``(B, T, I)``, for cells that also read previous inputs."""
        return self.project(inputs)

    def states_of_sequence(self, projected: Any, values: Tensor) -> Any:
        """All states ``(B, T, width)`` from the values of the linear recurrence (``linear_in_time`` cells)."""
        return self.State(values)

    def advance(self, projected: Any, state: Any, read: Tensor) -> Any:
        """One step of the recurrence.

        Args:
            projected: one element of what :meth:`project` returned, ``(B, P)`` (or a tuple of such).
            state: the previous state.
            read: ``(B, H)``, the previous output as the recurrent weights are to read it (``state.h``, or its
                dropped-out version). Ignored by cells without recurrent weights.

        Returns:
            The new state. The default serves cells that are ``linear_in_time``.
        """
        gain, addition = self.coefficients(projected)
        return self.State(gain * state[0] + addition)

    def coefficients(self, projected: Any) -> tuple[Tensor, Tensor]:
        """``a`` and ``b`` of ``s[t] = a[t] * s[t-1] + b[t]``, ``(..., H)`` each (``linear_in_time`` cells)."""
        raise NotImplementedError(f"{type(self).__name__} must define advance() or coefficients()")

    def emit(self, projected: Any, state: Any) -> Tensor:
        """The output ``(..., H)`` that belongs to a state; the component ``h`` unless overridden."""
        return state.h

    # The contract --------------------------------------------------------------------------------------------

    def initial_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Any:
        """The state before the first element: zeros, or what :meth:`learn_initial_state` trains.

        Args:
            batch_size: number of rows B.
            device: where to put it; where the parameters are by default.
            dtype: its type; that of the parameters by default.

        Returns:
            A ``State`` of ``(B, width)`` tensors.
        """
        parameter = next(self.parameters(), torch.empty(0))
        device = parameter.device if device is None else torch.device(device)
        dtype = parameter.dtype if dtype is None else dtype
        widths = self.state_widths()
        options = {"device": device, "dtype": dtype}
        starts = {n: torch.full((batch_size, w), self.starts_at.get(n, 0.0), **options) for n, w in widths.items()}
        if self.learned_state is not None:
            learned = self.learned_state.items()
            starts |= {n: value.repeat(batch_size, 1).to(device, dtype) for n, value in learned}
        return self.State(**starts)

    def learn_initial_state(self) -> None:
        """Make the initial state a parameter (it starts at the cell's ordinary initial state)."""
        start = self.initial_state(1)
        names = self.learnable_components or self.State._fields
        self.learned_state = nn.ParameterDict({n: nn.Parameter(getattr(start, n).clone()) for n in names})

    def step(self, input: Tensor, state: Any = None, *, noise: Noise | None = None) -> tuple[Tensor, Any]:
        """Advance by one element.

        Args:
            input: ``(B, I)``.
            state: the previous state; the initial state when omitted.
            noise: regularisation of this step (a :class:`~hybridgen.cells.Stack` makes it).

        Returns:
            The output ``(B, output_size)`` and the new state.

        Raises:
            ValueError: if the input's or the state's shape does not fit.
        """
        if input.dim() != 2 or input.shape[1] != self.input_size:
            raise ValueError(
                f"step takes one element of shape (batch, {self.input_size}) but got {tuple(input.shape)}; "
                "a whole sequence (batch, time, features) goes to the cell itself"
            )
        state = self._checked_state(state, input)
        return through_time.one_step(self, input, state, noise or Noise())

    def forward(
        self,
        inputs: Tensor,
        state: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        noise: Noise | None = None,
        return_states: bool = False,
        way: str | None = None,
    ) -> tuple[Tensor, Any] | tuple[Tensor, Any, Any]:
        """Run a whole sequence by the fastest exact way; equal to calling :meth:`step` T times.

        Args:
            inputs: ``(B, T, I)``; T may be 0.
            state: state before the first element; the initial state when omitted.
            lengths: ``(B,)`` whole numbers in 0..T: elements past a row's length are not read (they may be
                NaN), its outputs there are zero and its state stays as it was at its end.
            resets: ``(B, T)`` bool: true starts from the initial state BEFORE that element.
            noise: regularisation of this call (a :class:`~hybridgen.cells.Stack` makes it).
            return_states: also return the states after every element, a State of ``(B, T, width)``.
            way: how to walk through time, one of :func:`through_time.ways`; the fastest that fits by default.

        Returns:
            The outputs ``(B, T, output_size)``, the last state and, on request, all states.

        Raises:
            ValueError: if a shape or type does not fit, or the way asked for does not serve this call.
        """
        if inputs.dim() != 3 or inputs.shape[2] != self.input_size:
            raise ValueError(f"inputs must have shape (batch, time, {self.input_size}) but have {tuple(inputs.shape)}")
        batch_size, time = inputs.shape[:2]
        state = self._checked_state(state, inputs)
        lengths = checked_lengths(lengths, batch_size, time, inputs.device)
        if resets is not None and not isinstance(resets, Tensor):
            raise ValueError(f"resets must be a bool tensor but are a {type(resets).__name__}")
        if resets is not None and (resets.shape != (batch_size, time) or resets.dtype is not torch.bool):
            raise ValueError(
                f"resets must be bool of shape ({batch_size}, {time}) but are {resets.dtype} of {tuple(resets.shape)}"
            )
        call = through_time.Call(self, inputs, state, lengths, resets, noise or Noise(), return_states)
        return through_time.walk(call, way)

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        return f"{self.input_size}, {self.hidden_size}"

    @functools.cached_property
    def _widths(self) -> tuple[int, ...]:
        return tuple(self.state_widths().values())

    def _checked_state(self, state: Any, inputs: Tensor) -> Any:
        rows = inputs.shape[0]
        if state is not None and type(state) is self.State and state[0].dtype is inputs.dtype:
            shapes = zip(state, self._widths, strict=True)
            if all(s.shape == (rows, width) for s, width in shapes):
                return state
        dtype = next((p.dtype for p in self.parameters()), inputs.dtype)
        mixed = autocasts(inputs.device.type)  # then inputs may be of a lower precision, the state stays
        if inputs.dtype is not dtype and not (mixed and inputs.is_floating_point()):
            raise ValueError(f"inputs are {inputs.dtype} but this cell is {dtype}: convert one of them")
        if state is None:
            return self.initial_state(rows, device=inputs.device)
        if not isinstance(state, tuple) or len(state) != len(self.State._fields):
            raise ValueError(
                f"the state of {type(self).__name__} is {self.State.__name__}{self.State._fields} "
                f"but got {type(state).__name__}; make one with initial_state(batch_size)"
            )
        for name, component, width in zip(self.State._fields, state, self._widths, strict=True):
            shape = tuple(component.shape)
            if shape != (rows, width):
                raise ValueError(f"state component {name!r} must have shape ({rows}, {width}) but has {shape}")
            if component.dtype is not dtype and not mixed:
                raise ValueError(f"state component {name!r} is {component.dtype} but this cell is {dtype}")
        return self.State(*(component.to(dtype) for component in state))


def checked_size(name: str, size: Any) -> int:
    """A width as an int.

    Raises:
        ValueError: if it is no whole number of at least 1.
    """
    try:
        value = 0 if isinstance(size, bool) else operator.index(size)
    except TypeError:
        value = 0
    if value < 1:
        raise ValueError(f"{name} is {size!r}: give a whole number of at least 1")
    return value


def checked_lengths(lengths: Tensor | None, batch_size: int, time: int, device: torch.device) -> Tensor | None:
    """``lengths (B,)`` as int64 on ``device``, or None.

    Raises:
        ValueError: if they are no whole numbers of shape ``(batch_size,)`` in 0..``time``.
    """
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor):
        raise ValueError(f"lengths must be a tensor of shape ({batch_size},) but are a {type(lengths).__name__}")
    if lengths.shape != (batch_size,) or lengths.is_floating_point() or lengths.dtype is torch.bool:
        raise ValueError(
            f"lengths must be whole numbers of shape ({batch_size},) but are {lengths.dtype} of {tuple(lengths.shape)}"
        )
    if not torch.compiler.is_compiling() and batch_size and not 0 <= int(lengths.min()) <= int(lengths.max()) <= time:
        raise ValueError(
            f"lengths must lie in 0..{time}, the time dimension, but span {int(lengths.min())}..{int(lengths.max())}"
        )
    return lengths.to(device, torch.int64)
