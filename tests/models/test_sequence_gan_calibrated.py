"""How a sequence GAN in latent mode uses its linear path and its calibration."""

import copy

import pytest
import torch
from test_sequence_gan import model_of, sines, train

import hybridgen
from hybridgen.models import SequenceGAN
from hybridgen.models.sequence_gan_training import enough


def trained(**options):
    model = model_of("latent", **options)
    trainer = train(model, sines(), 6)
    return model, trainer


def test_samples_have_the_quantiles_and_codes_the_covariance_of_the_data():
    model, trainer = trained()
    real = trainer.datamodule.sequences("train").batch().values
    made = model.generate_features(1000, seed=3).values
    for share in (0.1, 0.5, 0.9):
        for feature in range(real.shape[2]):
            wanted, found = (x[..., feature].flatten().quantile(share) for x in (real, made))
            torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)
    model.hparams.calibrate = False
    plain = model.generate_features(1000, seed=3).values
    assert not torch.allclose(plain, made)
    model.hparams.calibrate = True
    maps = model._maps()
    noise = model.generator.draw(2000, torch.Generator().manual_seed(9))
    with torch.no_grad():
        codes = maps.codes(model.average.module(noise, None)[:, : model.hparams.code_size])
    wanted = model.calibration.code_covariance
    assert (torch.cov(codes.T) - wanted).norm() < 0.2 * wanted.norm()


def test_maps_follow_the_weights(tmp_path):
    model, trainer = trained()
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    before = model.generate_features(5).values
    other = copy.deepcopy(model)
    torch.testing.assert_close(other.generate_features(5).values, before)
    # Other weights after as many updates: what was found for the old ones must not be used for them.
    changed = {n: v + 0.1 if n.startswith("average.module") else v for n, v in model.state_dict().items()}
    other.load_state_dict(changed)
    fresh = hybridgen.load(tmp_path / "one.ckpt")
    fresh.load_state_dict(changed)
    torch.testing.assert_close(other.generate_features(5).values, fresh.generate_features(5).values)
    assert not torch.allclose(other.generate_features(5).values, before)


@pytest.mark.parametrize("given", [False, True])
def test_the_linear_path_is_computed_whether_or_not_the_codec_is_given(given):
    data = sines()
    data.prepare_data()
    data.setup("fit")
    more = {"codec": data.codec.to_config(), "max_length": data.sequences("train").max_length} if given else {}
    options = dict(model_of("latent").hparams) | more
    model = SequenceGAN(**options)
    assert not given or model.autoencoder.needs_start
    train(model, data, 1, limit_val_batches=0)
    assert model.autoencoder.linear.write.any()
    assert not model.autoencoder.needs_start


def test_without_linear_path_or_calibration():
    model, _ = trained(linear_path=False, calibrate=False)
    assert model.autoencoder.linear is None
    assert model._maps() is None
    assert model.generate_features(3).values.isfinite().all()


def test_statistics_of_wide_sequences_are_of_fewer():
    assert enough(100, 10) == 100
    assert enough(10**6, 24 * 28) == 20_000
    assert enough(10**6, 16_000) == 3125
    assert enough(10**6, 10**9) == 1000
