"""The ablation of the hybrid and the table of cells: what they train, and that they run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.mark.usefixtures("_scripts")
def test_every_variant_of_the_ablation_can_be_built():
    import ablation

    from hybridgen.models import SequenceVAEGAN

    for name in ablation.SETS:
        config = yaml.safe_load((ROOT / "experiments" / "sequence_vaegan" / f"{name}.yaml").read_text())
        built = {
            variant: SequenceVAEGAN(**(config["model"]["init_args"] | options))
            for variant, options in ablation.VARIANTS.items()
        }
        # Each part is missing somewhere, and nowhere twice.
        parts = {v: (m.hparams.reconstruction, m.hparams.adversarial, m.hparams.variational) for v, m in built.items()}
        assert len(set(parts.values())) == len(parts) == 4
        assert parts["full"] == ("both", True, True)


@pytest.mark.usefixtures("_scripts")
@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru", "mlstm"])
def test_cells_get_the_size_nearest_to_the_budget(cell):
    import cell_table

    given = yaml.safe_load(cell_table.CONFIG.read_text())["model"]["init_args"]
    budget = cell_table.size_of(given, "lstm", 64)
    stack, left_out = cell_table.fitting(given, cell, budget)
    found = {hidden: cell_table.size_of(given | {"stack": stack}, cell, hidden) for hidden in
             range(stack["hidden_size"] - 8, stack["hidden_size"] + 9, 8) if hidden}  # fmt: skip
    assert min(found, key=lambda hidden: abs(found[hidden] - budget)) == stack["hidden_size"]
    assert set(left_out) <= set(cell_table.FRAGILE)
    assert left_out == [] or cell in ("mingru", "mlstm")
    assert cell != "lstm" or stack["hidden_size"] == 64


@pytest.mark.usefixtures("_scripts")
def test_a_quick_look_keeps_apart_from_runs_that_count(tmp_path, monkeypatch):
    import ablation

    folders = []

    def fit(config, folder, seed):
        folders.append(folder)
        folder.mkdir(parents=True)

    monkeypatch.setattr(ablation, "fit", fit)
    monkeypatch.setattr(ablation, "scores", lambda *_: {"recall": 1.0})
    monkeypatch.setattr(ablation, "tested", lambda *_: {})
    monkeypatch.setattr(ablation, "parameters", lambda *_: 1)
    monkeypatch.setattr(ablation, "ROOT", tmp_path)
    monkeypatch.setattr(ablation, "configuration", lambda *_: {})
    command = ["ablation.py", "--sets", "stocks", "--variants", "vae", "--seeds", "0", "--runs", str(tmp_path / "runs")]
    for more in (["--quick"], []):
        monkeypatch.setattr("sys.argv", [*command, *more])
        assert ablation.main() == 0
    # The quick one is not taken for done, and its figures are not among the results.
    assert [folder.parent.name for folder in folders] == [
        "ablation-stocks-vae-seed0-quick", "ablation-stocks-vae-seed0"
    ]  # fmt: skip
    results = tmp_path / "experiments" / "results"
    assert [path.name for path in results.iterdir()] == ["sequence_vaegan-ablation-stocks.json"]
    assert (tmp_path / "runs" / "sequence_vaegan-ablation-stocks-quick.json").is_file()


@pytest.mark.slow
def test_the_ablation_runs_and_writes_its_table(tmp_path):
    home = Path(os.environ.get("HYBRIDGEN_DATA", "nowhere"))
    if not (home / "stocks" / "stock_data.csv").is_file():
        pytest.skip("stocks are not here: get them with `hybridgen data stocks`, and set HYBRIDGEN_DATA")
    command = [sys.executable, str(SCRIPTS / "ablation.py"), "--quick", "--sets", "stocks", "--variants", "vae"]
    places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    finished = subprocess.run([*command, *places], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads((tmp_path / "sequence_vaegan-ablation-stocks-quick.json").read_text())
    assert set(found["variants"]) == {"vae"}
    metrics = found["variants"]["vae"]["metrics"]
    assert {"discriminative_score", "recall", "memorisation_ratio", "test/elbo_per_frame", "seconds"} <= set(metrics)


@pytest.mark.usefixtures("_scripts")
def test_the_cell_zoo_compares_cells_and_draws_them(tmp_path, monkeypatch):
    import cell_zoo

    monkeypatch.setattr(cell_zoo, "add_jsb", lambda found: found["gru"]["metrics"].update(jsb=cell_zoo.summary([8.3])))
    options = ["--quick", "--cells", "gru", "mingru", "--tasks", "copy_memory", "adding", "--runs", str(tmp_path)]
    assert cell_zoo.main(options) == 0
    found = json.loads((tmp_path / "cells-zoo.json").read_text())["cells"]
    for task in ("copy_memory", "adding"):
        # Equal parameters: no further from each other than one step of the hidden size.
        counts = [found[cell][f"{task}_parameters"] for cell in ("gru", "mingru")]
        assert abs(counts[0] - counts[1]) < 0.15 * counts[0]
    # Three steps teach nothing: what is remembered is as good as a guess.
    assert all(1.9 < found[cell]["metrics"]["copy_memory"]["mean"] < 2.4 for cell in found)
    assert all(found[cell]["metrics"]["time_to_lstm"]["mean"] > 0 for cell in found)
    assert (tmp_path / "cell_zoo.png").read_bytes().startswith(b"\x89PNG")
    # What is done is not done again.
    noted = tmp_path / "adding-gru-72-seed0.json"
    noted.write_text(noted.read_text().replace('"value": ', '"value": 7'))
    before = json.loads(noted.read_text())["value"]
    assert cell_zoo.main(options) == 0
    assert json.loads((tmp_path / "cells-zoo.json").read_text())["cells"]["gru"]["metrics"]["adding"]["mean"] == before


@pytest.mark.usefixtures("_scripts")
def test_tasks_of_the_zoo_are_what_they_say():
    import zoo_tasks

    inputs, symbols = zoo_tasks.copy_batch(5, zoo_tasks.torch.Generator().manual_seed(0))
    assert inputs.shape == (5, 2 * zoo_tasks.REMEMBERED + zoo_tasks.DELAY)
    assert (inputs[:, : zoo_tasks.REMEMBERED] == symbols).all()
    assert (inputs == zoo_tasks.SYMBOLS + 1).sum(1).tolist() == [1] * 5
    # The signal is read when the first symbol is to be said.
    assert (inputs[:, -zoo_tasks.REMEMBERED] == zoo_tasks.SYMBOLS + 1).all()
    # Training goes down from the error of the untrained, which says about 0 for sums around 1.
    short = zoo_tasks.Recipe(steps=60, batch_size=32)
    assert zoo_tasks.adding("gru", 16, 0, short) < 0.25
