"""What `hybridgen play` refuses, in one sentence each."""

import socket
import subprocess
import sys

import pytest
import torch

from hybridgen.cli import main


def refusal(arguments, capsys):
    assert main(["play", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0, error
    assert error.startswith("hybridgen: error: ")
    return error


@pytest.fixture(autouse=True)
def _handlers_as_they_were():
    import signal

    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(["--ckpt", str(tmp_path / "none.ckpt"), "--port", str(port)], capsys)
    assert f"--port: {port} is taken on 127.0.0.1" in said
    assert f"--port {port + 1}" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "65536"], "--port is 65536"),
        (["--port", "-1"], "--port is -1"),
        (["--host", "192.0.2.1", "--port", "0"], "192.0.2.1 is no address of this machine"),
        (["--host", "no such host", "--port", "0"], "there is no host 'no such host'"),
    ],
)
def test_an_address_that_cannot_be_is_named(options, said, capsys):
    assert said in refusal(["--ckpt", "none.ckpt", *options], capsys)


def test_without_gradio_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'hybridgen[play]'" in refusal(["--ckpt", "none.ckpt", "--port", "0"], capsys)


def test_checkpoints_that_it_cannot_show_are_named(checkpoint, tmp_path, capsys):
    pytest.importorskip("gradio", reason="the page needs the extra `play`")
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    any_port = ["--port", "0"]
    assert f"no checkpoint at {tmp_path / 'none.ckpt'}" in refusal(
        ["--ckpt", str(tmp_path / "none.ckpt"), *any_port], capsys
    )
    assert "is no checkpoint of a hybridgen model" in refusal(["--ckpt", str(foreign), *any_port], capsys)
    one = checkpoint("language")
    capsys.readouterr()
    assert "is given twice" in refusal(["--ckpt", one, "--ckpt", one, *any_port], capsys)


@pytest.mark.parametrize(
    ("options", "said"), [(["--port", "many"], "invalid int value"), (["--share"], "there is no option '--share'")]
)
def test_options_that_do_not_fit_are_named(options, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["play", "--ckpt", "none.ckpt", *options])
    assert said in capsys.readouterr().err


def test_its_help_waits_for_nothing_heavy():
    code = (
        "import sys; from hybridgen.cli import main\n"
        "try: main(['play', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'gradio', 'uvicorn', 'numpy'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--no-browser" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "[]"
