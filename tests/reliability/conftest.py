"""A small run that many tests look at."""

import pytest
from small_command import fit, write_config


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a configuration and a finished run `runs/small/0` that nobody interrupted."""
    folder = tmp_path_factory.mktemp("trained")
    write_config(folder)
    finished = fit("--save_every_batches", 3, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder
