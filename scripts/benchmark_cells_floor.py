"""What a cell pays at least, over nn.LSTM: its products as the cells do them, and one call for each operation.

    python scripts/benchmark_cells_floor.py            two minutes on 2 cores

Forward and backward of one sequence, float32.

* ``products`` is the products of an LSTM and nothing else: four of the whole sequence, two of each step.
* ``lstm`` adds the elementwise calls that it cannot do without. In a step forward: the sum and the sigmoid of the
  gates, two calls for c, its tanh, h; in a step backward: five. Once for the sequence: the slopes of the gates and of
  tanh, and the sum for the bias.
* ``zoneout``, ``layer norm`` and ``peephole`` add what these cannot do without, likewise; whatever can be done once for
  the sequence is.
* For cells that are linear in time the floor is three products: of ``mingru`` with 2 H columns, of ``minlstm`` and
  ``rglru`` with 3 H, of ``qrnn`` with 3 H columns and 2 H rows, because its gates see two steps.

These are no cells (a sigmoid stands for each tanh, nothing is checked or saved for a second gradient), only what such a
cell must pay as long as an operation is a call. All take turns, as in ``benchmark_cells.py``, whose goals stand beside.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark_cells import ENTRIES, SHAPES, alternate, machine, ratio
from torch import Tensor, nn

from hybridgen.cells.matmul import add_product_, product, weight_gradient
from hybridgen.cells.pointwise import lstm_slopes, tanh_slope

#: Rows and columns of the products of cells that are linear in time, in units of H.
LINEAR = {"mingru": (1, 2), "minlstm": (1, 3), "rglru": (1, 3), "qrnn": (2, 3)}
#: What is aimed at.
GOALS = {
    name: ENTRIES[entry][1]
    for name, entry in {
        "zoneout": "lstm + zoneout",
        "layer norm": "layernorm_lstm",
        "peephole": "peephole_lstm",
        **{name: name for name in LINEAR},
    }.items()
}


class Products:
    """An LSTM's products.

    Args:
        batch_size: B.
        steps: T.
        width: H, of the inputs too.
    """

    def __init__(self, batch_size: int, steps: int, width: int) -> None:
        self.inputs, self.grads = torch.randn(steps, batch_size, width), torch.randn(steps, batch_size, width)
        self.weight, self.recurrent = (torch.randn(width, 4 * width) / width for _ in range(2))
        self.back_to_inputs, self.back = (w.t().contiguous() for w in (self.weight, self.recurrent))
        self.gates = torch.rand(steps, batch_size, 4 * width)
        self.h, self.c = (torch.zeros(steps + 1, batch_size, width) for _ in range(2))
        self.hs, self.per_step = self.h.unbind(0), self.gates.unbind(0)

    def end(self, of_gates: Tensor) -> None:
        """The gradients of inputs and weights, from those of the gates."""
        product(of_gates.flatten(0, 1), self.back_to_inputs)
        weight_gradient(self.inputs, of_gates)
        weight_gradient(self.h[:-1], of_gates)

    def __call__(self) -> None:
        product(self.inputs.flatten(0, 1), self.weight)
        for h in self.hs[:-1]:
            product(h, self.recurrent)
        for gates in self.per_step[::-1]:
            product(gates, self.back)
        self.end(self.gates)


class Lstm(Products):
    """The same with the elementwise calls."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.squashed = torch.empty_like(self.grads)
        self.cs, self.of_h, self.squashed_c = (x.unbind(0) for x in (self.c, self.grads, self.squashed))

    def __call__(self) -> None:
        # Written anew in every pass, as a cell does.
        self.gates = product(self.inputs.flatten(0, 1), self.weight).view_as(self.gates)
        self.per_step = self.gates.unbind(0)
        self.i, self.f, self.g, self.o = (part.unbind(0) for part in self.gates.chunk(4, -1))
        self.views()
        for t in range(len(self.per_step)):
            self.forward(t)
        self.slopes = lstm_slopes(self.gates, self.c[:-1], self.squashed)
        self.of_c = tanh_slope(self.gates.chunk(4, -1)[3], self.squashed, torch.empty_like(self.squashed)).unbind(0)
        self.per_slope = self.slopes.unbind(0)
        self.of_o = self.slopes.chunk(4, -1)[3].unbind(0)
        self.of_ifg = self.slopes.unflatten(-1, (4, -1))[:, :, :3].unbind(0)
        self.once()
        grad_h, grad_c = self.of_h[-1].clone(), torch.zeros_like(self.hs[0])
        for t in reversed(range(len(self.per_step))):
            grad_h = self.backward(t, grad_h, grad_c)
        self.bias()
        self.end(self.slopes)

    def views(self) -> None:
        """Parts of the gates that a cell takes together."""

    def forward(self, t: int) -> None:
        """One step."""
        add_product_(self.per_step[t], self.hs[t], self.recurrent).sigmoid_()
        torch.mul(self.f[t], self.cs[t], out=self.cs[t + 1]).addcmul_(self.i[t], self.g[t])
        torch.mul(self.o[t], torch.sigmoid(self.cs[t + 1], out=self.squashed_c[t]), out=self.hs[t + 1])

    def once(self) -> None:
        """What a cell prepares for its steps backward."""

    def bias(self) -> None:
        """Its gradient."""
        self.slopes.sum((0, 1))

    def to_gates(self, t: int, grad_h: Tensor, grad_c: Tensor) -> None:
        """The gradients of a step's gates, and in place that of the c before it."""
        grad_c.addcmul_(grad_h, self.of_c[t])
        self.of_o[t].mul_(grad_h)
        self.of_ifg[t].mul_(grad_c.unsqueeze(1))
        grad_c.mul_(self.f[t])

    def backward(self, t: int, grad_h: Tensor, grad_c: Tensor) -> Tensor:
        """One step; the gradient of the h before it."""
        self.to_gates(t, grad_h, grad_c)
        return product(self.per_slope[t], self.back).add_(self.of_h[t - 1])


class Zoneout(Lstm):
    """Of h and c: masks folded into slopes and forget gates for the way back, but for what h keeps."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.mask = (torch.rand_like(self.grads) < 0.9).float()
        self.masks, self.kept = self.mask.unbind(0), (1 - self.mask).unbind(0)

    def forward(self, t: int) -> None:
        super().forward(t)
        for values in (self.hs, self.cs):
            torch.lerp(values[t], values[t + 1], self.masks[t], out=values[t + 1])

    def once(self) -> None:
        self.slopes.unflatten(-1, (4, -1)).mul_(self.mask.unsqueeze(2))
        self.gates.chunk(4, -1)[1].mul_(self.mask).add_(1)

    def backward(self, t: int, grad_h: Tensor, grad_c: Tensor) -> Tensor:
        self.to_gates(t, grad_h, grad_c)
        kept = torch.addcmul(self.of_h[t - 1], grad_h, self.kept[t])
        return product(self.per_slope[t], self.back).add_(kept)


class LayerNorm(Lstm):
    """Of the product with h and of c, each with a gain."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.gain, self.gain_c = torch.ones(self.gates.shape[2]), torch.ones(self.grads.shape[2])

    def forward(self, t: int) -> None:
        of_h = product(self.hs[t], self.recurrent)
        normed, *self.statistics = torch.native_layer_norm(of_h, of_h.shape[-1:], self.gain, None, 1e-5)
        self.of_hidden = of_h
        self.per_step[t].add_(normed).sigmoid_()
        c = torch.mul(self.f[t], self.cs[t], out=self.cs[t + 1]).addcmul_(self.i[t], self.g[t])
        normed, *self.statistics_c = torch.native_layer_norm(c, c.shape[-1:], self.gain_c, None, 1e-5)
        torch.mul(self.o[t], torch.sigmoid(normed, out=self.squashed_c[t]), out=self.hs[t + 1])

    def once(self) -> None:
        # The norm of the inputs and its gradients; those of the other gains. Once for the sequence.
        torch.native_layer_norm(self.gates, self.gain.shape, self.gain, None, 1e-5)
        for like, gain, wanted in (
            (self.slopes, self.gain, (True, True, True)),
            (self.slopes, self.gain, (False, True, False)),
            (self.squashed, self.gain_c, (False, True, False)),
        ):
            stats = (torch.zeros(*like.shape[:2], 1), torch.ones(*like.shape[:2], 1))
            torch.ops.aten.native_layer_norm_backward(like, like, gain.shape, *stats, gain, gain, wanted)

    def bias(self) -> None:
        """Among the gradients of the norm already."""

    def backward(self, t: int, grad_h: Tensor, grad_c: Tensor) -> Tensor:
        back = torch.ops.aten.native_layer_norm_backward
        of_normed, only = self.of_c[t].mul_(grad_h), (True, False, False)
        grad_c.add_(back(of_normed, self.cs[t + 1], grad_h.shape[-1:], *self.statistics_c, self.gain_c, None, only)[0])
        self.of_o[t].mul_(grad_h)
        self.of_ifg[t].mul_(grad_c.unsqueeze(1))
        slopes = self.per_slope[t]
        of_h = back(slopes, self.of_hidden, slopes.shape[-1:], *self.statistics, self.gain, None, only)[0]
        grad_c.mul_(self.f[t])
        return product(of_h, self.back).add_(self.of_h[t - 1])


class Peephole(Lstm):
    """Of i, f and o."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        width = self.grads.shape[2]
        self.of_if, self.p_o = torch.randn(2, width), torch.randn(width)
        self.cs_beside = self.c.unsqueeze(2).unbind(0)

    def views(self) -> None:
        by_gate = self.gates.unflatten(-1, (4, -1))
        self.i_and_f, self.ifg = by_gate[:, :, :2].unbind(0), by_gate[:, :, :3].unbind(0)

    def forward(self, t: int) -> None:
        add_product_(self.per_step[t], self.hs[t], self.recurrent)
        self.i_and_f[t].addcmul_(self.of_if, self.cs_beside[t])
        self.ifg[t].sigmoid_()
        c = torch.mul(self.f[t], self.cs[t], out=self.cs[t + 1]).addcmul_(self.i[t], self.g[t])
        self.o[t].addcmul_(self.p_o, c).sigmoid_()
        torch.mul(self.o[t], torch.sigmoid(c, out=self.squashed_c[t]), out=self.hs[t + 1])

    def once(self) -> None:
        i, f, _, o = self.slopes.chunk(4, -1)
        self.squashed.addcmul_(o, self.p_o)
        self.gates.chunk(4, -1)[1].addcmul_(i, self.of_if[0]).addcmul_(f, self.of_if[1])
        (self.slopes.unflatten(-1, (4, -1))[:, :, :2] * self.c[:-1].unsqueeze(2)).sum((0, 1))
        (o * self.c[1:]).sum((0, 1))


def linear_products(rows: int, width: int, inner: int, columns: int) -> Callable[[], None]:
    """The three products of gates that are computed for all steps at once."""
    inputs, weight = torch.randn(rows, inner * width), torch.randn(inner * width, columns * width)
    gates, back = torch.randn(rows, columns * width), weight.t().contiguous()

    def run() -> None:
        product(inputs, weight)
        product(gates, back)
        weight_gradient(inputs, gates)

    return run


def of_shape(shape: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Ratios to nn.LSTM."""
    batch_size, steps, width = shape
    lstm = nn.LSTM(width, width, batch_first=True)
    inputs, grads = torch.randn(batch_size, steps, width, requires_grad=True), torch.randn(batch_size, steps, width)
    runs: dict[str, Callable[[], None]] = {"nn.LSTM": lambda: lstm(inputs)[0].backward(grads)}
    kinds = {"products": Products, "lstm": Lstm, "zoneout": Zoneout, "layer norm": LayerNorm, "peephole": Peephole}
    runs |= {name: torch.no_grad()(kind(*shape)) for name, kind in kinds.items()}
    for name, (inner, columns) in LINEAR.items():
        runs[name] = linear_products(batch_size * steps, width, inner, columns)
    # By pairs: what ran before decides what lies in the caches.
    found = {}
    for name in [*runs][1:]:
        seconds = alternate({"nn.LSTM": runs["nn.LSTM"], name: runs[name]}, rounds)
        found[name] = round(ratio(seconds, name, "nn.LSTM"), 3)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the smallest shape, few rounds")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print("goals: " + ", ".join(f"{name} {goal}" for name, goal in GOALS.items()))
    rows = []
    for shape in SHAPES[:1] if options.quick else SHAPES:
        found = of_shape(shape, 3 if options.quick else options.rounds)
        rows.append({"shape": shape, "ratios": found})
        print(f"{shape!s:15} " + "   ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    if options.out:
        report = {"machine": machine(), "rounds": options.rounds, "goals": GOALS, "floor": rows}
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
