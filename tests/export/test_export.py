"""`hybridgen export`: graphs that compute what the model does, weights that load without a trainer."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import hybridgen
from hybridgen import cells, codecs
from hybridgen.cli import main
from hybridgen.export import TokenNetwork, load_network, plain_network, write_graphs
from hybridgen.models import LanguageModel

TEXT = "the cat sat on the mat; the dog sat on the log. " * 3


def checkpoint(folder, **options):
    """A language model with weights that were never trained, as a checkpoint."""
    torch.manual_seed(0)
    codec = codecs.CharacterCodec.train([TEXT])
    given = {"stack": {"cell": "lstm", "hidden_size": 7}, "embedding_size": 5} | options
    model = LanguageModel(**given, codec=codec.to_config())
    path = folder / "model.ckpt"
    saved = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


def network_of(cell, **options):
    torch.manual_seed(0)
    stack = {"cell": cell, "input_size": 5, "hidden_size": 6, "num_layers": 2}
    return TokenNetwork(stack=stack, vocab_size=12, embedding_size=5, head="categorical", **options).eval()


@pytest.mark.parametrize("cell", ["lstm", "gru", "minlstm", "slstm"])
def test_graphs_of_torch_serve_other_batches_and_lengths(cell, tmp_path):
    network = network_of(cell)
    found = write_graphs(network, tmp_path, form="torch")
    assert max(found["largest_difference"].values()) < 1e-5
    # In pieces of other lengths, the state handed on, from the initial state that the description tells.
    described = json.loads((tmp_path / "export.json").read_text())
    tokens = torch.randint(12, (4, 9))
    state = tuple(torch.tensor([row] * 4) for row in described["initial_state"].values())
    graph = torch.export.load(tmp_path / described["files"]["sequence"]).module()
    first, state = graph(tokens[:, :6], state)
    second, _ = graph(tokens[:, 6:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), network(tokens)[0], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [name for name in cells.names() if name not in ("lstm", "gru", "minlstm", "slstm")])
def test_every_cell_becomes_a_graph(cell, tmp_path):
    assert max(write_graphs(network_of(cell), tmp_path, form="torch")["largest_difference"].values()) < 1e-4


@pytest.mark.parametrize("head", ["categorical", "adaptive"])
def test_onnx_runs_beside_the_model(head, tmp_path, capsys):
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="ONNX needs the extra `export`")
    import onnxruntime

    path = checkpoint(tmp_path, head=head)
    out = tmp_path / "onnx"
    assert main(["export", "--ckpt", str(path), "--format", "onnx", "--out", str(out)]) == 0
    assert "sequence: within" in capsys.readouterr().err
    described = json.loads((out / "export.json").read_text())
    model = hybridgen.load(path)

    # Greedy text by the runtime alone equals the model's, token by token.
    session = onnxruntime.InferenceSession(out / "step.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == described["inputs"]["step"]
    assert [o.name for o in session.get_outputs()] == described["outputs"]
    state = {name: np.array([row], np.float32) for name, row in described["initial_state"].items()}
    token, given = np.array([model.codec.encode("t")[0]]), [int(model.codec.encode("t")[0])]
    for _ in range(8):
        log_probs, *new = session.run(None, {"token": token, **state})
        state = dict(zip(state, new, strict=True))
        with torch.no_grad():
            wanted = model(torch.tensor([given]))[0][0, -1]
        np.testing.assert_allclose(log_probs[0], wanted.numpy(), atol=1e-4)
        token = log_probs.argmax(-1)
        given.append(int(token[0]))


@pytest.mark.parametrize("tied", [True, False])
def test_weights_load_without_lightning(tied, tmp_path):
    path = checkpoint(tmp_path, tie_weights=tied)
    out = tmp_path / "weights"
    assert main(["export", "--ckpt", str(path), "--format", "safetensors", "--out", str(out)]) == 0
    tokens = torch.tensor(hybridgen.load(path).codec.encode("the mat"))[None]
    with torch.no_grad():
        wanted = hybridgen.load(path)(tokens)[0]
        torch.testing.assert_close(hybridgen.load(out)(tokens)[0], wanted)
        torch.testing.assert_close(load_network(out)(tokens)[0], wanted)
    code = (
        "import sys; from hybridgen.export import load_network\n"
        f"network = load_network({str(out)!r}); tokens = network.codec.encode('cat')\n"
        "import torch; print(network(torch.tensor(tokens)[None])[0].shape[1])\n"
        "assert not any(name.startswith(('pytorch_lightning', 'wandb')) for name in sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.stdout.strip(), finished.returncode) == ("3", 0), finished.stderr


def test_weights_that_are_no_export_or_damaged_are_one_sentence(tmp_path, capsys):
    out = tmp_path / "weights"
    assert main(["export", "--ckpt", str(checkpoint(tmp_path)), "--format", "safetensors", "--out", str(out)]) == 0
    data = (out / "model.safetensors").read_bytes()
    for content, said in ((data[: len(data) // 2], "damaged"), (b"", "damaged")):
        (out / "model.safetensors").write_bytes(content)
        capsys.readouterr()
        assert main(["sample", "--ckpt", str(out), "--prompt", "the"]) == 2
        error = capsys.readouterr().err.strip()
        assert said in error
        assert error.count("\n") == 0
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"shared": ["a"]}, "config.json is missing or not what"),
        ({"shared": {"a": "nowhere"}}, "shares the weight 'nowhere', which"),
        ({"shared": {"a": ["b"]}}, "shares the weight ['b'], which"),
        ({"options": [1]}, "config.json is missing or not what"),
        ({"codec": 5}, "config.json is missing or not what"),
        ({"options": {}}, "stack"),
        ({"shared": {}}, "head"),
    ],
)
def test_a_configuration_of_weights_that_is_damaged_is_one_sentence(parts, said, tmp_path, capsys):
    out = tmp_path / "weights"
    assert main(["export", "--ckpt", str(checkpoint(tmp_path)), "--format", "safetensors", "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | parts))
    capsys.readouterr()
    assert main(["sample", "--ckpt", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    with pytest.raises(ValueError, match=r"export it again") as caught:
        load_network(out)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_models_have_no_token_graph():
    from hybridgen.models import SequenceGAN

    with pytest.raises(ValueError, match="a SequenceGAN has no network from token to token"):
        plain_network(SequenceGAN())


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    from hybridgen.export import graphs

    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="nats from the model"):
        write_graphs(network_of("rnn"), tmp_path, form="torch")
    assert not list(tmp_path.iterdir())
