"""A training that cannot start leaves no run folder behind; one that has begun keeps its own."""

from command_line import hybridgen

from hybridgen.reliability.run_choice import lock, unlock


def test_a_start_that_fails_on_its_data_leaves_no_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_text("no picture")
    options = ["--config", "variational_rnn/digits", "--data.init_args.source", "pictures", "--wandb", "off"]
    finished = hybridgen("fit", *options, cwd=tmp_path)
    assert finished.returncode == 2, finished.stderr
    assert "pictures" in finished.stderr
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_folder_with_anything_in_it_stays(tmp_path):
    for name in ("begun", "empty"):
        (tmp_path / name).mkdir()
        lock(tmp_path / name)
    (tmp_path / "begun" / "config.yaml").write_text("model: null\n")
    unlock()
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]
    lock(tmp_path / "begun")  # it can be had again
    unlock()
