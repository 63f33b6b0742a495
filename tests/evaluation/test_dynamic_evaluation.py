"""Dynamic evaluation against the update rules written out, and the weights' safe return."""

import copy

import pytest
import torch
from tiny_models import TinyModel, text
from torch.nn import functional as F

from hybridgen.evaluation import carried_nats, dynamic_nats, gradient_scales


@pytest.fixture
def model():
    torch.manual_seed(5)
    return TinyModel()


def values(model):
    return [p.detach().clone() for p in model.parameters()]


def by_hand(model, tokens, update, segment, start=None, resets=()):
    """Total nats with ``update(weights, trained, gradients) -> weights`` after each segment, on a copy."""
    model = copy.deepcopy(model)
    trained = values(model)
    tokens = tokens.tolist()
    inputs = tokens[:-1] if start is None else [start, *tokens[:-1]]
    targets = tokens[1:] if start is None else tokens
    h, total = None, 0.0
    for begin in range(0, len(targets), segment):
        losses = []
        for n in range(begin, min(begin + segment, len(targets))):
            if h is None or n in resets:
                h = model.start
            h = model.step(torch.tensor(inputs[n]), h)
            logits = F.linear(h, model.head.weight, model.head.bias)
            losses.append(F.cross_entropy(logits, torch.tensor(targets[n])))
        total += sum(losses).item()
        gradients = torch.autograd.grad(sum(losses) / len(losses), list(model.parameters()), materialize_grads=True)
        with torch.no_grad():
            for p, w in zip(model.parameters(), update(values(model), trained, gradients), strict=True):
                p.copy_(w)
        h = h.detach()
    return total


@pytest.mark.parametrize("segment", [1, 5, 100])
@pytest.mark.parametrize("start", [None, 3])
def test_sgd_rule(model, segment, start):
    def update(weights, trained, gradients):
        return [w - 0.3 * g + 0.05 * (w0 - w) for w, w0, g in zip(weights, trained, gradients, strict=True)]

    options = {"parameters": model.parameters(), "learning_rate": 0.3, "decay": 0.05}
    score = dynamic_nats(model.run, model.head, text(), segment_length=segment, start=start, **options)
    assert score.tokens == 22 + (start is not None)
    assert score.nats == pytest.approx(by_hand(model, text(), update, segment, start), abs=1e-10)
    assert f"dynamic evaluation (SGD, learning rate 0.3, decay 0.05, segments of {segment})" in score.protocol


def test_rms_rule(model):
    scales = [torch.rand_like(p) for p in model.parameters()]
    recurrent = [p is model.recurrent for p in model.parameters()].index(True)
    scales[recurrent][0] = 0.0
    scales[recurrent][1] = 50.0  # so far above the mean that its pull is cut at 1
    mean = sum(s.mean() for s in scales) / len(scales)
    cut = []

    def update(weights, trained, gradients):
        new = []
        for w, w0, g, s in zip(weights, trained, gradients, scales, strict=True):
            pull = torch.minimum(0.2 * s / mean, torch.ones_like(s))
            cut.append(bool((pull == 1).any()))
            new.append(w - 0.01 * g / (s + 1e-3) + pull * (w0 - w))
        return new

    options = {"parameters": model.parameters(), "scales": scales, "epsilon": 1e-3, "segment_length": 4}
    score = dynamic_nats(model.run, model.head, text(), learning_rate=0.01, decay=0.2, **options)
    assert score.nats == pytest.approx(by_hand(model, text(), update, 4), abs=1e-10)
    assert any(cut)
    assert "RMS" in score.protocol


def test_resets(model):
    resets = torch.zeros(23, dtype=torch.bool)
    resets[9] = True
    expected = by_hand(model, text(), lambda w, w0, g: [a - 0.1 * b for a, b in zip(w, g, strict=True)], 5, None, {8})
    options = {"parameters": model.parameters(), "learning_rate": 0.1, "resets": resets}
    assert dynamic_nats(model.run, model.head, text(), **options).nats == pytest.approx(expected, abs=1e-10)


def test_gradient_scales(model):
    tokens, lanes, segment = text(43), 3, 4  # 42 predictions, 14 in each lane
    parameters = list(model.parameters())
    expected = [torch.zeros_like(p) for p in parameters]
    lane_tokens = torch.stack([tokens[k * 14 : k * 14 + 15] for k in range(lanes)])
    state, count = None, 0
    for begin in range(0, 14, segment):
        part = lane_tokens[:, begin : begin + segment + 1]
        hidden, state = model.run(part[:, :-1], state, None)
        logits = F.linear(hidden, model.head.weight, model.head.bias)
        loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten())
        for e, g in zip(expected, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True):
            e += g.square()
        state = type(state)(state.h.detach())
        count += 1
        if count == 2:
            after_two = [(e / 2).sqrt() for e in expected]
    options = {"parameters": [*parameters, parameters[0]], "lanes": lanes, "segment_length": segment}
    found = gradient_scales(model.run, model.head, tokens, **options)
    torch.testing.assert_close(list(found), [(e / count).sqrt() for e in expected])
    found = gradient_scales(model.run, model.head, tokens, max_segments=2, **options)
    torch.testing.assert_close(list(found), after_two)


def test_no_learning_is_the_static_model(model):
    options = {"parameters": model.parameters(), "learning_rate": 0.0}
    score = dynamic_nats(model.run, model.head, text(), byte_count=30, **options)
    static = carried_nats(model.run, model.head, text(), byte_count=30)
    assert score.nats == pytest.approx(static.nats, abs=1e-12)
    assert (score.tokens, score.byte_count) == (static.tokens, static.byte_count)


def test_learning_helps_on_a_text_that_repeats(model):
    tokens = torch.tensor([1, 4, 2, 6, 3] * 20)
    static = carried_nats(model.run, model.head, tokens)
    options = {"parameters": model.parameters(), "learning_rate": 0.3}
    assert dynamic_nats(model.run, model.head, tokens, **options).perplexity < 0.5 * static.perplexity


def test_the_weights_return_bit_for_bit_and_keep_their_gradients(model):
    before, storage = values(model), [p.data_ptr() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with torch.no_grad():  # as evaluation loops call it
        dynamic_nats(model.run, model.head, text(), parameters=model.parameters(), learning_rate=0.5, decay=0.01)
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert [p.data_ptr() for p in model.parameters()] == storage


def test_the_weights_return_after_an_error(model):
    before, calls = values(model), []

    def run(inputs, state, resets):
        calls.append(values(model))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return model.run(inputs, state, resets)

    with pytest.raises(KeyboardInterrupt):
        dynamic_nats(run, model.head, text(), parameters=model.parameters(), learning_rate=0.5)
    assert not all(torch.equal(a, b) for a, b in zip(calls[2], before, strict=True))  # it had learned
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))


def test_states_of_any_nesting_are_cut_off_from_their_history(model):
    def run(inputs, state, resets):
        inner = None if state is None else state["layers"][0][0]
        assert inner is None or not inner.h.requires_grad
        hidden, inner = model.run(inputs, inner, resets)
        return hidden, {"layers": [(inner,)], "steps": 3, "extra": None}

    options = {"parameters": list(model.parameters()), "learning_rate": 0.1}
    expected = dynamic_nats(model.run, model.head, text(), **options)
    assert dynamic_nats(run, model.head, text(), **options) == expected


class TestWhatDoesNotFit:
    def score(self, model, run=None, **options):
        options = {"parameters": model.parameters(), "learning_rate": 0.1} | options
        return dynamic_nats(run or model.run, model.head, text(), **options)

    def test_options(self, model):
        for name in ("learning_rate", "decay", "epsilon"):
            with pytest.raises(ValueError, match=f"{name} is -1"):
                self.score(model, **{name: -1.0})
        with pytest.raises(ValueError, match="segment_length is 0"):
            self.score(model, segment_length=0)
        with pytest.raises(ValueError, match="scales do not have the shapes"):
            self.score(model, scales=[torch.ones(2)])
        with pytest.raises(ValueError, match="scales are all zero"):
            self.score(model, scales=[torch.zeros_like(p) for p in model.parameters()])
        with pytest.raises(ValueError, match="lanes is 30 but the text predicts only 22"):
            gradient_scales(model.run, model.head, text(), parameters=model.parameters(), lanes=30)

    def test_parameters(self, model):
        with pytest.raises(ValueError, match="at least one"):
            self.score(model, parameters=[])
        with pytest.raises(ValueError, match="no gradient arrives"):
            self.score(model, parameters=TinyModel().parameters())
        model.requires_grad_(False)
        with pytest.raises(ValueError, match="require a gradient"):
            self.score(model)

    def test_a_run_without_gradients(self, model):
        for p in model.head.parameters():
            p.requires_grad_(False)
        with pytest.raises(ValueError, match="run must not switch gradients off"):
            self.score(model, torch.no_grad()(model.run), parameters=[model.recurrent])
