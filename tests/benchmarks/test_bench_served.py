"""``cascade bench run`` against ``cascade serve`` with keys: every target."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.servers.server_process import cascade_server, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import write_cascade

pytestmark = [pytest.mark.serve, pytest.mark.slow]

KEY = "key-of-the-benchmark-test"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(configuration, rows, server, port of gRPC) of the synthetic cascade, which asks for a key."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "keys.txt").write_text(KEY)
    (folder / "secrets" / "keys.txt").chmod(0o600)
    port = free_port()
    config = write_cascade(folder, [0, 0], serving={"keys_file": "secrets/keys.txt", "grpc_port": port})
    rows = busy_stage.new_rows(100)
    flat = rows.reshape(len(rows), -1).astype(int)
    late = flat[:, 0] % busy_stage.DEFERRED_EVERY == 0
    label = np.where(late, flat[:, busy_stage.LATER_STAGE_BYTE], flat[:, 1]) % busy_stage.CLASSES
    np.savez(folder / "rows.npz", rows=rows, label=label)
    body, headers = request_body(rows[:5])
    with cascade_server(config, (body, headers | {"Authorization": f"Bearer {KEY}"})) as server:
        yield config, folder / "rows.npz", server, port


FAST = ("--seconds", "1", "--warmup-seconds", "0.2", "--repeats", "3", "--rows-per-request", "4")


@pytest.mark.parametrize("target", ["http", "http-json", "oip-http", "oip-json", "oip-grpc"])
def test_every_target_is_measured_with_a_key(run, served, monkeypatch, target):
    config, rows, server, port = served
    monkeypatch.setenv("BENCH_KEY", KEY)
    url = f"127.0.0.1:{port}" if target == "oip-grpc" else server.address
    options = ("--url", url, "--key-env", "BENCH_KEY", "--json", *FAST)
    result = run("bench", "run", config, "--target", target, "--rows", rows, *options)
    assert result.code == 0, result.err
    seen = result.json["summary"]
    assert seen["accuracy"]["median"] == 1.0
    assert seen["stage_share.large"]["median"] == pytest.approx(0.2, abs=0.05)
    assert seen["rows_per_s"]["low"] is not None


def test_without_a_key_the_refusal_is_shown(run, served, monkeypatch):
    config, rows, server, _ = served
    monkeypatch.delenv("CASCADE_KEY", raising=False)
    result = run("bench", "run", config, "--target", "http", "--url", server.address, "--rows", rows, *FAST)
    assert result.code == 3
    assert "key" in result.err


def test_the_handle_works_without_a_variable_of_ray(served):
    config, rows, _, _ = served
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "cascade", "bench", "run", config, "--target", "handle", "--rows", rows, *FAST]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rows/s" in done.stdout
