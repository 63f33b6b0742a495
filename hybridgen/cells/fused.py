"""The fused way: the framework's own kernels, where they are exact for the call.

A cell offers it by a method ``fused_weights() -> (mode, weights) | None``: the name of torch's function
(``"lstm"``, ``"gru"``, ``"rnn_tanh"``, ``"rnn_relu"``) and its flat weights, or None where the cell's options
leave torch's mathematics.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from hybridgen.cells.call import Call
from hybridgen.cells.mathematics import defines_mathematics
from hybridgen.cells.precision import autocasts, plain_operations_only, without_autocast
from hybridgen.cells.state import select_last, where

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell


def offered(cell: "Cell") -> bool:
    """Whether torch has a kernel of this cell's mathematics."""
    weights = getattr(cell, "fused_weights", None)
    return weights is not None and defines_mathematics(cell, "fused_weights") and weights() is not None


def step(cell: "Cell", input: Tensor, state: Any) -> Any:
    """One step by torch's own cell function, or None where it has none for this cell or this moment.

    A cell offers it by a method ``fused_step(input, state) -> State | None``. It spares a dozen calls from Python,
    which is what a single generated element costs.
    """
    by_torch = getattr(cell, "fused_step", None)
    if by_torch is None or plain_operations_only() or autocasts(input.device.type):
        return None
    return by_torch(input, state) if defines_mathematics(cell, "fused_step") else None


def has_onednn_kernel(cell: "Cell", inputs: Tensor) -> bool:
    """Whether the CPU kernel for ``inputs (B, T, I)`` is oneDNN's: the LSTM without projection, in float32."""
    mode, weights = cell.fused_weights()
    dtypes = {inputs.dtype, *(w.dtype for w in weights)}
    return mode == "lstm" and len(weights) == 4 and dtypes == {torch.float32} and torch.backends.mkldnn.enabled


def refusal(call: Call) -> str | None:
    """Why the kernel cannot serve a call, or None when it can."""
    if call.resets is not None:
        return "it knows no resets inside a sequence"
    if call.noise.read is not None or call.noise.update:
        return "it knows neither zoneout nor dropout on the state"
    if getattr(call.cell, "projection_size", 0) and call.inputs.device.type == "cpu":
        return "on a CPU torch runs the projected LSTM by a slow loop of its own"
    if call.return_states and len(call.state) > 1:
        return "it returns no cell states but the last"
    return None


def _computes_in_autocast_type() -> bool:
    """Whether oneDNN computes in the CPU's autocast type here: without AVX-512, in neither half precision."""
    dtype = torch.get_autocast_dtype("cpu")
    if dtype is torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype is not torch.float16 or torch.ops.mkldnn._is_mkldnn_fp16_supported()


def run(call: Call) -> tuple[Tensor, Any, Any]:
    """Walk a call; the contract of :func:`through_time.walk`'s ways."""
    cell = call.cell
    mode, weights = cell.fused_weights()
    on_cpu = call.inputs.device.type == "cpu"
    if on_cpu and mode == "lstm" and autocasts("cpu") and not _computes_in_autocast_type():
        # oneDNN's LSTM, which would raise: on such a processor it stays in the type of its weights.
        with without_autocast(call.inputs):
            return run(replace(call, inputs=call.inputs.to(weights[0].dtype)))
    function = getattr(torch, mode)
    hidden = tuple(s.unsqueeze(0).contiguous() for s in call.state)  # (1, B, H)
    initial = hidden if mode == "lstm" else hidden[0]
    # has_biases, num_layers, dropout, train, bidirectional
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)
    if call.lengths is not None and has_onednn_kernel(cell, call.inputs):
        return _frozen_past_the_end(call, weights, options)
    if call.lengths is None:
        outputs, *last = function(call.inputs, initial, weights, *options, True)
    else:
        # A packed sequence must not hold empty rows: they are run over one element and put back afterwards.
        counts = call.lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(call.inputs, counts, batch_first=True, enforce_sorted=False)
        order = packed.sorted_indices
        initial = tuple(h.index_select(1, order) for h in hidden)
        initial = initial if mode == "lstm" else initial[0]
        data, *last = function(packed.data, packed.batch_sizes, initial, weights, *options)
        packed = PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices)
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=call.inputs.shape[1])
        last = [h.index_select(1, packed.unsorted_indices) for h in last]
    # Under autocast the kernel's state is bfloat16; what is carried on stays in the type it came in.
    state = cell.State(*(h.squeeze(0).to(s.dtype) for h, s in zip(last, call.state, strict=True)))
    if call.lengths is not None:
        state = where(call.lengths == 0, call.state, state)
    return outputs, state, cell.State(outputs) if call.return_states else None


def _frozen_past_the_end(call: Call, weights: list[Tensor], options: tuple) -> tuple[Tensor, Any, Any]:
    """oneDNN's LSTM with lengths, which it does not know: past a row's end one more input shuts the input gate
    and opens the forget gate to exactly 0 and 1, so that c stays what it was; h is read off at the end."""
    weight_ih, *rest = weights
    hidden = call.cell.hidden_size
    shut = weight_ih.new_zeros(4 * hidden, 1)
    shut[:hidden], shut[hidden : 2 * hidden] = -_SATURATING, _SATURATING
    padding = (~call.valid).unsqueeze(-1).to(call.inputs.dtype)  # (B, T, 1)
    inputs, weights = torch.cat([call.inputs, padding], -1), [torch.cat([weight_ih, shut], 1), *rest]
    initial = tuple(s.unsqueeze(0).contiguous() for s in call.state)
    outputs, _, c = torch.lstm(inputs, initial, weights, *options, True)
    h = select_last(call.cell.State(outputs, outputs), call.lengths, call.state).h
    return outputs, call.cell.State(h.to(call.state.h.dtype), c.squeeze(0).to(call.state.c.dtype)), None


#: A gate's input at which its sigmoid is exactly 0 or 1 in float32, whatever the other inputs say.
_SATURATING = 1e6
