"""Data sets behind an address: fetched whole, once, by parts, and checked; the web server is in the test."""

import http.server
import os
import pickle
import re
import sys
import threading
from functools import partial

import numpy as np
import pytest

import pde_data
from pde_data import DatasetError, FieldDataset, remote
from pde_data.cli import main
from pde_data.storage import Schema, Variable, write

pytest.importorskip("aiohttp")
DIMS = ("sample", "time", "x")


class Server(http.server.ThreadingHTTPServer):
    """A folder on the web, with or without ranges; `breaks_at` is where the connection fails."""

    ranges, breaks_at = True, None
    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.sent = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def end_headers(self):
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def do_GET(self):
        path = self.translate_path(self.path)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (self.server.ranges and found and os.path.isfile(path)):
            if os.path.isfile(path):
                self.server.sent.append((os.path.basename(path), 0, os.path.getsize(path)))
            return super().do_GET()
        first, last = int(found[1]), min(int(found[2]), os.path.getsize(path) - 1)
        if self.server.breaks_at is not None and last >= self.server.breaks_at:
            self.close_connection = True
            self.connection.close()
            return None
        with open(path, "rb") as file:
            file.seek(first)
            body = file.read(last + 1 - first)
        self.server.sent.append((os.path.basename(path), first, len(body)))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{os.path.getsize(path)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return self.wfile.write(body)


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setenv("PDE_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_BLOCK", 1000)
    (tmp_path / "web").mkdir()
    with Server(tmp_path / "web") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server, tmp_path / "web"
        server.shutdown()
        thread.join()


def waves(path, seed=0):
    values = np.random.default_rng(seed).standard_normal((4, 5, 16)).astype(np.float32)
    coordinates = {dim: Variable((dim,), np.arange(float(n))) for dim, n in zip(DIMS, values.shape)}
    write(path, Schema({**coordinates, "u": Variable(DIMS)}), [(0, {"u": values})])
    return values


def test_a_file_is_fetched_once_and_read_as_a_local_one(served):
    server, web = served
    values = waves(web / "u.h5")
    address = f"{server.address}/u.h5"
    np.testing.assert_array_equal(pde_data.open(address).u.values, values)
    size = (web / "u.h5").stat().st_size
    assert sum(length for _, _, length in server.sent) == size and len(server.sent) == -(-size // 1000)
    pairs = FieldDataset(address)
    assert pairs._arrays["u"].rows is not None  # mapped, the fastest way there is
    np.testing.assert_array_equal(pairs.gather([5])[0][0, 0], values[1, 1])
    assert pickle.loads(pickle.dumps(pairs))[3][0].equal(pairs[3][0])
    assert sum(length for _, _, length in server.sent) == size


def test_a_file_that_changed_is_fetched_anew(served):
    server, web = served
    waves(web / "u.h5")
    pde_data.open(f"{server.address}/u.h5")
    other = waves(web / "u.h5", seed=1)
    os.utime(web / "u.h5", (1e9, 1e9))
    np.testing.assert_array_equal(pde_data.open(f"{server.address}/u.h5").u.values, other)


def test_a_broken_transfer_goes_on_where_it_stopped(served):
    server, web = served
    values = waves(web / "u.h5")
    server.breaks_at = 2500
    with pytest.raises(DatasetError, match=r"u.h5 broke off after 2,000 of [\d,]+ bytes: .*try again"):
        pde_data.open(f"{server.address}/u.h5")
    server.breaks_at = None
    np.testing.assert_array_equal(pde_data.open(f"{server.address}/u.h5").u.values, values)
    assert [first for _, first, _ in server.sent] == list(range(0, (web / "u.h5").stat().st_size, 1000))


def test_a_server_without_ranges(served):
    server, web = served
    values = waves(web / "u.h5")
    server.ranges = False
    np.testing.assert_array_equal(pde_data.open(f"{server.address}/u.h5?download=1").u.values, values)
    assert remote.fetch(f"{server.address}/u.h5?download=1").read_bytes() == (web / "u.h5").read_bytes()


def test_a_folder_of_shards_is_checked_against_its_manifest(served, tmp_path):
    server, web = served
    small = {"samples": 4, "shard_size": 2, "resolution": 8, "t_end": 0.5, "records": 2, "processes": 1}
    folder = pde_data.generate("navier_stokes", web / "set", **small)
    address = f"{server.address}/set/"
    expected = pde_data.open(folder).vorticity.values
    np.testing.assert_array_equal(pde_data.open(address).vorticity.values, expected)
    sent = len(server.sent)
    np.testing.assert_array_equal(FieldDataset(address).gather([0])[0][0, 0], expected[0, 0])
    assert len(server.sent) == sent
    content = bytearray((folder / "shard-00001.h5").read_bytes())
    content[-1] ^= 1
    (folder / "shard-00001.h5").write_bytes(content)
    os.utime(folder / "manifest.json", (1e9, 1e9))  # another version of the set
    for _ in range(2):
        with pytest.raises(DatasetError, match="shard-00001.h5 is not what the manifest says"):
            pde_data.open(address)


def test_the_same_checks_as_for_local_files(served):
    server, web = served
    (web / "junk.h5").write_bytes(b"junk" * 1000)
    (web / "cut.h5").write_bytes(b"")
    waves(web / "u.h5")
    (web / "cut.h5").write_bytes((web / "u.h5").read_bytes()[:-500])
    for name, words in (("junk.h5", "in no format that is known"), ("cut.h5", "is truncated")):
        with pytest.raises(DatasetError, match=words):
            pde_data.open(f"{server.address}/{name}")


def test_commands_take_addresses(served, tmp_path, capsys):
    server, web = served
    values = waves(web / "u.h5")
    assert main(["info", f"{server.address}/u.h5"]) == 0
    assert "sample 4, time 5, x 16" in capsys.readouterr().out
    assert main(["convert", f"{server.address}/u.h5", str(tmp_path / "copy.h5")]) == 0
    np.testing.assert_array_equal(pde_data.open(tmp_path / "copy.h5").u.values, values)
    assert main(["stats", f"{server.address}/u.h5", "--inputs", "u"]) == 0
    assert main(["info", f"{server.address}/absent.h5"]) == 1
    assert f"there is nothing to read at {server.address}/absent.h5" in capsys.readouterr().err


def test_other_stores(tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setenv("PDE_DATA_CACHE", str(tmp_path / "cache"))
    values = waves(tmp_path / "u.h5")
    fsspec.filesystem("memory").pipe("/sets/u.h5", (tmp_path / "u.h5").read_bytes())
    for address in ("memory://sets/u.h5", f"file://{tmp_path}/u.h5"):
        np.testing.assert_array_equal(pde_data.open(address).u.values, values)
    with pytest.raises(DatasetError, match="tape://reel/u.h5 is of no kind that fsspec knows"):
        pde_data.open("tape://reel/u.h5")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DatasetError, match="s3://bucket/u.h5: Install s3fs"):
        pde_data.open("s3://bucket/u.h5")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DatasetError, match=r"pip install 'opflow-sciml\[remote\]'"):
        pde_data.open("https://example.org/u.h5")


def test_a_disk_too_small(tmp_path, monkeypatch):
    monkeypatch.setenv("PDE_DATA_CACHE", str(tmp_path / "cache"))
    waves(tmp_path / "u.h5")
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DatasetError, match=r"has [\d,]+ bytes, more than are free in .*PDE_DATA_CACHE"):
        pde_data.open(f"file://{tmp_path}/u.h5")


def test_where_copies_are(monkeypatch, tmp_path):
    monkeypatch.delenv("PDE_DATA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert remote.cache_folder() == tmp_path / "pde_data"
    for text, address in (("https://a/b.h5", True), ("C:\\b.h5", False), ("a/b://c", False)):
        assert remote.is_address(text) is address
