"""Samples of piano rolls while a model trains."""

import pytorch_lightning as pl

from hybridgen.codecs import PianoRollCodec
from hybridgen.data import PianoRollData
from hybridgen.models import SequenceModel


def test_rolls_are_written_after_validations(tmp_path):
    model = SequenceModel(stack={"hidden_size": 8})
    (callback,) = model.run_callbacks(tmp_path)
    callback.every, callback.length = 2, 6
    fit = pl.Trainer(
        max_epochs=4,
        limit_train_batches=1,
        limit_val_batches=1,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    fit.fit(model, datamodule=PianoRollData(batch_size=8))
    found = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert found == [f"epoch-{epoch:04d}.{kind}" for epoch in (0, 2, 3) for kind in ("mid", "png")]
    assert PianoRollCodec().encode(tmp_path / "samples" / "epoch-0003.mid").shape[1] == 88
