"""Claims on a port: of several gateways of one cascade, of two cascades, of one that died."""

import multiprocessing
import os
import signal
import socket

import pytest
from serving_process import free_port

from cascade.errors import ConfigError
from cascade.serving.replica import port_claim
from cascade.serving.replica.port_claim import PortClaim, check_port

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(port_claim.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(port_claim, "RETRIES", 3)


@pytest.fixture
def port():
    return free_port()


def shared_listener(port):
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((HOST, port))
    listening.listen()
    return listening


def test_gateways_of_one_cascade_share_a_port(port):
    first, second = (PortClaim(HOST, port, "digits", "cluster") for _ in range(2))
    first.take()
    with shared_listener(port):
        second.take()
    first.release()
    second.release()


@pytest.mark.parametrize("other", [("letters", "cluster"), ("digits", "another cluster")])
def test_another_cascade_is_refused_with_the_name_of_the_first_one(port, other):
    first = PortClaim(HOST, port, "digits", "cluster")
    first.take()
    for _ in range(2):  # a refusal leaves no trace
        with pytest.raises(ConfigError, match=rf"{HOST}:{port}: the cascade 'digits' has this port"):
            PortClaim(HOST, port, *other).take()
    first.release()
    PortClaim(HOST, port, *other).take()


def test_a_port_on_which_another_program_listens_cannot_be_claimed(port):
    with shared_listener(port):
        with pytest.raises(ConfigError, match="in use; choose another"):
            PortClaim(HOST, port, "digits", "cluster").take()
        with pytest.raises(ConfigError, match="in use; choose another"):
            check_port(HOST, port)
    PortClaim(HOST, port, "digits", "cluster").take()


def test_the_claim_on_all_addresses_and_on_one_of_them_exclude_each_other(port):
    PortClaim("0.0.0.0", port, "digits", "cluster").take()  # noqa: S104 (nothing listens in this test but the next line)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("0.0.0.0", port))  # noqa: S104
        listening.listen()
        with pytest.raises(ConfigError, match=f"{HOST}:{port}"):
            PortClaim(HOST, port, "letters", "cluster").take()


def test_the_claim_of_a_killed_cascade_does_not_block(port):
    ready = multiprocessing.get_context("fork").Event()
    killed = multiprocessing.get_context("fork").Process(target=_claim_and_hang, args=(port, ready))
    killed.start()
    assert ready.wait(10)
    with pytest.raises(ConfigError, match="'digits'"):
        PortClaim(HOST, port, "letters", "cluster").take()
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(10)
    check_port(HOST, port)
    PortClaim(HOST, port, "letters", "cluster").take()


def _claim_and_hang(port, ready):
    PortClaim(HOST, port, "digits", "cluster").take()
    ready.set()
    signal.pause()


def test_a_folder_that_cannot_be_written_is_refused_with_a_sentence(port, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(port_claim.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=f"cannot claim {HOST}:{port}"):
        PortClaim(HOST, port, "digits", "cluster").take()
