"""A stopping listener: every request that was sent is answered."""

import asyncio
import json
import socket
import threading
import time

import pytest
import uvloop
from listener_thread import rest
from serving_process import free_port

from cascade.config import ServingConfig
from cascade.serving.http.listener import Listener
from cascade.serving.http.reply import Reply, error_reply

ASKED = b"GET /now HTTP/1.1\r\nhost: here\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n"
CLOSES = b"connection: close"


class Sleepy:
    """Answers with the path; late on /slow, never on /never."""

    def admit(self, request):
        """Admits every request."""

    def error_reply(self, error):
        return error_reply(error)

    async def answer(self, request):
        await asyncio.sleep({"/slow": 0.5, "/never": 600}.get(request.path, 0))
        return Reply(json.dumps({"path": request.path}).encode())


class Stopping:
    """A listener in a thread, which can be stopped once."""

    def __init__(self, new_loop, request_timeout_s):
        self.port = free_port()
        self.loop = new_loop()
        self.listener = Listener(Sleepy(), ServingConfig(port=self.port, request_timeout_s=request_timeout_s))
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.call(self.listener.start()).result(10)

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self):
        return self.call(self.listener.stop())

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def start(request):
    started = []

    def start(request_timeout_s=5.0):
        started.append(Stopping(request.param, request_timeout_s))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_the_answer_in_progress_is_the_last_one_of_its_connection(start):
    server = start()
    with server.connect() as client:
        client.sendall(SLOW)
        time.sleep(0.1)
        stopped = server.stop()
        received = rest(client)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert CLOSES in received.lower()
    stopped.result(5)
    assert not server.listener.alive


def test_an_open_connection_may_send_one_more_request(start):
    server = start()
    with server.connect() as client:
        client.sendall(ASKED)
        assert b" 200 " in client.recv(1000)
        stopped = server.stop()
        time.sleep(0.3)
        client.sendall(SLOW)
        received = rest(client)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert CLOSES in received.lower()
    stopped.result(5)


def test_a_stopping_listener_waits_for_the_rest_of_a_request(start):
    server = start()
    with server.connect() as client:
        client.sendall(b"POST /now HTTP/1.1\r\nhost: here\r\ncontent-length: 3\r\n\r\na")
        time.sleep(0.1)
        stopped = server.stop()
        time.sleep(1.3)
        client.sendall(b"bc")
        assert rest(client).startswith(b"HTTP/1.1 200 ")
    stopped.result(5)


def test_a_connection_without_a_request_is_closed_soon(start):
    server = start()
    with server.connect() as client:
        time.sleep(0.1)
        server.stop().result(3)
        assert rest(client) == b""


def test_connections_in_the_accept_queue_are_answered(start):
    server = start()
    held, clients = threading.Event(), []
    server.loop.call_soon_threadsafe(held.wait, 5)  # the event loop accepts nothing meanwhile
    time.sleep(0.1)
    try:
        stopped = server.stop()
        for _ in range(50):
            clients.append(server.connect())
            clients[-1].sendall(ASKED)
        held.set()
        answers = [rest(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 50
    stopped.result(5)


def test_new_clients_of_a_stopping_listener_are_refused_and_never_reset(start):
    server = start()
    outcomes, end = [], threading.Event()

    def come_again_and_again():
        while not end.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", server.port), timeout=3)
            except OSError:
                outcomes.append("refused")
                continue
            with client:
                client.sendall(ASKED)
                outcomes.append("answered" if rest_of_one(client) else "cut")

    threads = [threading.Thread(target=come_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.stop().result(10)
    time.sleep(0.2)
    end.set()
    for thread in threads:
        thread.join(10)
    assert set(outcomes) == {"answered", "refused"}


def rest_of_one(client):
    try:
        return client.recv(1000).startswith(b"HTTP/1.1 200 ")
    except ConnectionResetError:
        return False


def test_a_request_beyond_the_timeout_is_aborted(start):
    server = start(request_timeout_s=0.5)
    with server.connect() as client:
        client.sendall(b"GET /never HTTP/1.1\r\nhost: here\r\n\r\n")
        time.sleep(0.1)
        began = time.monotonic()
        server.stop().result(5)
        assert time.monotonic() - began < 3
        assert rest(client) == b""
