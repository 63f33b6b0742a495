"""Schedules, free bits, target rate, capacity, aggressive training."""

import math

import pytest
import torch

from hybridgen.objectives.variational import AggressiveTraining, FreeBits, KLControl, Schedule


class TestSchedules:
    def test_shapes(self):
        linear = Schedule("linear", start=0.1, steps=100)
        assert [linear(0), linear(50), linear(100), linear(999)] == pytest.approx([0.1, 0.55, 1.0, 1.0])
        # Sentence-VAE: 1 / (1 + exp(-k (step - x0))), k = 0.0025, x0 = 2500
        logistic = Schedule("logistic", steps=5000, steepness=12.5)
        for step in (0, 1000, 2500, 4000, 9000):
            assert logistic(step) == pytest.approx(1 / (1 + math.exp(-0.0025 * (step - 2500))))
        cosine = Schedule("cosine", steps=10, stop=2.0)
        assert [cosine(0), cosine(5), cosine(10), cosine(11)] == pytest.approx([0, 1, 2, 2])
        assert Schedule("constant", stop=0.4)(123) == 0.4

    def test_cyclical_rises_in_every_cycle_after_its_zero_phase(self):
        cyclical = Schedule("cyclical", steps=100, zero=0.5, ratio=0.25, cycles=2)
        for cycle in (0, 100):
            assert cyclical(cycle) == cyclical(cycle + 49) == 0
            assert cyclical(cycle + 62) == pytest.approx(12 / 25)
            assert cyclical(cycle + 75) == cyclical(cycle + 99) == 1
        assert cyclical(200) == cyclical(250) == 1  # after the last cycle
        assert Schedule("cyclical", steps=100)(100) == 0  # without an end

    def test_epochs_are_steps_once_their_number_is_known(self):
        schedule = Schedule("linear", epochs=2.5)
        with pytest.raises(ValueError, match="set steps_per_epoch"):
            schedule(1)
        schedule.steps_per_epoch = 40
        assert schedule(50) == pytest.approx(0.5)
        assert not schedule.settled(99)
        assert schedule.settled(100)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "linaer"}, "kind is 'linaer'"),
            ({"kind": "linear"}, "either steps or epochs"),
            ({"kind": "linear", "steps": 3, "epochs": 1}, "either steps or epochs"),
            ({"kind": "linear", "steps": 0}, "steps is 0"),
            ({"kind": "constant", "steps": 5}, "constant schedule has no steps"),
            ({"start": 0.0, "stop": 1.0}, "constant schedule has no start"),
            ({"kind": "linear", "steps": 5, "cycles": 2}, "linear schedule has no cycles"),
            ({"kind": "cosine", "steps": 5, "steepness": 2.0}, "cosine schedule has no steepness"),
            ({"kind": "cyclical", "steps": 5, "steepness": 2.0}, "cyclical schedule has no steepness"),
            ({"kind": "cyclical", "steps": 5, "zero": 0.7, "ratio": 0.5}, "add up to at most 1"),
            ({"kind": "cyclical", "steps": 5, "rise": "step"}, "rise is 'step'"),
        ],
    )
    def test_mistakes_are_told(self, options, message):
        with pytest.raises(ValueError, match=message):
            Schedule(**options)


class TestFreeBits:
    kl = torch.tensor([[0.0, 1.0, 4.0, 0.5], [0.4, 3.0, 0.0, 0.5]])

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            # Batch means by dimension: 0.2, 2, 2, 0.5
            ({"nats": 1.0}, 1 + 2 + 2 + 1),
            ({"nats": 1.0, "over": "element"}, ((1 + 1 + 4 + 1) + (1 + 3 + 1 + 1)) / 2),
            ({"nats": 3.0, "kind": "total"}, 4.7),
            ({"nats": 5.0, "kind": "total"}, 5.0),
            ({"nats": 5.0, "kind": "total", "over": "element"}, (5.5 + 5.0) / 2),
            ({"nats": 2.3, "kind": "group", "groups": 2}, 2.3 + 2.5),
            ({"nats": 0.0}, 4.7),
        ],
    )
    def test_floors(self, options, expected):
        assert float(FreeBits(**options)(self.kl)) == pytest.approx(expected)

    def test_what_is_below_the_floor_has_no_gradient(self):
        kl = self.kl.clone().requires_grad_()
        FreeBits(1.0)(kl).backward()
        assert torch.equal(kl.grad, torch.tensor([[0.0, 0.5, 0.5, 0.0]]).expand(2, 4))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"nats": -1}, "nats is -1"),
            ({"nats": 1, "kind": "dim"}, "kind is 'dim'"),
            ({"nats": 1, "over": "time"}, "over is 'time'"),
            ({"nats": 1, "groups": 2}, "groups go with kind 'group'"),
            ({"nats": 1, "kind": "group"}, "groups go with kind 'group'"),
        ],
    )
    def test_mistakes_are_told(self, options, message):
        with pytest.raises(ValueError, match=message):
            FreeBits(**options)
        with pytest.raises(ValueError, match="does not divide the 4"):
            FreeBits(1, kind="group", groups=3)(self.kl)


class TestControl:
    def test_alone_it_is_the_mean_over_sequences(self):
        kl = torch.rand(3, 5)
        loss, plain, weight = KLControl()(kl, step=7)
        assert float(loss) == float(plain) == pytest.approx(float(kl.sum() / 3))
        assert weight == 1.0

    def test_everything_composes(self):
        kl = torch.rand(3, 5)
        control = KLControl(weight=2.0, schedule={"kind": "linear", "steps": 10}, free_bits={"nats": 0.6})
        loss, plain, weight = control(kl, step=5)
        assert weight == pytest.approx(1.0)
        assert float(loss) == pytest.approx(float(kl.mean(0).clamp(min=0.6).sum()))
        assert float(plain) == pytest.approx(float(kl.sum() / 3))

    @pytest.mark.parametrize("over", ["batch", "element"])
    @pytest.mark.parametrize("extra", [{}, {"target_rate": 4.0}, {"capacity": {"stop": 3.0, "steps": 10}}])
    def test_padding_never_counts(self, over, extra):
        lengths = torch.tensor([4, 2, 1])
        mask = torch.arange(4) < lengths.unsqueeze(1)
        kl = torch.rand(3, 4, 2)
        control = KLControl(free_bits={"nats": 0.5, "over": over}, **extra).eval()
        clean = kl.clone().requires_grad_()
        dirty = kl.masked_fill(~mask.unsqueeze(-1), torch.nan).requires_grad_()
        wide = torch.cat([dirty, torch.full((3, 3, 2), torch.inf)], 1)
        wide_mask = torch.cat([mask, torch.zeros(3, 3, dtype=torch.bool)], 1)
        results = [control(k, step=3, mask=m) for k, m in ((clean, mask), (dirty, mask), (wide, wide_mask))]
        for result in results[1:]:
            torch.testing.assert_close(result.loss, results[0].loss)
            torch.testing.assert_close(result.kl, results[0].kl)
        assert float(results[0].kl) == pytest.approx(float(kl[mask].sum() / 3), rel=1e-5)
        for result, leaf in zip(results, (clean, dirty), strict=False):
            result.loss.backward()
            assert torch.equal(leaf.grad[~mask], torch.zeros(5, 2))
        torch.testing.assert_close(clean.grad, dirty.grad)

    def test_no_valid_latent_costs_nothing(self):
        kl = torch.rand(2, 3, 4, requires_grad=True)
        terms = KLControl(free_bits={"nats": 0.1})(kl, step=0, mask=torch.zeros(2, 3, dtype=torch.bool))
        assert float(terms.loss.detach()) == float(terms.kl) == 0

    def test_one_step_per_sequence_is_a_global_latent(self):
        kl = torch.rand(4, 3)
        control = KLControl(free_bits={"nats": 0.55})
        assert torch.equal(control(kl, step=0).loss, control(kl.unsqueeze(1), step=0).loss)

    def test_a_target_rate_is_reached(self):
        # loss = reconstruction(KL) + KL with a reconstruction that gains 0.4 nats for each nat: alone, KL goes to 0.
        control = KLControl(target_rate={"nats": 3.0, "rate": 0.01, "damping": 0.3})
        rate = torch.zeros(1, 1, requires_grad=True)
        optimizer = torch.optim.SGD([rate], lr=0.2)
        for step in range(400):
            kl = torch.nn.functional.softplus(rate)
            loss = 10 - 0.4 * kl.sum() + 0.01 * kl.sum() ** 2 + control(kl, step=step).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float(torch.nn.functional.softplus(rate)) == pytest.approx(3.0, abs=0.05)
        # At rest the multiplier is the slope of what is left: 1 - 0.4 + 0.02 * 3.
        assert float(control.multiplier) == pytest.approx(0.66, abs=0.02)

    def test_a_batch_without_a_finite_kl_does_not_move_the_multiplier(self):
        control = KLControl(target_rate={"nats": 3.0, "rate": 0.001})
        for value in (1.0, float("nan"), float("inf"), 1.0):
            control(torch.full((2, 1), value, requires_grad=True), step=0)
        assert float(control.multiplier) == pytest.approx(0.004)

    def test_the_multiplier_is_saved_and_rests_in_evaluation(self):
        control = KLControl(target_rate=2.0)
        control(torch.zeros(2, 3), step=0)
        assert float(control.multiplier) == pytest.approx(0.002)
        again = KLControl(target_rate=2.0)
        again.load_state_dict(control.state_dict())
        assert torch.equal(again.multiplier, control.multiplier)
        again.eval()
        again(torch.zeros(2, 3), step=0)
        with torch.no_grad():
            control(torch.zeros(2, 3), step=0)
        assert torch.equal(again.multiplier, control.multiplier)

    def test_capacity(self):
        control = KLControl(capacity={"stop": 10.0, "steps": 100, "gamma": 5.0})
        kl = torch.full((2, 4), 1.0)
        assert float(control(kl, step=0).loss) == pytest.approx(5 * 4)
        assert float(control(kl, step=40).loss) == pytest.approx(0.0)
        assert float(control(kl, step=1000).loss) == pytest.approx(5 * 6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"weight": -1}, "weight is -1"),
            ({"schedule": {"knd": "linear"}}, "did you mean 'kind'"),
            ({"schedule": "linear"}, "schedule is 'linear': give a mapping"),
            ({"free_bits": {}}, "free_bits need nats"),
            ({"free_bits": {"nat": 1}}, "did you mean 'nats'"),
            ({"target_rate": 5, "capacity": {"stop": 1, "steps": 1}}, "give one of them"),
            ({"target_rate": 0}, "target_rate nats is 0"),
            ({"target_rate": {"nats": 5, "speed": 1}}, "no option 'speed'"),
            ({"capacity": {"steps": 5}}, "capacity needs stop"),
            ({"capacity": {"stop": 5, "steps": 5, "gamma": 0}}, "gamma is 0"),
        ],
    )
    def test_mistakes_are_told(self, options, message):
        with pytest.raises(ValueError, match=message):
            KLControl(**options)

    def test_shapes_are_checked(self):
        with pytest.raises(ValueError, match="kl must have shape"):
            KLControl()(torch.zeros(3), step=0)
        with pytest.raises(ValueError, match="mask must be bool"):
            KLControl()(torch.zeros(3, 4), step=0, mask=torch.ones(3, 4, dtype=torch.bool))


class TestAggressive:
    def drive(self, machine, losses):
        parts = []
        for loss in losses:
            parts.append(machine.part)
            machine.step(loss)
        return parts

    def test_the_encoder_goes_on_while_its_loss_falls(self):
        machine = AggressiveTraining(window=2, longest=100)
        # Windows of two: 10, 8, 8: the third is not lower, so then comes the decoder, and all begins again.
        parts = self.drive(machine, [5, 5, 4, 4, 4, 4, 9, 5, 5, 5, 5, 9])
        assert parts == ["encoder"] * 6 + ["decoder"] + ["encoder"] * 4 + ["decoder"]

    def test_an_inner_loop_has_an_end(self):
        parts = self.drive(AggressiveTraining(window=2, longest=5), [10 - i for i in range(6)])
        assert parts == ["encoder"] * 5 + ["decoder"]

    def test_it_stops_for_good_when_the_information_no_longer_rises(self):
        machine = AggressiveTraining()
        assert machine.observe(0.5)
        assert machine.observe(0.7)
        assert not machine.observe(0.6)
        assert not machine.observe(9.0)
        assert self.drive(machine, [1.0, 2.0]) == ["both", "both"]
        patient = AggressiveTraining(patience=2)
        assert [patient.observe(x) for x in (1, 0.5, 2, 1, 1)] == [True, True, True, True, False]

    def test_its_state_is_saved(self):
        machine = AggressiveTraining(window=3)
        machine.observe(0.2)
        self.drive(machine, [3, 2, 1, 5, 5])
        again = AggressiveTraining(window=3)
        again.load_state_dict(machine.state_dict())
        losses = [4, 3, 9, 1, 1, 1, 2, 2, 2, 2]
        assert self.drive(again, losses) == self.drive(machine, losses)
        assert again.state_dict() == machine.state_dict()

    def test_mistakes_are_told(self):
        with pytest.raises(ValueError, match="window is 0"):
            AggressiveTraining(window=0)
