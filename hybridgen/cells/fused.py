"""The fused way: the framework's own kernels, where they are exact for the call.

A cell offers it by a method ``fused_weights() -> (mode, weights) | None``: the name of torch's function
(``"lstm"``, ``"gru"``, ``"rnn_tanh"``, ``"rnn_relu"``) and its flat weights, or None where the cell's options
leave torch's mathematics.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.cells.call import Call
from hybridgen.cells.mathematics import defines_mathematics
from hybridgen.cells.precision import autocasts, plain_operations_only, without_autocast
from hybridgen.cells.state import select_last

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell

# cuDNN wants all weights in one piece and copies them together in each call: microseconds, and nothing a user can mend.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")


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


def _computes_in_autocast_type(inputs: Tensor, mode: str) -> bool:
    """Whether the kernel can be left to autocast.

    oneDNN's LSTM raises in a half precision that the processor has not (without AVX-512, both). On a GPU autocast takes
    float16 whatever type was asked for (``aten/src/ATen/cudnn/AutocastRNN.cpp``), which overflows where bfloat16 would
    not; in float32 cuDNN uses the matrix units too (TF32).
    """
    if inputs.is_cuda:
        return False
    if mode != "lstm":
        return True
    dtype = torch.get_autocast_dtype("cpu")
    if dtype is torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype is not torch.float16 or torch.ops.mkldnn._is_mkldnn_fp16_supported()


def run(call: Call) -> tuple[Tensor, Any, Any]:
    """Walk a call; the contract of :func:`through_time.walk`'s ways."""
    cell = call.cell
    mode, weights = cell.fused_weights()
    if autocasts(call.inputs.device.type) and not _computes_in_autocast_type(call.inputs, mode):
        # It stays in the type of its weights.
        with without_autocast(call.inputs):
            return run(replace(call, inputs=call.inputs.to(weights[0].dtype)))
    inputs, hidden = call.inputs, tuple(s.unsqueeze(0).contiguous() for s in call.state)  # (1, B, H)
    if call.lengths is not None and mode == "lstm":
        inputs, weights = _held_past_the_end(call, weights)
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    options = (True, 1, 0.0, torch.is_grad_enabled(), False, True)
    outputs, *last = getattr(torch, mode)(inputs, hidden if mode == "lstm" else hidden[0], weights, *options)
    last = [h.squeeze(0) for h in last]
    if call.lengths is not None:
        # The kernel goes on over what is past a row's end; what it makes of that is not used. (The packed sequences
        # that torch offers instead make the processor wait for a GPU, for their lengths.)
        last[0] = select_last(_Outputs(outputs), call.lengths, _Outputs(call.state.h)).h
    # Under autocast the kernel's state is bfloat16; what is carried on stays in the type it came in.
    state = cell.State(*(h.to(s.dtype) for h, s in zip(last, call.state, strict=True)))
    return outputs, state, cell.State(outputs) if call.return_states else None


def _held_past_the_end(call: Call, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Inputs and weights of an LSTM whose c, which no output shows, stays as it is past a row's end.

    Further inputs, 1 there and 0 before, shut the input gate and open the forget gate to exactly 0 and 1.
    """
    weight_ih, *rest = weights
    hidden = call.cell.hidden_size
    # A GPU's matrix units want widths of whole eights.
    more = 8 - call.inputs.shape[-1] % 8 if call.inputs.is_cuda else 1
    shut = weight_ih.new_zeros(4 * hidden, more)
    saturating = _saturating(call.inputs)
    shut[:hidden, 0], shut[hidden : 2 * hidden, 0] = -saturating, saturating
    padding = (~call.valid).unsqueeze(-1).to(call.inputs.dtype).expand(-1, -1, more)  # (B, T, more)
    return torch.cat([call.inputs, padding], -1), [torch.cat([weight_ih, shut], 1), *rest]


class _Outputs(NamedTuple):
    """What is read off the outputs, ``(B, T, output_size)`` or ``(B, output_size)``."""

    h: Tensor


def _saturating(inputs: Tensor) -> float:
    """A gate's input at which its sigmoid is exactly 0 or 1, whatever the other inputs say."""
    half = autocasts(inputs.device.type) and torch.get_autocast_dtype(inputs.device.type) is torch.float16
    return 3e4 if half or inputs.dtype is torch.float16 else 1e6  # what float16 can still hold
