"""One step of a language model with int8 products on a CPU, for generation from few rows.

A step at batch 1 reads every weight once and does little else, so a quarter of the bytes is where the speed comes from.
The product is FBGEMM's (Khudia et al. 2021, arXiv:2101.05615), as torch carries it: int8 weights with a scale for each
row; the numbers they meet are rounded to 7 bits with one scale for each call, found on the way. Seven, since eight
overflow the 16-bit sums of processors without VNNI, which was measured to cost a fifth of the signal.

Any cell and any head becomes such a step: it is traced, what depends on weights alone is worked out once (also what
the first layer makes of every token, where they are few), and every ``linear`` with a constant matrix takes the int8
product.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from hybridgen.cells.stepping import LARGEST_TABLE
from hybridgen.export.graphs import trace_step
from hybridgen.export.int8 import dequantise, is_matrix, quantise
from hybridgen.export.networks import TokenNetwork

#: The engine of torch that multiplies.
ENGINE = "fbgemm"
_ATEN = torch.ops.aten
_LINEAR, _EMBEDDING = _ATEN.linear.default, _ATEN.embedding.default
#: The same by functions that Python calls faster: at batch 1 the calls are what a small step consists of.
_FASTER = {
    _ATEN.add.Tensor: torch.add,
    _ATEN.addcmul.default: torch.addcmul,
    _ATEN.chunk.default: torch.chunk,
    _ATEN.lerp.Tensor: torch.lerp,
    _ATEN.log_softmax.int: torch.log_softmax,
    _ATEN.mul.Tensor: torch.mul,
    _ATEN.sigmoid.default: torch.sigmoid,
    _ATEN.sub.Tensor: torch.sub,
    _ATEN.tanh.default: torch.tanh,
}


class Int8Linear(nn.Module):
    """``rows (N, I) @ weight (O, I).T + bias (O)`` by FBGEMM, the weight as :func:`.int8.quantise` has it.

    Raises:
        ValueError: if this build of torch has no FBGEMM.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        check_available()
        values, scale = quantise(weight)
        self.shape = tuple(weight.shape)
        zeros = torch.zeros(len(values), dtype=torch.int64)
        quantised = torch._make_per_channel_quantized_tensor(values.contiguous(), scale.double(), zeros, 0)
        before = torch.backends.quantized.engine
        try:
            # The packed weight remembers the engine; the switch is the process's own and is put back.
            torch.backends.quantized.engine = ENGINE
            self.packed = torch.ops.quantized.linear_prepack(quantised, None if bias is None else bias.detach().float())
        finally:
            torch.backends.quantized.engine = before

    def forward(self, rows: Tensor) -> Tensor:
        """``(N, O)`` float32."""
        return torch.ops.quantized.linear_dynamic(rows, self.packed, True)  # True: 7 bits

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.shape[1]}, {self.shape[0]}"


def check_available() -> None:
    """Pass where torch has FBGEMM, which is for x86 processors with AVX2.

    Raises:
        ValueError: where it has not.
    """
    engines = torch.backends.quantized.supported_engines
    if ENGINE not in engines or not hasattr(torch.ops.quantized, "linear_dynamic"):
        raise ValueError(
            "int8 steps need FBGEMM, which torch has on x86 processors and not here: call network.step instead, which "
            "computes with the same weights in float32"
        )


def int8_steps(network: TokenNetwork) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """:meth:`TokenNetwork.step` with int8 products, on a CPU.

    It has no gradient and does not see later changes of the weights. Preparing it takes a second or two.

    Args:
        network: from :func:`hybridgen.export.load_network` (of an int8 export: its very numbers are used again) or
            :func:`hybridgen.export.plain_network`.

    Returns:
        ``(token (B,), state) -> (log-probabilities (B, V), state)``, which :func:`hybridgen.generation.sample` takes.

    Raises:
        ValueError: if torch has no FBGEMM here, or the network cannot be traced or has no step (bidirectional).
    """
    check_available()
    graph = _with_int8_products(trace_step(network))
    kind = type(network.initial_state(1))

    @torch.no_grad()
    def step(token: Tensor, state: Any) -> tuple[Tensor, Any]:
        log_probs, *new = graph(token, *(network.initial_state(len(token)) if state is None else state))
        return log_probs, kind(*new)

    return step


@torch.no_grad()
def _with_int8_products(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The program on its own inputs, flat, with constants folded and int8 products in the place of ``linear``."""
    root, new = nn.Module(), fx.Graph()
    known: dict[fx.Node, Any] = {}  # what depends on weights alone
    copied: dict[fx.Node, fx.Node] = {}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    tensors = {**program.state_dict, **program.constants}

    def carried(node: fx.Node) -> fx.Node:
        """The node of the new graph; a constant becomes one when it is first asked for."""
        if node not in copied:
            name = f"constant_{len(copied)}"
            root.register_buffer(name, known[node])
            copied[node] = new.get_attr(name)
        return copied[node]

    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind is InputKind.USER_INPUT:
                copied[node] = new.placeholder(node.name)
            else:
                known[node] = tensors[spec.target].detach()
        elif node.op == "output":
            new.output(fx.map_arg(node.args[0], carried))
        elif node.all_input_nodes and all(each in known for each in node.all_input_nodes):
            given = fx.map_arg((node.args, dict(node.kwargs)), known.__getitem__)
            known[node] = node.target(*given[0], **given[1])
        elif node.target is _ATEN.to.dtype and node.args[0].meta["val"].dtype is node.args[1]:
            copied[node] = carried(node.args[0])
        elif node.target is _LINEAR and node.args[1] in known and _serves(known[node.args[1]]):
            bias = known[node.args[2]] if len(node.args) > 2 and node.args[2] is not None else None
            weight, before = known[node.args[1]], node.args[0]
            name = f"product_{len(copied)}"
            if before.target is _EMBEDDING and before.args[0] in known and len(known[before.args[0]]) <= LARGEST_TABLE:
                # What this layer makes of every token there is, worked out once from the int8 weights.
                table = nn.functional.linear(known[before.args[0]], dequantise(*quantise(weight)), bias)
                root.register_buffer(name, table)
                copied[node] = new.call_function(_EMBEDDING, (new.get_attr(name), carried(before.args[1])))
            else:
                root.add_module(name, Int8Linear(weight, bias))
                copied[node] = new.call_module(name, (carried(before),))
        else:
            copied[node] = new.node_copy(node, carried)
            copied[node].target = _FASTER.get(node.target, node.target)
    # Checks of shapes that export left behind, and what only they used.
    for node in reversed(new.nodes):
        if not node.users and node.op not in ("output", "placeholder"):
            new.erase_node(node)
    return fx.GraphModule(root, new)


def _serves(weight: Any) -> bool:
    return isinstance(weight, Tensor) and weight.dim() == 2 and is_matrix(weight)
