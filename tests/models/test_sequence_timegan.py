"""The timegan mode of the sequence GAN: its networks, its losses, its parts of training, and that it learns."""

import math

import pytest
import pytorch_lightning as pl
import torch
from test_sequence_gan import model_of, sines, train
from test_sequence_gan_parts import LAYOUT, LENGTHS, MASK, a_sample

from hybridgen.data import SeriesBatch
from hybridgen.evaluation.series import mean_discrepancy
from hybridgen.models.sequence_gan_output import shown
from hybridgen.models.sequence_timegan import StepEmbedder, TimeGANGenerator, step_code_critic

SIZE = 4


def networks(steps_per_call=1, **stack):
    torch.manual_seed(0)
    stack = {"cell": "gru", "hidden_size": 5} | stack
    noise = {"sequence_noise": 3, "step_noise": 2, "steps_per_call": steps_per_call}
    return StepEmbedder(LAYOUT, stack, SIZE), TimeGANGenerator(LAYOUT, stack, code_size=SIZE, **noise)


def a_batch(junk=0.0):
    sample = a_sample(junk)
    seen = (torch.arange(180).reshape(4, 5, 9) % 4 > 0) & MASK.unsqueeze(-1)
    return SeriesBatch(**sample._asdict(), mask=seen, indices=torch.arange(4))


def test_padding_and_missing_cells_have_no_influence_on_any_loss():
    """What is not there is not a number, and neither losses nor gradients know."""
    embedder, generator = networks()
    found = []
    for junk in (0.0, math.nan, 77.0):
        batch = a_batch(junk)
        codes = embedder(batch)
        assert not codes.values[~MASK].any()
        losses = (
            generator.reconstruction_loss(codes, batch.values, shown(batch.values, batch.mask, batch.lengths)),
            generator.supervised_loss(codes),
        )
        learning = [*embedder.parameters(), *generator.supervisor.parameters(), *generator.recovery.parameters()]
        found.append([*losses, *torch.autograd.grad(sum(losses), learning)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("steps_per_call", [1, 2, 5])
def test_padding_has_no_influence_on_what_is_generated(steps_per_call):
    _, generator = networks(steps_per_call)
    noise = generator.draw(4, 5, torch.Generator().manual_seed(0))
    sample = a_sample(math.nan)
    made = generator(noise, lengths=LENGTHS, labels=sample.labels, conditions=sample.conditions)
    assert made.values.shape == (4, 5, 9)
    assert not made.values[~MASK].any()
    clean = a_sample()
    whole = generator(noise, lengths=None, labels=clean.labels, conditions=clean.conditions)
    torch.testing.assert_close(made.values[MASK], whole.values[MASK])
    torch.testing.assert_close(made.attributes, whole.attributes)


def test_supervised_loss_is_of_the_next_step_and_of_steps_that_are_there():
    embedder, generator = networks()
    codes = embedder(a_batch())
    said, errors = generator.supervise(codes).values, []
    for row, length in enumerate(LENGTHS.tolist()):
        errors += [(said[row, t] - codes.values[row, t + 1]).square().mean() for t in range(length - 1)]
    torch.testing.assert_close(generator.supervised_loss(codes), torch.stack(errors).mean())
    short = codes._replace(values=codes.values[:, :1], lengths=None, conditions=codes.conditions[:, :1])
    assert generator.supervised_loss(short) == 0


def test_only_the_critic_looks_ahead():
    """Also where the option says that stacks do: the supervisor would see what it is to say."""
    embedder, generator = networks(bidirectional=True)
    batch, later = a_batch(), a_batch()
    later.values[0, 3:] += 1.0
    codes, others = embedder(batch), embedder(later)
    assert torch.equal(codes.values[0, :3], others.values[0, :3])
    assert not torch.equal(codes.values[0, 3:], others.values[0, 3:])
    assert torch.equal(generator.supervise(codes).values[0, :3], generator.supervise(others).values[0, :3])
    stack = {"cell": "gru", "hidden_size": 5}
    critic = step_code_critic(LAYOUT, SIZE, stack=stack, scores="steps", minibatch=False, spectral_norm=False)
    assert not torch.equal(critic(codes).steps[0, :3], critic(others).steps[0, :3])


def test_parts_of_training_change_their_networks_alone():
    """The autoencoder, the supervisor, and then all; the average follows the generator from there."""
    weights, changed = [], []

    def now(model):
        parts = model.generator
        named = {
            "embedder": model.embedder, "recovery": parts.recovery, "supervisor": parts.supervisor,
            "codes": parts.codes, "critic": model.critic, "average": model.average.module,
        }  # fmt: skip
        return {n: torch.cat([p.detach().flatten() for p in part.parameters()]) for n, part in named.items()}

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, model, *_):
            weights.append(now(model))

        def on_train_batch_end(self, trainer, model, *_):
            after = now(model)
            changed.append({n for n, w in weights[-1].items() if not torch.equal(w, after[n])})

    model = model_of("timegan", autoencoder_steps=2, supervisor_steps=2)
    train(model, sines(), 6, callbacks=[Watch()], enable_checkpointing=False, limit_val_batches=0)
    assert changed[:4] == [{"embedder", "recovery"}] * 2 + [{"supervisor"}] * 2
    assert changed[4] == changed[5] == {"embedder", "recovery", "supervisor", "codes", "critic", "average"}
    assert all(p.requires_grad for p in model.generator.parameters())


@pytest.mark.parametrize(
    ("options", "learns"),
    [
        ({}, True),
        ({"critic_threshold": 1e9}, False),
        ({"critic_threshold": 1e9, "accumulate_batches": 2}, False),
        ({"critic_threshold": 1e9, "loss": "wasserstein"}, True),
        ({"critic_threshold": None}, True),
    ],
    ids=str,
)
def test_critic_rests_below_its_threshold(options, learns):
    before = {}

    class Look(pl.Callback):
        def on_train_start(self, trainer, model):
            before.update({n: p.detach().clone() for n, p in model.critic.named_parameters()})

    model = model_of("timegan", autoencoder_steps=1, supervisor_steps=1, **options)
    train(model, sines(), 6, callbacks=[Look()], enable_checkpointing=False, limit_val_batches=0)
    assert any(not torch.equal(p, before[n]) for n, p in model.critic.named_parameters()) == learns


def test_cosine_begins_with_each_part():
    model = model_of("timegan", autoencoder_steps=2, supervisor_steps=2, warmup_steps=0, final_learning_rate=0.0)
    rates = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append(trainer.optimizers[1].param_groups[0]["lr"])

    train(model, sines(), 6, callbacks=[Look()], enable_checkpointing=False, limit_val_batches=0)
    torch.testing.assert_close(torch.tensor(rates), torch.tensor([5e-4, 2.5e-4] * 3))


def test_timegan_mode_learns_sines():
    data = sines(num_series=300, length=12, batch_size=32)
    own = {"loss": "non_saturating", "penalty": "none", "scores": "steps", "minibatch": False, "betas": (0.9, 0.999)}
    sizes = {"stack": {"cell": "gru", "hidden_size": 16}, "code_size": 8, "average_decay": 0.98, "warmup_steps": 5}
    rates = {"autoencoder_learning_rate": 2e-2, "learning_rate": 3e-3}
    model = model_of("timegan", autoencoder_steps=100, supervisor_steps=20, **own, **sizes, **rates)
    trainer = train(model, data, 180, limit_val_batches=0)
    real = data.sequences("train").batch().values
    discrepancy = mean_discrepancy(real, model.generate_features(300).values).squared
    collapsed = mean_discrepancy(real, real.mean((0, 1)).expand_as(real) + 0.01 * torch.randn_like(real)).squared
    assert trainer.callback_metrics["train/reconstruction"] < 0.5
    assert discrepancy < 0.5 * collapsed
