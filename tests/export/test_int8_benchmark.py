"""The benchmark of int8 exports runs, and its figures mean what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybridgen import codecs
from hybridgen.models import LanguageModel

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_int8.py"
TEXT = "the cat sat on the mat; the dog sat on the log.\n" * 20


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=600)


@pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="int8 products need FBGEMM, an x86 processor"
)
def test_figures_of_steps_and_of_a_checkpoint(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for part in ("train", "valid", "test"):
        (texts / f"{part}.txt").write_text(TEXT)
    torch.manual_seed(0)
    codec = codecs.CharacterCodec.train([TEXT])
    model = LanguageModel(stack={"cell": "gru", "hidden_size": 32}, embedding_size=32, codec=codec.to_config())
    saved = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "model.ckpt")
    config = tmp_path / "config.yaml"
    data = {"class_path": "hybridgen.data.TextData", "init_args": {"source": str(texts), "codec": "characters"}}
    config.write_text(json.dumps({"model": {}, "data": data}))

    out = tmp_path / "int8.json"
    given = ("--ckpt", tmp_path / "model.ckpt", "--config", config, "--tokens", 200, "--lanes", 4)
    finished = run("--quick", *given, "--out", out)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(out.read_text())
    assert [(row["cell"], row["width"]) for row in found["steps"]] == [("lstm", 32)] * 2
    for row in (*found["steps"], found["trained"]["step"]):
        low, high = row["quartiles"]
        assert 0 < low <= row["speed_up"] <= high
    trained = found["trained"]
    assert trained["int8_bytes"] < trained["float32_bytes"] / 2
    loss = trained["nats_per_token"]
    assert loss["tokens"] == 196  # four lanes of 49, whose first element is only read
    assert loss["float32"] == pytest.approx(float(torch.tensor(codec.vocab_size).log()), abs=0.5)
    for way in ("int8_weights", "int8_products"):
        assert 0 < abs(loss[way]["change"]) < 0.05


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ckpt", __file__), "--ckpt and --config go together"),
        (("--ckpt", "nowhere.ckpt", "--config", __file__), "there is no file nowhere.ckpt"),
        (("--sizes", 0), "at least 1"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, said):
    finished = run(*arguments)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr
