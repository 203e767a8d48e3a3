"""``cascade bench`` from the command line."""

import asyncio
import json
import re
import socket
import threading

import numpy as np
import pytest
import yaml
from aiohttp import web

from cascade.benchmarks.result import Result
from cascade.calibration import Policy

FAST = ("--seconds", "0.05", "--warmup-seconds", "0", "--repeats", "2", "--rows-per-request", "16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fake_cascade, labelled_rows):
    """Config, policy and rows of two fake models; the first one answers three quarters of the rows."""
    cascade = fake_cascade(0.75)
    folder = tmp_path_factory.mktemp("secret_folder")
    stages = [
        {
            "name": stage.name,
            "backend": {
                "type": "custom",
                "object": "cascade.backends.fake_backend:FakeBackend",
                "arguments": {"probabilities": stage.backend.probabilities.tolist(), "seconds_per_row": seconds},
            },
        }
        for stage, seconds in zip(cascade.stages, (0.0, 2e-4))
    ]
    config = {"name": "fakes", "rows": {"shape": [1], "dtype": "int64"}, "stages": stages}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    cascade.policy.save(folder / "policy.json")
    rows, label = labelled_rows
    np.savez(folder / "rows.npz", rows=rows, label=label)
    np.savez(folder / "unlabelled.npz", rows=rows)
    return folder


@pytest.fixture
def bench(run, folder):
    def bench(*options, rows="rows.npz", target="in-process"):
        return run("bench", folder / "config.yaml", "--target", target, "--rows", folder / rows, *FAST, *options)

    return bench


def test_json_file_and_picture_of_one_run(bench, folder, tmp_path):
    out, plot = tmp_path / "out.json", tmp_path / "plot.svg"
    result = bench("--biggest-alone", "--json", "--out", out, "--plot", plot, "--warmup-seconds", "0.05")
    assert result.code == 0, result.err
    assert result.json == json.loads(out.read_text())
    assert plot.read_text().startswith("<?xml")
    seen = Result.load(out)
    assert len(seen.repeats) == 2
    assert seen.measured == {
        "prediction": None,
        "config": "fakes",
        "policy_version": Policy.load(folder / "policy.json").version,
        "target": "in-process",
        "rows_per_request": 16,
        "connections": 1,
        "rate_per_s": None,
        "data": "rows.npz",
        "data_rows": 64,
        "cost_unit": "ms",
    }
    for repeat in seen.repeats:
        assert repeat["accuracy"] == 1.0
        assert sum(repeat["stage_share"].values()) == pytest.approx(1)
        assert repeat["mean_cost"] == pytest.approx(1 + 10 * repeat["stage_share"]["big"])
        assert repeat["against_biggest"]["rows_per_s_ratio"] > 1
    assert (seen.options["seconds"], seen.options["repeats"], seen.options["rows"]) == (0.05, 2, "rows.npz")
    for name in (str(folder), "secret_folder", str(tmp_path), socket.gethostname()):
        assert name not in out.read_text()


def test_an_open_loop_sends_at_its_rate(bench, tmp_path):
    result = bench("--rate", "200", "--seconds", "0.5", "--json", "--plot", tmp_path / "plot.svg")
    assert result.code == 0, result.err
    assert (result.json["measured"]["rate_per_s"], result.json["options"]["rate"]) == (200, 200)
    for repeat in result.json["repeats"]:
        assert 60 <= repeat["requests"] <= 140  # 100 are due, give or take four standard deviations
        assert (repeat["failed"], repeat["accuracy"]) == (0, 1.0)


def test_the_printed_result_has_medians_and_ranges(bench):
    result = bench(rows="unlabelled.npz")
    assert result.code == 0, result.err
    lines = dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in result.out.splitlines())
    assert {"rows per s", "latency ms p99", "stage share small", "engine overhead"} <= set(lines)
    median, low, high = map(float, re.fullmatch(r"(\S+) \((\S+) to (\S+)\)", lines["rows per s"]).groups())
    assert 0 < low <= median <= high
    assert "accuracy" not in lines  # there is none without labels


def test_the_limit_uses_the_first_rows(bench):
    result = bench("--limit", "48", "--json")
    assert result.json["measured"]["data_rows"] == 48
    assert result.json["summary"]["stage_share"]["small"]["min"] == 1.0  # all of them are easy


def test_another_policy_is_used_as_is(bench, folder, tmp_path):
    Policy.from_thresholds(("small", "big"), np.array([0.0])).save(tmp_path / "other.json")
    result = bench("--policy", tmp_path / "other.json", "--json")
    assert result.json["summary"]["stage_share"]["big"]["max"] == 0.0
    assert result.json["summary"]["accuracy"]["median"] == 1.0


def test_a_missed_objective_ends_with_6_after_everything_was_written(bench, tmp_path):
    out = tmp_path / "out.json"
    result = bench("--max-p99-ms", "1e-6", "--min-rows-per-s", "1e12", "--out", out, "--json")
    assert result.code == 6
    assert result.err.startswith("error: objective missed: p99 latency must be at most 1e-06 ms; measured")
    assert "throughput must be at least 1e+12 rows/s" in result.err
    assert Result.load(out).repeats
    assert result.json["options"]["max_p99_ms"] == 1e-6


def test_reached_objectives_end_with_0(bench):
    assert bench("--max-p99-ms", "60000", "--min-rows-per-s", "1").code == 0


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ([], "nowhere"),
        (["--url", "http://127.0.0.1:1"], "in-process"),
        (["--url", "127.0.0.1:1"], "http"),
        (["--policy", "policy.json"], "http"),
        (["--biggest-alone"], "handle"),
        (["--plot", "plot.gif"], "in-process"),
        (["--plot", "plot"], "in-process"),
        (["--out", "no/such/folder/out.json"], "in-process"),
        (["--seconds", "0"], "in-process"),
        (["--rate", "0"], "in-process"),
        (["--rate", "10", "--biggest-alone"], "in-process"),
        (["--repeats", "0"], "in-process"),
        (["--dataset", "cifar10"], "in-process"),
        (["--max-p99-ms", "fast"], "in-process"),
    ],
)
def test_wrong_options_end_with_2(bench, options, target):
    result = bench(*options, target=target)
    assert (result.code, result.out) == (2, "")
    assert "Usage" in result.err


def test_wrong_files_end_with_3(bench, run, folder, tmp_path):
    assert bench(rows="missing.npz").code == 3
    assert run("bench", tmp_path / "no.yaml", "--target", "in-process", "--rows", folder / "rows.npz").code == 3
    result = bench("--policy", tmp_path / "no.json")
    assert result.code == 3
    assert "no.json does not exist" in result.err


def test_without_a_server_the_error_explains_how_to_start_one(bench):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = bench("--url", f"http://127.0.0.1:{taken.getsockname()[1]}", target="http")
    assert result.code == 3
    assert "start 'cascade serve CONFIG'" in result.err.replace("\n", " ")


@pytest.fixture
def server():
    """Address of a server that lives in a thread; the last stage answers everything, and every third request fails."""
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    address, count = [], [0]

    async def predict(request):
        n = int(request.headers["X-Shape"].split(",")[0])
        count[0] += 1
        if count[0] % 3 == 0:
            return web.json_response({"error": "the queue is full"}, status=503)
        columns = {"answer": [0] * n, "stage": ["big"] * n, "cost": [11.0] * n, "policy_version": "served"}
        return web.json_response(columns)

    async def health(request):
        return web.json_response({})

    async def serve():
        app = web.Application()
        app.router.add_post("/predict", predict)
        app.router.add_get("/health", health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield address[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_a_server_is_loaded_and_its_errors_are_counted(bench, server, tmp_path):
    out = tmp_path / "out.json"
    result = bench("--url", server, "--connections", "2", "--json", "--out", out, target="http")
    assert result.code == 0, result.err
    assert result.json["measured"]["policy_version"] == "served"
    assert result.json["measured"]["connections"] == result.json["options"]["connections"] == 2
    assert result.json["summary"]["accuracy"]["median"] == pytest.approx(0.25, abs=0.1)
    assert result.json["summary"]["stage_share"]["big"]["min"] == 1.0
    for repeat in result.json["repeats"]:
        assert repeat["errors"]["503"] == repeat["failed"] > 0
    assert server.removeprefix("http://") not in out.read_text()
    assert bench("--url", server, "--max-p99-ms", "60000", target="http").code == 6  # a third was not answered
