"""Public sets arrive whole and right, or not at all: against a real server on this machine."""

import hashlib
import http.server
import io
import socket
import tarfile
import threading

import pytest

from hybridgen.data import DataError, download, fetch, public_sets
from hybridgen.data.public_sets import PUBLIC_SETS, PublicFile, PublicFolder, PublicSet

CONTENT = b"some public text\n" * 100_000  # more than a block


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/interrupted":
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.close_connection = True
        elif self.path == "/wrong":
            self.wfile.write(CONTENT[:-1] + b"!")
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def public(monkeypatch, tmp_path):
    """Make a set of one file known, with the cache in a new folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HYBRIDGEN_DATA", raising=False)

    def make(address, **known):
        known = known or {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
        file = PublicFile("train.txt", address, aliases=("set.train.txt",), **known)
        monkeypatch.setitem(PUBLIC_SETS, "set", PublicSet("set", "a set", "free", (file,)))
        return tmp_path / "cache" / "hybridgen" / "data" / "set"

    return make


def test_a_good_file_arrives_and_is_found(server, public):
    folder = public(f"{server}/good")
    lines = []
    (result,) = fetch("set", report=lines.append)
    assert result.path == folder / "train.txt"
    assert result.path.read_bytes() == CONTENT
    assert result.verified
    assert not result.was_there
    assert "licence: free" in "\n".join(lines)
    assert "verified" in lines[-1]
    assert [path.name for path in folder.iterdir()] == ["train.txt"]
    assert download.locate(PUBLIC_SETS["set"]) == [folder / "train.txt"]


def test_a_file_that_is_there_is_not_downloaded_again(server, public, tmp_path):
    public(f"{server}/good")
    fetch("set", to=tmp_path / "here", report=str)
    public("http://127.0.0.1:9/nobody")
    (result,) = fetch("set", to=tmp_path / "here", report=str)
    assert result.was_there
    assert result.path == tmp_path / "here" / "set" / "train.txt"


@pytest.mark.parametrize(
    ("path", "known", "message"),
    [
        ("/wrong", {}, "is not the public file .its checksum is not SHA-256"),
        ("/wrong", {"git_blob": "0" * 40}, "is not the public file .its checksum is not git blob 0000"),
        ("/good", {"sha256": "0" * 64, "size": 5}, "has 1700000 bytes but the public file has 5"),
        ("/interrupted", {}, "broke off after 850000 of 1700000 bytes: try again"),
        ("/missing", {}, "answers 404"),
    ],
)
def test_anything_else_leaves_nothing(server, public, path, known, message):
    folder = public(server + path, **known)
    with pytest.raises(DataError, match=message) as error:
        fetch("set", report=str)
    assert server + path in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder.parents[2]).exists()  # nor the cache, which was not there before
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=message):
        fetch("set", report=str)
    assert list(folder.iterdir()) == []


def test_a_failed_download_does_not_touch_what_is_there(server, public):
    folder = public(f"{server}/wrong")
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("older")
    with pytest.raises(DataError):
        fetch("set", report=str)
    assert [path.read_text() for path in folder.iterdir()] == ["older"]


def test_no_network_names_the_address_and_the_way_around(public):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/train.txt"
        public(address)
        with pytest.raises(DataError, match=rf"{address} cannot be reached .*`hybridgen data set --from DIR`"):
            fetch("set", report=str)


@pytest.mark.parametrize("name", ["train.txt", "set.train.txt", "set/train.txt"])
def test_a_local_copy_passes_the_same_check(public, tmp_path, name):
    folder = public("http://127.0.0.1:9/nobody")
    copy = tmp_path / "copy" / name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    (result,) = fetch("set", copy_from=tmp_path / "copy", report=str)
    assert result.verified
    assert result.path.read_bytes() == CONTENT
    result.path.unlink()
    copy.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DataError, match="is not the public file"):
        fetch("set", copy_from=tmp_path / "copy", report=str)
    assert list(folder.iterdir()) == []  # which was there before
    with pytest.raises(DataError, match=r"has no file train\.txt or set\.train\.txt"):
        fetch("set", copy_from=tmp_path, report=str)


def test_a_file_without_a_checksum_is_taken_and_said_to_be_unverified(server, public):
    public(f"{server}/good", sha256=None)
    lines = []
    (result,) = fetch("set", report=lines.append)
    assert not result.verified
    assert result.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert "NOT verified" in lines[-1]
    assert result.sha256 in lines[-1]


def test_a_file_is_recognised_by_its_name_in_git(server, public):
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    public(f"{server}/good", git_blob=blob)
    (result,) = fetch("set", report=str)
    assert result.verified


def test_a_folder_that_cannot_be_written(server, public, tmp_path):
    public(f"{server}/good")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .*--to"):
        fetch("set", to=tmp_path / "file", report=str)


def test_a_tilde_is_the_home_folder(server, public, tmp_path, monkeypatch):
    public(f"{server}/good")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (result,) = fetch("set", to="~/sets", report=str)
    assert result.path == tmp_path / "home" / "sets" / "set" / "train.txt"
    (result,) = fetch("set", copy_from="~/sets", to="copy", report=str)
    assert result.path.read_bytes() == CONTENT
    assert not (tmp_path / "~").exists()
    with pytest.raises(DataError, match=r"--to=~nobody\.here/x: there is no such user's home folder"):
        fetch("set", to="~nobody.here/x", report=str)


def test_what_has_arrived_stays_where_a_later_file_cannot_be_had(server, public, monkeypatch):
    folder = public(f"{server}/good")
    files = [PublicFile(f"{name}.txt", f"{server}/{name}") for name in ("good", "missing")]
    monkeypatch.setitem(PUBLIC_SETS, "set", PublicSet("set", "a set", "free", tuple(files)))
    with pytest.raises(DataError, match="answers 404"):
        fetch("set", report=str)
    assert [path.name for path in folder.iterdir()] == ["good.txt"]


def test_an_unknown_set_names_the_closest():
    with pytest.raises(DataError, match="there is no public set 'wikitext2': did you mean 'wikitext-2'"):
        fetch("wikitext2")


def test_the_registry_is_complete():
    texts = {"ptb", "tinyshakespeare", "wikitext-2"}
    assert set(public_sets.TEXT_SETS) == texts
    assert set(PUBLIC_SETS) == texts | {"stocks", "energy", "air_quality", "fsdd", "polymusic", "sketches"}
    for name, public_set in PUBLIC_SETS.items():
        assert public_set is public_sets.find_public_set(name)
        assert public_set.licence
        assert public_set.files or public_set.folder
        for file in public_set.files:
            assert file.address.startswith("https://")
            assert len(file.sha256 or file.git_blob or "") in (64, 40)
        if public_set.folder is not None:
            assert public_set.folder.archive.startswith("https://")
            assert len(public_set.folder.listing_sha256) == 64
        if name in texts:
            in_one_file = public_set.train_fraction is not None
            assert [file.name for file in public_set.files] == (
                ["input.txt"] if in_one_file else ["train.txt", "valid.txt", "test.txt"]
            )


SOUNDS = {f"{number}.wav": b"sound %d" % number * 1000 for number in range(3)}
LISTING = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(SOUNDS.items()))


def archive(extra=()):
    """A .tar.gz with the sounds in `set-1/sounds`, and whatever else is given."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as members:
        inside = {f"set-1/sounds/{name}": content for name, content in SOUNDS.items()}
        for name, content in {**inside, "set-1/README": b"read me", **dict(extra)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def public_folder(monkeypatch, tmp_path, server):
    """Make a set of one folder known, whose archive the server has; return what changes the archive."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = PublicFolder(
        name="sounds",
        archive=f"{server}/good",
        inside="set-1/sounds",
        suffix=".wav",
        number=3,
        listing_sha256=hashlib.sha256(LISTING.encode()).hexdigest(),
        size=sum(map(len, SOUNDS.values())),
    )
    monkeypatch.setitem(PUBLIC_SETS, "sounds", PublicSet("sounds", "sounds", "free", (), kind="audio", folder=folder))
    monkeypatch.setattr(f"{__name__}.CONTENT", archive())
    return tmp_path / "cache" / "hybridgen" / "data" / "sounds"


def test_a_folder_of_many_files_arrives_whole(public_folder):
    lines = []
    (result,) = fetch("sounds", report=lines.append)
    assert result.verified
    assert {path.name: path.read_bytes() for path in result.path.iterdir()} == SOUNDS
    assert [path.name for path in public_folder.iterdir()] == ["sounds"]
    (again,) = fetch("sounds", report=lines.append)
    assert again.was_there
    (result.path / "0.wav").write_bytes(b"other")
    with pytest.raises(DataError, match="are not the public ones: remove the folder"):
        fetch("sounds", report=str)


def test_names_in_an_archive_lead_nowhere_else(public_folder, monkeypatch):
    outside = {"set-1/sounds/../../../evil.wav": b"evil", "/evil.wav": b"evil", "set-1/other/a.wav": b"a"}
    monkeypatch.setattr(f"{__name__}.CONTENT", archive(outside))
    (result,) = fetch("sounds", report=str)
    assert sorted(path.name for path in result.path.iterdir()) == sorted(SOUNDS)
    assert not list(public_folder.parent.parent.glob("**/evil.wav"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive" * 100, "is no archive that can be unpacked"),
        (archive()[:-40], "is no archive that can be unpacked|are not the public ones"),
        (archive({"set-1/sounds/more.wav": b"more"}), "has 4 files .wav but the public set 3"),
        (archive({"set-1/sounds/1.wav": b"other"}), r"are not the public ones .their checksum differs"),
    ],
)
def test_any_other_archive_leaves_nothing(public_folder, monkeypatch, content, message):
    monkeypatch.setattr(f"{__name__}.CONTENT", content)
    with pytest.raises(DataError, match=message) as error:
        fetch("sounds", report=str)
    assert "\n" not in str(error.value)
    assert not public_folder.exists()


@pytest.mark.parametrize("place", ["", "sounds", "sounds/sounds"])
def test_a_folder_is_copied_from_a_folder(public_folder, tmp_path, place):
    source = tmp_path / "from" / place
    source.mkdir(parents=True)
    for name, content in SOUNDS.items():
        (source / name).write_bytes(content)
    (source / "notes.txt").write_text("left out")
    (result,) = fetch("sounds", copy_from=tmp_path / "from", report=str)
    assert {path.name: path.read_bytes() for path in result.path.iterdir()} == SOUNDS
    with pytest.raises(DataError, match=r"has no files \.wav: give with --from"):
        fetch("sounds", copy_from=tmp_path / "cache", to=tmp_path / "to", report=str)
