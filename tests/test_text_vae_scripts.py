"""The scripts around the text VAE run and write what they say."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybridgen.codecs import WordCodec
from hybridgen.models import TextVAE

SCRIPTS = Path(__file__).parent.parent / "scripts"


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_collapse_suite_writes_table_and_picture_and_runs_nothing_twice(tmp_path):
    command = [SCRIPTS / "collapse_suite.py", "--quick", "--quiet", "--out", tmp_path]
    first = run(*command, "--methods", "none", "--seeds", "0", "1")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("== ") == 2
    document = json.loads((tmp_path / "collapse.json").read_text())
    assert document["quick"]
    metrics = document["methods"]["none"]["metrics"]
    elbo = metrics["test/elbo_nats"]
    assert len(elbo["values"]) == 2
    assert elbo["mean"] == pytest.approx(sum(elbo["values"]) / 2, abs=1e-5)
    assert elbo["std"] > 0
    ceiling = metrics["test/mutual_information_ceiling"]["mean"]
    assert f"n = {round(math.exp(ceiling))} sentences" in first.stdout
    assert {"IWAE-3", "shuffled", "PPL", "AU"} <= set(first.stdout.split())
    assert (tmp_path / "collapse.png").read_bytes().startswith(b"\x89PNG")
    # What is finished is not run again; a result of another configuration is not taken for one.
    (tmp_path / "cyclical-seed0.json").write_text((tmp_path / "none-seed0.json").read_text())
    second = run(*command, "--methods", "none", "cyclical", "--seeds", "0")
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("== ") == 1
    assert "cyclical-seed0: the result that is there is of another configuration" in second.stderr
    methods = json.loads((tmp_path / "collapse.json").read_text())["methods"]
    assert methods["none"]["metrics"]["test/elbo_nats"]["values"] == elbo["values"][:1]
    cyclical = json.loads((tmp_path / "cyclical-seed0.json").read_text())
    assert cyclical["method"] == "cyclical"
    assert cyclical["configuration"]["model"]["init_args"]["kl"]["schedule"]["steps"] == 1
    assert not list(tmp_path.glob("*.partial"))


def test_collapse_suite_names_a_wrong_option(tmp_path):
    for options in (["--methods", "nothing"], ["--max_steps", "0"], ["--config", tmp_path / "none.yaml"]):
        finished = run(SCRIPTS / "collapse_suite.py", "--out", tmp_path / "out", *options)
        assert finished.returncode == 2
        assert "Traceback" not in finished.stderr


def test_benchmark_compares_equal_sizes(tmp_path):
    out = tmp_path / "benchmark.json"
    finished = run(SCRIPTS / "benchmark_text_vae.py", "--quick", "--threads", "1", "--out", out)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(out.read_text())
    sizes = found["parameters"]
    assert set(sizes) == {"TextVAE", "padded", "packed"}
    assert max(sizes.values()) < 1.01 * min(sizes.values())
    assert all(len(rates) == 2 and min(rates) > 0 for rates in found["rates"].values())
    assert set(found["ratios"]) == {"padded", "packed"}
    assert "TextVAE is faster by" in finished.stdout


def test_interpolate_text(tmp_path):
    small = {"encoder": {"hidden_size": 8}, "decoder": {"hidden_size": 8}, "embedding_size": 8, "latent_size": 4}
    model = TextVAE(**small, codec=WordCodec.train(["the cat sat on a mat\n"]).to_config())
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "vae.ckpt")
    finished = run(SCRIPTS / "interpolate_text.py", tmp_path / "vae.ckpt", "the cat", "a mat")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count(" nats  ") == 8
    assert all(title in finished.stdout for title in ("between the two", "by beam search", "from the prior"))
    wrong = run(SCRIPTS / "interpolate_text.py", tmp_path / "none.ckpt")
    assert wrong.returncode == 2
    assert "there is no checkpoint" in wrong.stderr
    assert "Traceback" not in wrong.stderr
