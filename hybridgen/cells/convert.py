"""Weights to and from ``torch.nn.RNN``, ``GRU`` and ``LSTM``."""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell
from hybridgen.cells.stack import Stack


def from_torch(module: nn.RNNBase) -> Stack:
    """A stack that computes what a torch module computes, its weights copied.

    torch keeps two bias vectors per layer that act as their sum; the stack keeps the sum. ``batch_first`` is not
    taken over: a stack is always ``(batch, time, features)``.

    Args:
        module: an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` (projection, layers, directions, dropout are all kept).

    Returns:
        The stack, on the device and in the type of the module.

    Raises:
        ValueError: if the module is none of these.
    """
    options: dict[str, Any] = {"bias": module.bias}
    if isinstance(module, nn.LSTM):
        name = "lstm"
        options["projection_size"] = module.proj_size
    elif isinstance(module, nn.GRU):
        name = "gru"
    elif isinstance(module, nn.RNN):
        name = "rnn"
        options["nonlinearity"] = module.nonlinearity
    else:
        raise ValueError(f"weights come from torch.nn.RNN, GRU or LSTM, not from {type(module).__name__}")
    stack = Stack(
        name,
        module.input_size,
        module.hidden_size,
        num_layers=module.num_layers,
        bidirectional=module.bidirectional,
        dropout=module.dropout,
        variational=False,
        cell_options=options,
    )
    parameter = next(module.parameters())
    stack.to(parameter.device, parameter.dtype)
    with torch.no_grad():
        for cell, suffix in zip(stack.cells, _suffixes(stack), strict=True):
            _read(cell, {kind: getattr(module, f"{kind}_{suffix}") for kind in _kinds(cell)})
            for name, parameter in cell.named_parameters():
                kind = "bias_ih" if name.startswith("bias") else name
                parameter.requires_grad_(getattr(module, f"{kind}_{suffix}").requires_grad)
    return stack.train(module.training)


def to_torch(stack: Stack | Cell) -> nn.RNNBase:
    """The ``torch.nn`` module (``batch_first=True``) that computes what a stack or a cell computes.

    Args:
        stack: of ``rnn``, ``gru`` (reset after) or ``lstm`` (gates not coupled), with nothing torch lacks:
            layers of one width, no residual, layer normalisation or learned initial state. Regularisation that
            acts in training only is left behind, except dropout between layers.

    Returns:
        The module, its weights copied.

    Raises:
        ValueError: if torch has no such module; the message says why.
    """
    cells = [stack] if isinstance(stack, Cell) else stack.cells
    first = cells[0]
    weights = getattr(first, "fused_weights", lambda: None)()
    reason = None
    if weights is None:
        reason = f"it has no cell like {type(first).__name__} with these options"
    elif len({cell.hidden_size for cell in cells}) > 1:
        reason = "its layers all have one width"
    elif isinstance(stack, Stack) and (stack.residual or stack.has_layer_norm):
        reason = "it knows no residual connections and no layer normalisation"
    elif isinstance(stack, Stack) and (stack.zoneout or stack.zoneout_cell):
        reason = "it knows no zoneout, which also acts outside training"
    elif any(cell.learned_state is not None for cell in cells):
        reason = "its initial state cannot be learned"
    if reason:
        raise ValueError(f"torch has no module for this: {reason}")
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(weights[0], nn.RNN)
    options: dict[str, Any] = {"bias": first.bias is not None, "batch_first": True}
    if kind is nn.RNN:
        options["nonlinearity"] = first.nonlinearity
    if kind is nn.LSTM:
        options["proj_size"] = first.projection_size
    if isinstance(stack, Stack):
        options |= {
            "num_layers": stack.num_layers,
            "bidirectional": stack.bidirectional,
            "dropout": stack.dropout if stack.num_layers > 1 else 0.0,
        }
    module = kind(stack.input_size, first.hidden_size, **options).to(first.weight_ih.device, first.weight_ih.dtype)
    with torch.no_grad():
        for cell, suffix in zip(cells, _suffixes(stack), strict=True):
            for name, value in zip(_kinds(cell), _write(cell), strict=True):
                getattr(module, f"{name}_{suffix}").copy_(value)
    return module.train(stack.training)


def _suffixes(stack: Stack | Cell) -> list[str]:
    if isinstance(stack, Cell):
        return ["l0"]
    directions = ("", "_reverse") if stack.bidirectional else ("",)
    return [f"l{k}{direction}" for k in range(stack.num_layers) for direction in directions]


def _kinds(cell: Cell) -> list[str]:
    kinds = ["weight_ih", "weight_hh"]
    if cell.bias is not None:
        kinds += ["bias_ih", "bias_hh"]
    if getattr(cell, "weight_hr", None) is not None:
        kinds.append("weight_hr")
    return kinds


def _read(cell: Cell, values: dict[str, Tensor]) -> None:
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        if name in values:
            getattr(cell, name).copy_(values[name])
    if cell.bias is None:
        return
    cell.bias.copy_(values["bias_ih"])
    if getattr(cell, "bias_hn", None) is None:
        cell.bias.add_(values["bias_hh"])
    else:
        # Of a GRU only the gates' biases act as a sum; the candidate's stands inside the reset gate's product.
        gates = 2 * cell.hidden_size
        cell.bias[:gates].add_(values["bias_hh"][:gates])
        cell.bias_hn.copy_(values["bias_hh"][gates:])


def _write(cell: Cell) -> list[Tensor]:
    _, (weight_ih, weight_hh, bias_ih, bias_hh, *rest) = cell.fused_weights()
    biases = [] if cell.bias is None else [bias_ih, bias_hh]
    return [weight_ih, weight_hh, *biases, *rest]
