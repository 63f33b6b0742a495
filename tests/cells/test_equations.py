"""Every cell against its published equations, written here once more from the papers and by other means.

Other means: torch's own cells and layers, numpy, dense matrices for block-diagonal ones, plain exponentials for
stabilised ones, sums over the whole past for recurrences that are linear in their state, log space.
"""

import functools

import numpy as np
import pytest
import torch
from helpers import BATCH, HIDDEN, INPUT, VARIANTS, assert_close, make_cell, make_inputs, make_state
from torch import nn
from torch.nn import functional as F

from hybridgen import cells

MORE_VARIANTS = [
    ("lstm", {"coupled_gates": True, "bias": False}),
    ("lstm", {"coupled_gates": True, "projection_size": 4}),
    ("mogrifier_lstm", {"rounds": 1}),
    ("mogrifier_lstm", {"rounds": 3, "rank": 4}),
    ("slstm", {"num_heads": 3}),
    ("slstm", {"forget_gate": "exponential"}),
    ("qrnn", {"window": 4, "pooling": "f"}),
    ("qrnn", {"window": 3, "pooling": "fo"}),
    ("rglru", {"num_blocks": 3}),
    ("mlstm", {"num_heads": 3, "chunk": 2}),
]


# Pieces --------------------------------------------------------------------------------------------------------


def walk(step, inputs, *state):
    """``step(x, *state) -> (output, *state)`` over time: the outputs ``(B, T, H)`` and the last state."""
    outputs = []
    for x in inputs.unbind(1):
        output, *state = step(x, *state)
        outputs.append(output)
    return torch.stack(outputs, 1), tuple(state)


def numpy_walk(step, inputs, *state):
    """The same for a step on arrays."""
    outputs, state = [], [s.numpy() for s in state]
    for x in inputs.unbind(1):
        output, *state = step(x.numpy(), *state)
        outputs.append(output)
    return torch.from_numpy(np.stack(outputs, 1)), tuple(map(torch.from_numpy, state))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def arrays(cell, gates):
    """``W``, ``U`` and ``b`` gate by gate as arrays; zeros in place of a bias that is not there."""
    weight_ih, weight_hh = (np.split(p.detach().numpy(), gates) for p in (cell.weight_ih, cell.weight_hh))
    bias = np.zeros(gates * HIDDEN) if cell.bias is None else cell.bias.detach().numpy()
    return weight_ih, weight_hh, np.split(bias, gates)


def torch_cell(kind, weight_ih, weight_hh, bias_ih=None, bias_hh=None, **options):
    """An ``nn.RNNCell``, ``GRUCell`` or ``LSTMCell`` with these weights."""
    module = kind(weight_ih.shape[1], weight_hh.shape[1], bias=bias_ih is not None, dtype=torch.float64, **options)
    with torch.no_grad():
        module.weight_ih.copy_(weight_ih)
        module.weight_hh.copy_(weight_hh)
        if bias_ih is not None:
            module.bias_ih.copy_(bias_ih)
            module.bias_hh.copy_(torch.zeros_like(bias_ih) if bias_hh is None else bias_hh)
    return module


def torch_norm(gain, bias=None):
    module = nn.LayerNorm(gain.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(gain)
        if bias is not None:
            module.bias.copy_(bias)
    return module


def from_the_past(gain, addition, initial):
    """``s[t] = gain[t] s[t-1] + addition[t]`` as the sum over all that was ever added, times what is left of it."""
    values = []
    for t in range(gain.shape[1]):
        terms = [gain[:, s + 1 : t + 1].prod(1) * addition[:, s] for s in range(t + 1)]
        values.append(gain[:, : t + 1].prod(1) * initial + sum(terms))
    return torch.stack(values, 1)


def in_log_space(log_keep, log_write, candidate, initial):
    """The same in log space (Heinsen 2023; appendix B of the minGRU paper).

    Only positive numbers have a logarithm there: the positive and the negative part go their own ways and, the
    recurrence being linear, are put together at the end.
    """
    kept = F.pad(log_keep.cumsum(1), (0, 0, 1, 0))  # (B, 1 + T, H)

    def positive(written, first):
        values = torch.cat([first.log().unsqueeze(1), log_write + written.log()], 1)
        return torch.exp(kept + torch.logcumsumexp(values - kept, 1))[:, 1:]

    return positive(candidate.relu(), initial.relu()) - positive((-candidate).relu(), (-initial).relu())


# The equations: (cell, inputs, state) -> (outputs, last state) -----------------------------------------------


def rnn(cell, inputs, state):
    """Elman 1990."""
    module = torch_cell(nn.RNNCell, cell.weight_ih, cell.weight_hh, cell.bias, nonlinearity=cell.nonlinearity)
    return walk(lambda x, h: (module(x, h),) * 2, inputs, *state)


def indrnn(cell, inputs, state):
    """Li et al. 2018, equation 2: every unit n reads w_n x and u_n h_n, its own past alone."""
    units = [(w.detach().numpy(), u.item()) for w, u in zip(cell.weight_ih, cell.weight_hh, strict=True)]
    biases = np.zeros(HIDDEN) if cell.bias is None else cell.bias.detach().numpy()
    act = {"relu": lambda v: np.where(v > 0, v, 0), "tanh": np.tanh}[cell.nonlinearity]

    def step(x, h):
        h = np.stack([act(x @ w + u * h[:, n] + biases[n]) for n, (w, u) in enumerate(units)], -1)
        return h, h

    return numpy_walk(step, inputs, *state)


def gru(cell, inputs, state):
    """Cho et al. 2014, equations 5 to 8; with the reset after the product, torch's own cell."""
    if cell.reset == "after":
        inner = None if cell.bias is None else torch.cat([torch.zeros(2 * HIDDEN), cell.bias_hn])
        module = torch_cell(nn.GRUCell, cell.weight_ih, cell.weight_hh, cell.bias, inner)
        return walk(lambda x, h: (module(x, h),) * 2, inputs, *state)
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n) = arrays(cell, 3)

    def step(x, h):
        r = sigmoid(x @ w_r.T + h @ u_r.T + b_r)
        z = sigmoid(x @ w_z.T + h @ u_z.T + b_z)
        candidate = np.tanh(x @ w_n.T + (r * h) @ u_n.T + b_n)
        h = z * h + (1 - z) * candidate
        return h, h

    return numpy_walk(step, inputs, *state)


def mgu(cell, inputs, state):
    """Zhou et al. 2016, equations 7a to 7c."""
    (w_f, w_n), (u_f, u_n), (b_f, b_n) = arrays(cell, 2)

    def step(x, h):
        f = sigmoid(x @ w_f.T + h @ u_f.T + b_f)
        candidate = np.tanh((f * h) @ u_n.T + x @ w_n.T + b_n)
        h = (1 - f) * h + f * candidate
        return h, h

    return numpy_walk(step, inputs, *state)


def lstm(cell, inputs, state):
    """torch's own cell, with coupled gates and projection turned into its weights.

    An input gate of 1 - sigmoid(f) = sigmoid(-f) is one with the forget gate's weights negated. Where h = R m is
    a projection of m = o * tanh(c), U h is (U R) m: an LSTM without projection on m, read through R.
    """
    rows = [cell.weight_ih, cell.weight_hh, cell.bias]
    if cell.coupled_gates:
        rows = [None if p is None else torch.cat([-p[:HIDDEN], p]) for p in rows]
    weight_ih, weight_hh, bias = rows
    if cell.weight_hr is None:
        module = torch_cell(nn.LSTMCell, weight_ih, weight_hh, bias)
        return walk(lambda x, h, c: (module(x, (h, c))[0], *module(x, (h, c))), inputs, *state)
    module = torch_cell(nn.LSTMCell, weight_ih, weight_hh @ cell.weight_hr, bias)
    before = state.h @ torch.linalg.pinv(cell.weight_hr).T  # an m with R m = h
    wide, (m, c) = walk(lambda x, m, c: (module(x, (m, c))[0], *module(x, (m, c))), inputs, before, state.c)
    return wide @ cell.weight_hr.T, (m @ cell.weight_hr.T, c)


def peephole_lstm(cell, inputs, state):
    """Gers et al. 2002, section 3.2: the gates see the cell state, the output gate the new one."""
    (w_i, w_f, w_g, w_o), (u_i, u_f, u_g, u_o), (b_i, b_f, b_g, b_o) = arrays(cell, 4)
    p_i, p_f, p_o = np.split(cell.peephole.detach().numpy(), 3)

    def step(x, h, c):
        i = sigmoid(x @ w_i.T + h @ u_i.T + p_i * c + b_i)
        f = sigmoid(x @ w_f.T + h @ u_f.T + p_f * c + b_f)
        c = f * c + i * np.tanh(x @ w_g.T + h @ u_g.T + b_g)
        h = sigmoid(x @ w_o.T + h @ u_o.T + p_o * c + b_o) * np.tanh(c)
        return h, h, c

    return numpy_walk(step, inputs, *state)


def layernorm_lstm(cell, inputs, state):
    """Ba et al. 2016, equations 20 to 22, with torch's normalising layers."""
    norm_x, norm_h = torch_norm(cell.gain_ih, cell.bias), torch_norm(cell.gain_hh)
    norm_c = torch_norm(cell.gain_c, cell.bias_c)

    def step(x, h, c):
        gates = norm_h(h @ cell.weight_hh.T) + norm_x(x @ cell.weight_ih.T)
        i, f, g, o = gates.split(HIDDEN, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * norm_c(c).tanh()
        return h, h, c

    return walk(step, inputs, *state)


def layernorm_gru(cell, inputs, state):
    """Ba et al. 2016, the GRU of the supplement: gates normalised together, the candidate by itself."""
    wide = 2 * HIDDEN
    bias = torch.zeros(3 * HIDDEN) if cell.bias is None else cell.bias
    x_gates, x_n = torch_norm(cell.gain_ih[:wide], bias[:wide]), torch_norm(cell.gain_ih[wide:], bias[wide:])
    h_gates, h_n = torch_norm(cell.gain_hh[:wide]), torch_norm(cell.gain_hh[wide:])

    def step(x, h):
        gates = x_gates(x @ cell.weight_ih[:wide].T) + h_gates(h @ cell.weight_hh[:wide].T)
        r, z = gates.sigmoid().split(HIDDEN, -1)
        candidate = torch.tanh(x_n(x @ cell.weight_ih[wide:].T) + r * h_n(h @ cell.weight_hh[wide:].T))
        h = (1 - z) * candidate + z * h
        return h, h

    return walk(step, inputs, *state)


def mogrifier_lstm(cell, inputs, state):
    """Melis et al. 2020, equations 1 and 2, then torch's LSTM cell; a factorised matrix multiplied out."""
    module = torch_cell(nn.LSTMCell, cell.weight_ih, cell.weight_hh, cell.bias)
    matrices = [functools.reduce(lambda whole, factor: factor @ whole, chain) for chain in cell.mogrifiers]

    def step(x, h, c):
        for i, matrix in enumerate(matrices, 1):
            if i % 2:
                x = 2 * torch.sigmoid(h @ matrix.T) * x
            else:
                h = 2 * torch.sigmoid(x @ matrix.T) * h
        h, c = module(x, (h, c))
        return h, h, c

    return walk(step, inputs, *state)


def slstm(cell, inputs, state):
    """Beck et al. 2024, equations 8 to 14: plain exponentials, and a dense matrix with blocks on the diagonal."""
    width = HIDDEN // cell.num_heads
    dense = torch.cat([torch.block_diag(*gate.split(width)) for gate in cell.weight_hh.split(HIDDEN)])
    forget = {"sigmoid": torch.sigmoid, "exponential": torch.exp}[cell.forget_gate]

    def step(x, h, c, n):
        i, f, z, o = (x @ cell.weight_ih.T + h @ dense.T + cell.bias).split(HIDDEN, -1)
        i, f = i.exp(), forget(f)
        c = f * c + i * z.tanh()
        n = f * n + i
        h = o.sigmoid() * (c / n)
        return h, h, c, n

    return walk(step, inputs, *natural_units(cell, state))


def mingru(cell, inputs, state):
    """Feng et al. 2024, section 3.1, in log space."""
    z, candidate = F.linear(inputs, cell.weight_ih, cell.bias).split(HIDDEN, -1)
    h = in_log_space(-F.softplus(z), -F.softplus(-z), candidate, state.h)
    return h, (h[:, -1],)


def minlstm(cell, inputs, state):
    """Feng et al. 2024, section 3.2, in log space: the logs of f / (f + i) and i / (f + i)."""
    f, i, candidate = F.linear(inputs, cell.weight_ih, cell.bias).split(HIDDEN, -1)
    ratio = F.softplus(-f) - F.softplus(-i)  # log i - log f
    h = in_log_space(-F.softplus(ratio), -F.softplus(-ratio), candidate, state.h)
    return h, (h[:, -1],)


def sru(cell, inputs, state):
    """Lei et al. 2017 version 1, equations 3 to 7; the highway is projected where its width differs."""
    w_f, w_r, w_v, *w_highway = cell.weight_ih.split(HIDDEN)
    b_f, b_r = cell.bias.split(HIDDEN)
    f, r = torch.sigmoid(inputs @ w_f.T + b_f), torch.sigmoid(inputs @ w_r.T + b_r)
    c = from_the_past(f, (1 - f) * (inputs @ w_v.T), state.c)
    highway = inputs @ w_highway[0].T if w_highway else inputs
    act = {"tanh": torch.tanh, "identity": lambda v: v}[cell.nonlinearity]
    return r * act(c) + (1 - r) * highway, (c[:, -1],)


def qrnn(cell, inputs, state):
    """Bradbury et al. 2017, equations 2 to 5: a masked convolution over time, then pooling."""
    past = cell.window - 1
    oldest_first = state.window.unflatten(-1, (past, INPUT)).flip(1)
    padded = torch.cat([oldest_first, inputs], 1)
    kernel = cell.weight_ih.unflatten(1, (cell.window, INPUT)).flip(1).transpose(1, 2)  # (gates, I, k), oldest first
    gates = F.conv1d(padded.transpose(1, 2), kernel, cell.bias).transpose(1, 2).split(HIDDEN, -1)
    z, f = gates[0].tanh(), gates[1].sigmoid()
    write = gates[3].sigmoid() if cell.pooling == "ifo" else 1 - f
    c = from_the_past(f, write * z, state.c)
    outputs = c if cell.pooling == "f" else gates[2].sigmoid() * c
    return outputs, (c[:, -1], padded[:, padded.shape[1] - past :].flip(1).flatten(1))


def rglru(cell, inputs, state):
    """De et al. 2024, equations 1 to 4, with a = sigmoid(-L) and dense matrices with blocks on the diagonal."""
    u = inputs @ cell.weight_ih.T
    per_gate = cell.weight_gates.unflatten(1, (2, -1)).transpose(0, 1)
    w_r, w_i = (torch.block_diag(*blocks) for blocks in per_gate)
    b_r, b_i = cell.bias.split(HIDDEN)
    r, i = torch.sigmoid(u @ w_r.T + b_r), torch.sigmoid(u @ w_i.T + b_i)
    a = torch.sigmoid(-cell.decay) ** (8 * r)
    h = from_the_past(a, (1 - a**2).sqrt() * (i * u), state.h)
    return h, (h[:, -1],)


def mlstm(cell, inputs, state):
    """Beck et al. 2024, equations 19 to 27 with plain exponentials: the memory as a sum over all past writes."""
    heads, width = cell.num_heads, HIDDEN // cell.num_heads
    projections = (inputs @ w.T for w in cell.weight_ih.split(HIDDEN))
    q, k, v, o = (p.unflatten(-1, (heads, width)) for p in projections)  # (B, T, heads, d)
    k = k / width**0.5
    i, f = (inputs @ cell.weight_gates.T + cell.bias).split(heads, -1)
    i, f = i.exp()[..., None], f.sigmoid()[..., None]  # (B, T, heads, 1)
    c, n = natural_units(cell, state)
    n = from_the_past(f, i * k, n.unflatten(-1, (heads, width)))
    c = from_the_past(
        f[..., None], (i * v)[..., None] * k[..., None, :], c.unflatten(-1, (heads, width, width))
    )  # (B, T, heads, d, d)
    weight = (n * q).sum(-1, keepdim=True).abs().clamp(min=1.0)
    outputs = o.sigmoid() * (c @ q[..., None]).squeeze(-1) / weight
    return outputs.flatten(2), (c[:, -1].flatten(1), n[:, -1].flatten(1))


REFERENCES = {
    reference.__name__: reference
    for reference in (
        *(rnn, indrnn, gru, mgu, lstm, peephole_lstm, layernorm_lstm, layernorm_gru, mogrifier_lstm, slstm),
        *(mingru, minlstm, sru, qrnn, rglru, mlstm),
    )
}


def natural_units(cell, state):
    """A state as its equations have it: without the stabiliser m, in whose exponential c and n are counted."""
    if "m" not in cell.State._fields:
        return tuple(state)
    unit = torch.exp(state.m)  # (B, H), or (B, heads)
    scaled = [(s.unflatten(-1, (unit.shape[1], -1)) * unit.unsqueeze(-1)).flatten(1) for s in (state.c, state.n)]
    return (state.h, *scaled) if "h" in cell.State._fields else tuple(scaled)


# The tests ------------------------------------------------------------------------------------------------------


def check(cell, inputs):
    """Stepping and every way give the reference's outputs and last state, from an empty and from a used memory."""
    name = next(name for name in cells.names() if cells.cell_class(name) is type(cell))
    starts = {"initial": cell.initial_state(BATCH), "carried": make_state(cell)}
    for start in starts.values():
        outputs, last = REFERENCES[name](cell, inputs, start)
        stepped, state = walk(lambda x, *s: flat(*cell.step(x, s)), inputs, *start)
        assert_close(stepped, outputs)
        assert_close(natural_units(cell, cell.State(*state)), tuple(last))
        for way in cells.ways(cell):
            if way == "fused" and getattr(cell, "projection_size", 0):
                continue  # refused on a CPU
            walked, state = cell(inputs, start, way=way)
            assert_close(walked, outputs)
            assert_close(natural_units(cell, state), tuple(last))


def flat(output, state):
    return output, *state


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), VARIANTS + MORE_VARIANTS, ids=str)
def test_every_cell_computes_its_published_equations(name, options):
    check(make_cell(name, options), make_inputs())


@torch.no_grad()
@pytest.mark.parametrize("nonlinearity", ["tanh", "identity"])
def test_an_sru_as_wide_as_its_input_carries_the_input_itself(nonlinearity):
    cell = cells.make("sru", HIDDEN, HIDDEN, nonlinearity=nonlinearity).double()
    for parameter in cell.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    assert cell.weight_ih.shape == (3 * HIDDEN, HIDDEN)
    check(cell, torch.randn(BATCH, 5, HIDDEN, dtype=torch.float64))


@torch.no_grad()
def test_the_floor_of_an_mlstm_is_used_and_left():
    """Both sides of max(|n q|, 1) are met above: a comparison that met one side alone would prove half."""
    cell = make_cell("mlstm", {})
    inputs = make_inputs()
    *_, states = cell(inputs, return_states=True)
    q = cell.project(inputs)[0]
    weight = (states.n * states.m.exp() * q).sum(-1).abs()
    assert (weight < 1).any()
    assert (weight > 1).any()
