"""Feedback of the direct mode of the sequence GAN: free running, teacher forcing, and the warm start."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from test_sequence_gan import model_of, sines, table, table_data, train  # noqa: F401
from test_sequence_gan_parts import LAYOUT, LENGTHS, MASK, a_sample

from hybridgen.data import SeriesBatch
from hybridgen.models.sequence_gan_output import shown
from hybridgen.models.sequence_gan_parts import RecurrentGenerator

CALLS = pytest.mark.parametrize("steps_per_call", [1, 2, 5])


def a_generator(steps_per_call=1, **stack):
    torch.manual_seed(0)
    stack = {"cell": "gru", "hidden_size": 5} | stack
    noise = {"sequence_noise": 3, "step_noise": 2, "steps_per_call": steps_per_call}
    generator = RecurrentGenerator(LAYOUT, stack, feedback=True, **noise)
    return generator, generator.draw(4, 5, torch.Generator().manual_seed(0))


@CALLS
@pytest.mark.parametrize("stack", [{}, {"cell": "lstm", "num_layers": 2, "layer_norm": True}], ids=["gru", "lstm"])
def test_its_own_outputs_as_teacher_give_the_same_sequence(steps_per_call, stack):
    generator, noise = a_generator(steps_per_call, **stack)
    sample = a_sample()
    given = {"lengths": LENGTHS, "labels": sample.labels, "conditions": sample.conditions}
    made = generator(noise, **given)
    logits = generator.logits(noise, **given, attributes=made.attributes, teacher=made.values)
    forced = generator.output(logits, noise["chance"])
    torch.testing.assert_close(forced[MASK], made.values[MASK])


@CALLS
def test_padding_has_no_influence(steps_per_call):
    """Neither on what is made, nor on the teacher-forced loss and its gradients; missing cells say nothing either."""
    generator, noise = a_generator(steps_per_call)
    clean = a_sample()
    whole = generator(noise, lengths=None, labels=clean.labels, conditions=clean.conditions)
    found = []
    for junk in (0.0, math.nan, 77.0):
        sample = a_sample(junk)
        given = {"lengths": LENGTHS, "labels": sample.labels, "conditions": sample.conditions}
        made = generator(noise, **given)
        assert not made.values[~MASK].any()
        torch.testing.assert_close(made.values[MASK], whole.values[MASK])
        seen = (torch.arange(180).reshape(4, 5, 9) % 4 > 0) & MASK.unsqueeze(-1)
        batch = SeriesBatch(**sample._asdict(), mask=seen, indices=torch.arange(4))
        logits = generator.logits(noise, **given, attributes=sample.attributes, teacher=sample.values)
        loss = generator.output.loss(logits, batch.values, shown(batch.values, batch.mask, batch.lengths))
        learning = [*generator.stack.parameters(), *generator.head.parameters()]
        found.append([loss, *torch.autograd.grad(loss, learning)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def test_gradients_flow_through_feedback():
    """Without a state, the last step depends on the first step's draw by what was made of it alone."""
    generator, noise = a_generator(cell="rnn")
    with torch.no_grad():
        for name, weight in generator.stack.named_parameters():
            if name.endswith("weight_hh"):
                weight.zero_()
    noise["steps"].requires_grad_()
    sample = a_sample()
    given = {"lengths": None, "labels": sample.labels, "conditions": sample.conditions}
    made = generator(noise, **given)
    (gradient,) = torch.autograd.grad(made.values[:, -1, :2].sum(), noise["steps"])
    assert (gradient[:, 0].abs().sum(-1) > 0).all()
    logits = generator.logits(noise, **given, attributes=made.attributes.detach(), teacher=made.values.detach())
    (gradient,) = torch.autograd.grad(logits[:, -1, :2].sum(), noise["steps"])
    assert not gradient[:, 0].any()
    assert gradient[:, -1].any()


def test_a_teacher_needs_feedback_and_feedback_a_teacher():
    generator, noise = a_generator()
    sample = a_sample()
    given = {"lengths": None, "labels": sample.labels, "conditions": sample.conditions}
    with pytest.raises(ValueError, match="reads a teacher's steps if it was made with feedback"):
        generator.logits(noise, **given, attributes=sample.attributes)


def test_warm_start_comes_first_and_the_critic_learns_after_it():
    """It counts in max_steps, and the cosine of the adversarial part begins after it."""
    options = {"feedback": True, "warm_start_steps": 2, "warmup_steps": 0, "final_learning_rate": 0.0}
    model, seen = model_of("direct", **options), []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            of_critic = len(trainer.optimizers[2].state_dict()["state"])
            seen.append((trainer.optimizers[1].param_groups[0]["lr"], of_critic > 0))

    trainer = train(model, sines(), 4, callbacks=[Look()], enable_checkpointing=False)
    assert trainer.global_step == 4
    assert [critic for _, critic in seen] == [False, False, True, True]
    torch.testing.assert_close(torch.tensor([rate for rate, _ in seen]), torch.tensor([5e-4, 2.5e-4] * 2))
    assert {"train/teacher_forced", "train/critic_loss"} <= set(trainer.callback_metrics)


def test_warm_start_learns_to_go_on():
    data = sines(num_series=200, length=10, batch_size=32)
    losses = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            losses.append(float(trainer.callback_metrics["train/teacher_forced"]))

    options = {"feedback": True, "warm_start_steps": 80, "learning_rate": 1e-2, "warmup_steps": 5}
    model = model_of("direct", stack={"cell": "gru", "hidden_size": 16}, **options)
    train(model, data, 80, callbacks=[Look()], enable_checkpointing=False, limit_val_batches=0)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("interrupted_at", [2, 4])
def test_a_resumed_run_is_the_uninterrupted_one(interrupted_at, tmp_path):
    """In the middle of the warm start, and at its end."""
    options = {"feedback": True, "warm_start_steps": 4}
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=interrupted_at, save_top_k=-1, filename="{step}")
    whole, resumed = model_of("direct", **options), model_of("direct", **options)
    train(whole, sines(), 6, callbacks=[keep])
    torch.manual_seed(123)
    train(resumed, sines(), 6, ckpt_path=tmp_path / f"step={interrupted_at}.ckpt")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_feedback_takes_all_that_a_table_can_hold(table):  # noqa: F811
    model = model_of("direct", feedback=True, warm_start_steps=3, steps_per_call=2)
    trainer = train(model, table_data(table), 6)
    assert math.isfinite(trainer.callback_metrics["val/mean_discrepancy"])
    made = model.generate_features(5, length=9, conditions=torch.rand(9, model.layout.num_conditions))
    assert made.values.shape[:2] == (5, 9)
    assert made.values.isfinite().all()
