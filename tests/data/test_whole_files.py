"""Files are written whole or not at all, and what is no file is written into."""

import os
import threading
from pathlib import Path

import pytest

from hybridgen.commands.writing import write_json_lines
from hybridgen.data.files import is_special, write_text


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    write_text(path, "after")
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_fails_leaves_what_was_there_and_files_of_like_names(tmp_path):
    path, other = tmp_path / "a.jsonl", tmp_path / "a.jsonl.partial"
    path.write_text("before")
    other.write_text("somebody's own")

    def rows():
        yield {"n": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_json_lines(path, rows())
    assert (path.read_text(), other.read_text()) == ("before", "somebody's own")
    assert len(os.listdir(tmp_path)) == 2


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("made", "made again"):
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text


def test_a_pipe_is_written_into(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_json_lines(pipe, [{"n": 1}, {"n": 2}])
    reader.join(timeout=60)
    assert read == ['{"n": 1}\n{"n": 2}\n']
    assert is_special(pipe)
    assert os.listdir(tmp_path) == ["pipe"]


def test_devices_are_special_and_a_folder_is_refused(tmp_path):
    assert is_special(Path("/dev/null"))
    write_text(Path("/dev/null"), "gone")
    assert is_special(Path("/dev/null"))  # still a device
    with pytest.raises(ValueError, match="Is a directory"):
        write_json_lines(tmp_path, [{}])
