"""Review of abstained rows: what is written, and a full disk or a dead webhook delays no request."""

import json
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from server_thread import serving

from cascade.answers import Answers
from cascade.config import ReviewConfig
from cascade.errors import ConfigError
from cascade.serving.request_id import REQUEST_ID, set_request_id
from cascade.serving.review import delivery_queue
from cascade.serving.review.abstentions import Abstentions
from cascade.serving.review.delivery_queue import DeliveryQueue, Rejected
from cascade.serving.review.review import Review
from cascade.serving.review.review_file import ReviewFile
from cascade.serving.review.review_webhook import ReviewWebhook

WAIT_S = 20.0
FULL_DISK = Path("/dev/full")


def wait_until(happens):
    deadline = time.monotonic() + WAIT_S
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def some(count, first=0, rows=None):
    places = np.arange(first, first + count)
    return Abstentions(1e9, "abc", "r1", places, places % 3, np.full(count, 0.25), rows)


def answers_of(abstained):
    n = len(abstained)
    given = Answers(np.arange(n) % 3, np.ones(n, int), np.linspace(0, 1, n), np.ones(n))
    return replace(given, abstained=np.array(abstained))


@contextmanager
def webhook(respond):
    """Yields (url, list of bodies); ``respond`` maps the number of the post to a status, and may sleep."""
    posts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            posts.append((dict(self.headers.items()), json.loads(body)))
            status = respond(len(posts))
            if status is None:
                self.connection.close()
                return
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.end_headers()

    with serving(Handler) as address:
        yield f"{address}/review?team=a", posts


def test_one_line_is_written_per_abstained_row(tmp_path):
    path = tmp_path / "review.jsonl"
    review = Review(ReviewConfig(file=path, include_rows=True), ("cat", "dog", "owl"))
    token = REQUEST_ID.set("request-7")
    rows = np.arange(12, dtype=np.uint8).reshape(4, 3)
    review.add(rows, answers_of([False, True, False, True]), "v1")
    REQUEST_ID.reset(token)
    review.add(rows, replace(answers_of([False] * 4), abstained=None), "v1")
    review.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first.pop("time").startswith(time.strftime("%Y-%m-"))
    assert first == {
        "policy_version": "v1",
        "request_id": "request-7",
        "place": 1,
        "answer": 1,
        "label": "dog",
        "confidence": pytest.approx(1 / 3),
        "row": [3, 4, 5],
    }
    assert (second["place"], second["answer"], second["row"]) == (3, 0, [9, 10, 11])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert review.counts == {"file": {"written": 2, "dropped": 0, "waiting": 0, "failures": 0}}


def test_rows_are_written_only_with_include_rows(tmp_path):
    review = Review(ReviewConfig(file=tmp_path / "review.jsonl"), None)
    texts = np.array(["secret", "private"], dtype=object)
    review.add(texts, answers_of([True, True]), "v1")
    review.close()
    lines = [json.loads(line) for line in (tmp_path / "review.jsonl").read_text().splitlines()]
    assert [line.keys() for line in lines] == [
        {"time", "policy_version", "request_id", "place", "answer", "confidence"}
    ] * 2
    assert lines[0]["request_id"] is None


def test_texts_are_written_as_texts(tmp_path):
    review = Review(ReviewConfig(file=tmp_path / "review.jsonl", include_rows=True), None)
    review.add(np.array(["ä", "b"], dtype=object), answers_of([True, False]), "v1")
    review.close()
    assert json.loads((tmp_path / "review.jsonl").read_text())["row"] == "ä"


def test_a_full_disk_is_counted_and_delays_no_request(caplog):
    review = Review(ReviewConfig(file=FULL_DISK, max_queue_rows=50), None)
    given = answers_of([True] * 10)
    slowest = 0.0
    for _ in range(200):
        start = time.monotonic()
        review.add(np.zeros((10, 2)), given, "v1")
        slowest = max(slowest, time.monotonic() - start)
    assert slowest < 0.5
    wait_until(lambda: review.counts["file"]["failures"] > 0)
    assert review.counts["file"]["dropped"] == 2000 - 50
    assert review.counts["file"]["waiting"] == 50
    review.close()
    assert review.counts["file"] | {"failures": 0} == {"written": 0, "dropped": 2000, "waiting": 0, "failures": 0}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1  # not one per row or failure
    assert "No space left on device" in messages[0]


def test_waiting_rows_are_written_once_the_disk_has_room(tmp_path):
    folder = tmp_path / "later"
    queue = DeliveryQueue("file", ReviewFile(folder / "review.jsonl", 1000), None, 100, first_wait_s=0.01)
    queue.put(some(3))
    wait_until(lambda: queue.counts["failures"] > 0)
    folder.mkdir()
    wait_until(lambda: queue.counts["written"] == 3)
    queue.put(some(2))
    queue.close(WAIT_S)
    assert len((folder / "review.jsonl").read_text().splitlines()) == 5


def test_a_partial_line_is_never_left(tmp_path, monkeypatch):
    path = tmp_path / "review.jsonl"
    file = ReviewFile(path, 10_000)
    file.write([{"a": 1}])
    write, room = os.write, [4]

    def scarce(descriptor, content):
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken, room[0] = room[0], 0
        return write(descriptor, content[:taken])

    monkeypatch.setattr(os, "write", scarce)
    with pytest.raises(OSError, match="No space"):
        file.write([{"b": 2}, {"c": 3}])
    monkeypatch.undo()
    assert path.read_text() == '{"a":1}\n'


def test_the_file_is_bounded(tmp_path):
    path = tmp_path / "review.jsonl"
    file = ReviewFile(path, 4096)
    for number in range(1000):
        file.write([{"number": number}])
        assert path.stat().st_size <= 4096
    before, now = (tmp_path / "review.jsonl.1").read_text().splitlines(), path.read_text().splitlines()
    assert [json.loads(line)["number"] for line in [*before, *now]] == list(range(1000 - len(before) - len(now), 1000))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["review.jsonl", "review.jsonl.1"]
    file.write([{"long": "x" * 5000}])
    assert len(path.read_text()) > 5000  # longer than the bound, and alone


def test_several_writers_lose_no_line(tmp_path):
    path = tmp_path / "review.jsonl"
    path.write_text("x" * 8190 + "\n")  # the first write renames it

    def write(writer):
        file = ReviewFile(path, 8192)
        for number in range(40):
            file.write([{"writer": writer, "number": number}])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    seen = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(each["writer"], each["number"]) for each in seen} == {(w, n) for w in range(4) for n in range(40)}


def test_a_webhook_gets_batches_of_records(monkeypatch):
    monkeypatch.setenv("REVIEW_KEY", "Bearer abc")
    with webhook(lambda _: 204) as (url, posts):
        config = ReviewConfig(webhook=url, webhook_authorization_env="REVIEW_KEY")
        review = Review(config, None)
        review.add(np.zeros((250, 1)), answers_of([True] * 250), "v1")
        wait_until(lambda: review.counts["webhook"]["written"] == 250)
        review.close()
    assert [len(body["rows"]) for _, body in posts] == [100, 100, 50]
    assert [row["place"] for _, body in posts for row in body["rows"]] == list(range(250))
    headers = {name.lower(): value for name, value in posts[0][0].items()}
    assert headers["authorization"] == "Bearer abc"
    assert headers["content-type"] == "application/json"


def test_a_failed_post_is_sent_again():
    statuses = iter([500, None, 302, 429, 200, 200])
    with webhook(lambda _: next(statuses)) as (url, posts):
        queue = DeliveryQueue("webhook", ReviewWebhook(url, 5.0), None, 100, first_wait_s=0.001)
        queue.put(some(2))
        wait_until(lambda: queue.counts["written"] == 2)
        queue.put(some(1, first=7))
        queue.close(WAIT_S)
    assert [[row["place"] for row in body["rows"]] for _, body in posts] == [[0, 1]] * 5 + [[7]]
    assert queue.counts == {"written": 3, "dropped": 0, "waiting": 0, "failures": 4}


def test_a_rejected_batch_is_dropped_and_the_next_one_sent():
    with webhook(lambda number: 422 if number == 1 else 200) as (url, posts):
        queue = DeliveryQueue("webhook", ReviewWebhook(url, 5.0), None, 100)
        queue.put(some(2))
        wait_until(lambda: queue.counts["dropped"] == 2)
        queue.put(some(3))
        queue.close(WAIT_S)
    assert queue.counts == {"written": 3, "dropped": 2, "waiting": 0, "failures": 1}
    assert len(posts) == 2


def test_a_slow_webhook_delays_neither_answers_nor_the_file(tmp_path):
    released = threading.Event()
    with webhook(lambda _: released.wait(WAIT_S) and 200) as (url, posts):
        path = tmp_path / "review.jsonl"
        review = Review(ReviewConfig(webhook=url, file=path, max_queue_rows=30, timeout_s=30.0), None)
        start = time.monotonic()
        for _ in range(10):
            review.add(np.zeros((10, 1)), answers_of([True] * 10), "v1")
            wait_until(lambda: review.counts["file"]["waiting"] == 0)
        assert time.monotonic() - start < WAIT_S / 2
        wait_until(lambda: posts)
        assert review.counts["file"]["written"] == 100
        assert review.counts["webhook"] == {"written": 0, "dropped": 70, "waiting": 30, "failures": 0}
        released.set()
        wait_until(lambda: review.counts["webhook"]["written"] == 30)
        review.close()


def test_a_webhook_too_slow_for_the_timeout_counts_as_failed():
    released = threading.Event()
    with webhook(lambda _: released.wait(WAIT_S) and 200) as (url, _):
        with pytest.raises(OSError, match="timed out"):
            ReviewWebhook(url, 0.05).write([{}])
        released.set()


def test_closing_does_not_wait_for_a_dead_webhook():
    queue = DeliveryQueue("webhook", ReviewWebhook("http://127.0.0.1:1", 1.0), None, 100)
    queue.put(some(5))
    wait_until(lambda: queue.counts["failures"] > 0)
    start = time.monotonic()
    queue.close(WAIT_S)
    assert time.monotonic() - start < WAIT_S / 2
    assert queue.counts["dropped"] == 5


def test_a_response_that_is_not_http_is_tried_again():
    with webhook(lambda _: None) as (url, _), pytest.raises(OSError, match=r"not HTTP|reset"):
        ReviewWebhook(url, 5.0).write([{}])


def test_an_unexpected_error_does_not_end_the_thread():
    class Broken:
        calls = 0

        def write(self, records):
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError

    queue = DeliveryQueue("file", Broken(), None, 100)
    queue.put(some(2))
    wait_until(lambda: queue.counts["dropped"] == 2)
    queue.put(some(1))
    queue.close(WAIT_S)
    assert queue.counts["written"] == 1


def test_dropped_rows_are_logged_without_failures_too(caplog, monkeypatch):
    monkeypatch.setattr(delivery_queue, "LOG_EVERY_S", 0.0)
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def write(self, records):
            begun.set()
            go_on.wait(WAIT_S)

    queue = DeliveryQueue("webhook", Slow(), None, 5)
    queue.put(some(5))
    begun.wait(WAIT_S)
    queue.put(some(1))
    go_on.set()
    queue.close(WAIT_S)
    assert queue.counts == {"written": 5, "dropped": 1, "waiting": 0, "failures": 0}
    assert ["faster than they are delivered" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a file, a webhook, or both"),
        ({"webhook": "http://example.org/review"}, "must be https"),
        ({"webhook": "https://user:password@example.org"}, "must not hold a password"),
        ({"webhook": "ftp://example.org"}, "must be an address"),
        ({"webhook": "https:///review"}, "must be an address"),
        ({"webhook": "https://example.org/\r\nx: y"}, "must be an address"),
        ({"webhook": "https://example.org:99999"}, "[Pp]ort"),
        ({"file": "a", "webhook_authorization_env": "KEY"}, "needs webhook"),
        ({"file": "a", "max_file_bytes": 10}, "greater than or equal to 4096"),
        ({"file": "a", "timeout_s": 0}, "greater than 0"),
        ({"file": "a", "color": "red"}, "Extra inputs"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ReviewConfig(**settings)


def test_valid_addresses_are_accepted():
    for address in ("https://example.org/review?team=a", "http://localhost:8080", "http://[::1]:9/x"):
        assert ReviewConfig(webhook=address).webhook == address


def test_an_unset_variable_is_a_configuration_error(monkeypatch):
    monkeypatch.delenv("REVIEW_KEY", raising=False)
    with pytest.raises(ConfigError, match="REVIEW_KEY is not set"):
        ReviewWebhook("https://example.org", 1.0, "REVIEW_KEY")


def test_https_certificates_are_verified(monkeypatch):
    with webhook(lambda _: 200) as (url, posts), pytest.raises(OSError, match=r"SSL|ssl|record"):
        ReviewWebhook(url.replace("http:", "https:"), 5.0).write([{}])
    assert not posts


def test_a_rejection_is_not_a_temporary_failure():
    with webhook(lambda _: 413) as (url, _), pytest.raises(Rejected, match="413"):
        ReviewWebhook(url, 5.0).write([{}])


def test_a_long_request_id_is_cut():
    token = REQUEST_ID.set(None)
    set_request_id("")
    assert REQUEST_ID.get() is None
    set_request_id("x" * 5000)
    assert REQUEST_ID.get() == "x" * 200
    REQUEST_ID.reset(token)
