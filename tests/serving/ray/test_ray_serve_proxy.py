"""Behind Ray Serve's own proxy, with calls by gRPC: the same application, arrays beyond gRPC's limit, late rows."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serving_process import serving_process
from sleeping_cascade import make_rows, write_sleeping_cascade

pytestmark = pytest.mark.serve

WIDTH = 1 << 17  # a row has 1 MiB
RAW = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    path = write_sleeping_cascade(
        tmp_path_factory.mktemp("proxy"),
        width=WIDTH,
        serving="listener: serve, on_failure: degrade, request_timeout_s: 5, max_request_rows: 12",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
        with serving_process(path, path.with_name("log")) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client


def predict(client, first, milliseconds=0, timeout=60):
    rows = make_rows(first, milliseconds, WIDTH)
    return client.post("/predict", content=rows.tobytes(), headers=RAW, timeout=timeout)


def test_a_sub_array_beyond_the_limit_of_grpc_reaches_the_next_segment(client):
    answer = predict(client, [1, 3, 5, 7, 9, 11, 13, 15, 16]).json()
    assert answer["answer"] == [1, 3, 1, 3, 1, 3, 1, 3, 0]
    assert answer["stage"] == ["big"] * 8 + ["small"]
    assert answer["degraded"] == [False] * 9


def test_rows_of_a_disconnected_client_are_not_run_by_the_next_segment(client):
    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(predict, client, [1], 2500)
        time.sleep(0.5)
        with pytest.raises(httpx.ReadTimeout):
            predict(client, [1], 20_000, timeout=0.7)
        # It would come after those 20 s, and be late.
        assert predict(client, [3]).json()["degraded"] == [False]
        assert busy.result().json()["degraded"] == [False]


def test_late_rows_get_the_answer_so_far(client):
    answer = predict(client, [1, 2], 7000).json()
    assert answer["answer"] == [1, 2]
    assert answer["stage"] == ["small", "small"]
    assert answer["degraded"] == [True, False]


def test_errors_and_other_routes_are_those_of_the_own_listener(client):
    assert client.get("/health").json() == {"status": "ok", "name": "sleeping"}
    assert predict(client, range(13)).status_code == 413
    refused = client.post("/predict", content=b"123", headers=RAW)
    assert (refused.status_code, list(refused.json())) == (400, ["error"])
    assert client.get("/nowhere").status_code == 404
    assert client.get("/policy").json()["stages"][0]["threshold"] == 0.8
