"""What commands ask of options before anything heavy is imported."""

import pytest

from hybridgen.cli import main


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--ckpt", "x"],
        ["export", "--ckpt", "x", "--format", "torch"],
        ["tune", "--space", "hidden_size"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("out", ["afile", "afile/x", "afile/x/y"])
def test_a_folder_in_the_place_of_a_file(command, out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("here")
    assert main([*command, "--out", out]) == 2
    assert capsys.readouterr().err == "hybridgen: error: --out: afile is a file: give a folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["afile"]
