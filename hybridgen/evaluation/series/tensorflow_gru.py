"""The recurrent network of TimeGAN's metrics: TensorFlow 1's GRUCell, many of them trained at once.

    r, u = sigmoid([x, h] W_g + b_g),   c = tanh([x, r h] W_c + b_c),   h = u h + (1 - u) c

with the reset before the product (torch's is after it), glorot-uniform kernels, gate biases of 1 and others of 0. With
2 or 3 units, as the metrics have, where the gates start decides what is learned.

R networks of the same size lie side by side in one tensor each, and every step of all of them is one batched product:
their gradients do not mix, and Adam is elementwise, so each learns exactly what it would learn alone. Networks this
small are all overhead, so ten cost little more than one. Layout is ``(T, R, F, B)``: batch last, so that halves of
the gates are contiguous.
"""

import numpy as np
import torch
from torch import Tensor


class GRUs(torch.nn.Module):
    """R networks: a GRU of H units and a linear layer to one number.

    Args:
        generators: one for each network, for its first weights.
        input_size: I.
        hidden_size: H.
    """

    def __init__(self, generators: list[np.random.Generator], input_size: int, hidden_size: int) -> None:
        super().__init__()

        def glorot(inputs: int, outputs: int) -> np.ndarray:
            bound = np.sqrt(6 / (inputs + outputs))
            return np.stack([g.uniform(-bound, bound, (outputs, inputs)) for g in generators])  # (R, out, in)

        gates = glorot(input_size + hidden_size, 2 * hidden_size)
        candidate = glorot(input_size + hidden_size, hidden_size)
        runs = len(generators)
        self.input_weight = _parameter(np.concatenate([gates, candidate], 1)[:, :, :input_size])  # (R, 3H, I)
        self.gate_weight = _parameter(gates[:, :, input_size:])  # (R, 2H, H)
        self.candidate_weight = _parameter(candidate[:, :, input_size:])  # (R, H, H)
        bias = np.concatenate([np.ones((runs, 2 * hidden_size, 1)), np.zeros((runs, hidden_size, 1))], 1)
        self.bias = _parameter(bias)  # (R, 3H, 1)
        self.output_weight = _parameter(glorot(hidden_size, 1))  # (R, 1, H)
        self.output_bias = _parameter(np.zeros((runs, 1, 1)))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run sequences ``(T, R, I, B)`` with lengths ``(R, B)``: the number at every step, ``(T, R, B)``.

        Past a row's end its state stays: the last step holds what the network says of the whole row.
        """
        valid = None
        if lengths is not None:
            steps = torch.arange(len(inputs)).view(-1, 1, 1, 1)
            valid = (steps < lengths.unsqueeze(1)).to(inputs.dtype)  # (T, R, 1, B)
        states = _Recurrence.apply(
            inputs, self.input_weight, self.gate_weight, self.candidate_weight, self.bias, valid
        )  # (T, R, H, B)
        return (self.output_weight @ states + self.output_bias).squeeze(2)


def rows(series: Tensor, chosen: Tensor) -> Tensor:
    """Rows of series ``(N, T, F)`` by number ``(R, B)``, in the layout of :class:`GRUs`: ``(T, R, F, B)``."""
    runs, batch = chosen.shape
    taken = series.flatten(1).index_select(0, chosen.flatten())
    return taken.view(runs, batch, *series.shape[1:]).permute(2, 0, 3, 1).contiguous()


def draw(generators: list[np.random.Generator], populations: list[np.ndarray], size: int) -> Tensor:
    """For each network a batch of different rows of its own population: ``(R, B)``."""
    taken = [
        p[g.choice(len(p), size, replace=False, shuffle=False)] for g, p in zip(generators, populations, strict=True)
    ]
    return torch.from_numpy(np.stack(taken))


def _parameter(values: np.ndarray) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float32))


def _tanh(x: Tensor) -> Tensor:
    # Several times faster on a CPU than tanh, and off by at most a unit in the last place of 1.
    return torch.sigmoid(2 * x).mul_(2).sub_(1)


class _Recurrence(torch.autograd.Function):
    """The states of every step, with a backward pass by hand: a third of the operations of autograd's."""

    @staticmethod
    def forward(ctx, inputs, input_weight, gate_weight, candidate_weight, bias, valid):  # noqa: ANN001, ANN205
        time, runs, _, batch = inputs.shape
        hidden = candidate_weight.shape[1]
        projected = input_weight @ inputs + bias  # (T, R, 3H, B)
        state = inputs.new_zeros(runs, hidden, batch)
        states, gates, candidates = [], [], []
        for t in range(time):
            gate = torch.baddbmm(projected[t, :, : 2 * hidden], gate_weight, state).sigmoid_()
            reset, update = gate[:, :hidden], gate[:, hidden:]
            candidate = _tanh(torch.baddbmm(projected[t, :, 2 * hidden :], candidate_weight, reset * state))
            new = torch.lerp(candidate, state, update)
            state = new if valid is None else torch.lerp(state, new, valid[t])
            states.append(state)
            gates.append(gate)
            candidates.append(candidate)
        everything = torch.stack(states)
        saved = (torch.stack(gates), torch.stack(candidates), everything, inputs, gate_weight, candidate_weight)
        ctx.save_for_backward(*saved)
        ctx.valid = valid
        return everything

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        gates, candidates, states, inputs, gate_weight, candidate_weight = ctx.saved_tensors
        valid = ctx.valid
        time, hidden = len(inputs), candidate_weight.shape[1]
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        gate_transposed, candidate_transposed = gate_weight.mT.contiguous(), candidate_weight.mT.contiguous()
        slope = gates * (1 - gates)
        candidate_slope = 1 - candidates.square()
        difference = before - candidates
        d_projected = inputs.new_empty(time, inputs.shape[1], 3 * hidden, inputs.shape[3])
        d_state = torch.zeros_like(states[0])
        for t in range(time - 1, -1, -1):
            d_state = d_state + gradient[t]
            d_new = d_state if valid is None else d_state * valid[t]
            reset, update = gates[t, :, :hidden], gates[t, :, hidden:]
            kept = d_new * update
            d_candidate = torch.mul(d_new - kept, candidate_slope[t], out=d_projected[t, :, 2 * hidden :])
            d_read = torch.bmm(candidate_transposed, d_candidate)
            d_gate = d_projected[t, :, : 2 * hidden]
            torch.mul(d_read, before[t], out=d_gate[:, :hidden])
            torch.mul(d_new, difference[t], out=d_gate[:, hidden:])
            d_gate *= slope[t]
            previous = torch.baddbmm(kept.addcmul_(d_read, reset), gate_transposed, d_gate)
            d_state = previous if valid is None else previous + d_state * (1 - valid[t])
        reads = gates[:, :, :hidden] * before

        def collected(left: Tensor, right: Tensor) -> Tensor:
            """Sum over steps and rows of the outer products: (T, R, X, B), (T, R, Y, B) -> (R, X, Y)."""
            return torch.matmul(left, right.mT).sum(0)

        return (
            None,
            collected(d_projected, inputs),
            collected(d_projected[:, :, : 2 * hidden], before),
            collected(d_projected[:, :, 2 * hidden :], reads),
            d_projected.sum((0, 3)).unsqueeze(-1),
            None,
        )
