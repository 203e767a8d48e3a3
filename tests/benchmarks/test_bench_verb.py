"""``cascade bench`` from the command line."""

import asyncio
import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from stub_server import StubServer, answer_rightly, columns

from cascade.benchmarks.analysis.result import Result
from cascade.calibration import Policy

FAST = ("--seconds", "0.3", "--warmup-seconds", "0", "--repeats", "2")


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
    np.savez(folder / "ones.npz", rows=rows, label=np.ones(len(rows), dtype=np.int64))
    np.savez(folder / "unlabelled.npz", rows=rows)
    return folder


@pytest.fixture
def bench(run, folder):
    def bench(*options, rows="rows.npz", target="in-process", verb="run", config="config.yaml"):
        where = [] if config is None else [folder / config]
        return run("bench", verb, *where, "--target", target, "--rows", folder / rows, *FAST, *options)

    return bench


def test_json_file_and_picture_of_one_run(bench, folder, tmp_path):
    out, plot = tmp_path / "out.json", tmp_path / "plot.svg"
    result = bench("--rows-per-request", "16", "--json", "--out", out, "--plot", plot)
    assert result.code == 0, result.err
    assert result.json == json.loads(out.read_text())
    assert plot.read_text().startswith("<?xml")
    seen = Result.load(out)
    assert (seen.state, len(seen.repeats)) == ("complete", 2)
    assert seen.measured.policy_version == Policy.load(folder / "policy.json").version
    assert (seen.measured.scenario, seen.measured.rows_per_request, seen.measured.connections) == ("offline", 16, 1)
    for repeat in seen.repeats:
        assert repeat.accuracy == 1.0
        assert sum(repeat.stage_share.values()) == pytest.approx(1)
        assert repeat.mean_cost == pytest.approx(1 + 10 * repeat.stage_share["big"])
        assert repeat.engine["times_faster"] > 1
    assert seen.repeats[0].seed != seen.repeats[1].seed
    for name in (str(folder), "secret_folder", str(tmp_path), socket.gethostname()):
        assert name not in out.read_text()


def test_one_number_answers_how_much_faster(bench):
    result = bench("--json")
    assert [name for name in result.json["summary"] if "faster" in name or "biggest" in name] == ["engine.times_faster"]
    lines = bench().out.splitlines()
    assert sum("faster" in line for line in lines) == 1


def test_an_open_loop_sends_at_its_rate(bench):
    result = bench("--rate", "100", "--seconds", "1", "--max-failed", "1", "--json")
    assert result.code in (0, 6), result.err
    assert result.json["measured"]["scenario"] == "server"
    for repeat in result.json["repeats"]:
        assert repeat["offered_per_s"] == pytest.approx(100, abs=45)
        assert repeat["send_lag"]["not_handled"] == 0


def test_a_seed_fixes_arrivals_and_two_runs_without_one_differ(bench):
    def due(*options):
        found = bench("--rate", "100", "--max-failed", "1", "--json", *options).json
        return [one["requests"] + one["failed"] for one in found["repeats"]], found["options"]["seed"]

    assert due("--seed", "5") == due("--seed", "5")
    assert due()[1] != due()[1]


@pytest.mark.parametrize("scenario", ["single_stream", "multi_stream"])
def test_scenarios_have_the_rows_and_connections_of_loadgen(bench, scenario):
    result = bench("--scenario", scenario, "--json")
    rows = {"single_stream": 1, "multi_stream": 8}[scenario]
    assert (result.json["measured"]["rows_per_request"], result.json["measured"]["connections"]) == (rows, 1)
    assert bench("--scenario", scenario, "--connections", "3").code == 2


def test_a_difficulty_mix_decides_which_stage_answers(bench):
    for share in ("0.9", "0.1"):
        seen = bench("--hard-share", share, "--rows-per-request", "1", "--json").json
        assert seen["summary"]["stage_share.big"]["median"] == pytest.approx(float(share), abs=0.15)
        assert seen["measured"]["mix"] == f"{float(share):.0%} hard"


def test_the_printed_result_has_medians_and_ranges(bench):
    result = bench(rows="unlabelled.npz")
    assert result.code == 0, result.err
    pairs = [re.split(" {2,}", line.strip(), maxsplit=1) for line in result.out.splitlines()]
    lines = dict(pair for pair in pairs if len(pair) == 2)
    assert {"rows/s", "share of small"} <= set(lines)
    assert re.match(r"\S+ \(\S+ to \S+, *(range)?", lines["rows/s"])
    assert "accuracy" not in lines  # there is none without labels


def test_a_missed_objective_ends_with_6_after_everything_was_written(bench, tmp_path):
    out = tmp_path / "out.json"
    result = bench("--min-rows-per-s", "1e12", "--min-accuracy", "1", "--out", out, "--json")
    assert result.code == 6, result.err
    assert "error: objective missed: throughput must be at least 1e+12 rows/s" in result.err
    assert Result.load(out).missed
    assert bench("--min-rows-per-s", "1").code == 0


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ([], "nowhere"),
        (["--url", "http://127.0.0.1:1"], "in-process"),
        (["--url", "127.0.0.1:1"], "http"),
        (["--policy", "policy.json"], "http"),
        (["--model", "m"], "http"),
        (["--plot", "plot.gif"], "in-process"),
        (["--log", "log.txt"], "in-process"),
        (["--out", "no/such/folder/out.json"], "in-process"),
        (["--out", "."], "in-process"),
        (["--out", os.devnull], "in-process"),
        (["--seconds", "0"], "in-process"),
        (["--seconds", "inf"], "in-process"),
        (["--seconds", "nan"], "in-process"),
        (["--seconds", "-1"], "in-process"),
        (["--rate", "0"], "in-process"),
        (["--rate", "-5"], "in-process"),
        (["--rate", "inf"], "in-process"),
        (["--rate", "nan"], "in-process"),
        (["--rate", "5", "--arrivals", "daily"], "in-process"),
        (["--rate", "5", "--scenario", "offline"], "in-process"),
        (["--scenario", "server"], "in-process"),
        (["--scenario", "other"], "in-process"),
        (["--timeout-s", "0"], "in-process"),
        (["--repeats", "0"], "in-process"),
        (["--dataset", "cifar10"], "in-process"),
        (["--max-p99-ms", "fast"], "in-process"),
        (["--biggest-alone"], "in-process"),
        (["--hard-burst-s", "1"], "in-process"),
        (["--processors", "first"], "http"),
        (["--processors", "0,9999"], "http"),
        (["--processors", "0"], "in-process"),
        (["--ca", "no-such.pem"], "http"),
        (["--ca", __file__, "--url", "http://127.0.0.1:1"], "http"),
        (["--certificate", __file__, "--url", "127.0.0.1:1"], "oip-grpc"),
        (["--certificate-key", __file__], "http"),
        (["--key-env", "HOME"], "in-process"),
    ],
)
def test_wrong_options_end_with_2(bench, options, target):
    result = bench(*options, target=target)
    assert (result.code, result.out) == (2, "")
    assert result.err


def test_the_old_command_is_refused_with_the_new_name(run, folder):
    result = run("bench", folder / "config.yaml", "--target", "in-process")
    assert result.code == 2
    assert "'cascade bench run CONFIG'" in " ".join(re.sub(r"[│╭╰─╮╯]", " ", result.err).split())


def test_wrong_files_end_with_3(bench, run, folder, tmp_path):
    assert bench(rows="missing.npz").code == 3
    assert bench(config="no.yaml").code == 3
    assert "no.json does not exist" in bench("--policy", tmp_path / "no.json").err


def test_without_a_server_the_error_is_one_sentence(bench):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = bench("--url", f"http://127.0.0.1:{taken.getsockname()[1]}", target="http")
    assert result.code == 3
    assert "nothing answers at http://127.0.0.1" in result.err


def served(bench, answer, *options, rows="ones.npz", **where):
    """A benchmark of a server whose answers are given; 16 rows a request unless told otherwise."""
    with StubServer(answer).running() as url:
        size = () if "--rows-per-request" in options else ("--rows-per-request", "16")
        return bench("--url", url, "--connections", "2", *size, *options, rows=rows, target="http", **where)


def test_a_server_is_loaded_over_http(bench, tmp_path):
    out, log = tmp_path / "out.json", tmp_path / "log.csv"
    result = served(bench, answer_rightly, "--json", "--out", out, "--log", log, "--goodput-ms", "1000")
    assert result.code == 0, result.err
    assert (result.json["measured"]["policy_version"], result.json["summary"]["accuracy"]["median"]) == ("served", 1.0)
    assert "127.0.0.1" not in out.read_text()
    lines = list(csv.DictReader(io.StringIO(log.read_text())))
    assert len(lines) == sum(repeat["requests"] for repeat in result.json["repeats"])
    assert {line["repeat"] for line in lines} == {"1", "2"}
    assert {line["status"] for line in lines} == {"answered"}


def test_two_processes_share_the_load(bench):
    result = served(bench, answer_rightly, "--processes", "2", "--rate", "200", "--json", "--max-failed", "1")
    for repeat in result.json["repeats"]:
        assert repeat["client"]["processes"] == 2
        assert repeat["offered_per_s"] == pytest.approx(200, rel=0.6)


def test_a_rate_that_the_client_cannot_send_is_told(bench):
    """It ran for 108 s instead of 3, and reported 555 requests/s, none failed, exit code 0."""
    begin = time.monotonic()
    result = served(
        bench,
        answer_rightly,
        "--rate",
        "60000",
        "--seconds",
        "1",
        "--rows-per-request",
        "1",
        "--repeats",
        "1",
        "--json",
    )
    assert time.monotonic() - begin < 20
    assert result.code == 6, result.err
    assert re.search("invalid|may fail", result.err)
    seen = result.json["repeats"][0]
    assert seen["offered_per_s"] == pytest.approx(60000, rel=0.05)
    assert seen["failed"] > 0
    assert any("overload" in text for text in result.json["remarks"])


async def class_77(request):
    return 200, columns(request.rows, answer=77)


async def every_other(request):
    return (200, columns(request.rows)) if request.number % 2 == 0 else (503, {"error": "the queue is full"})


@pytest.mark.parametrize(("answer", "problem"), [(class_77, "accuracy must be"), (every_other, "requests may fail")])
def test_a_server_that_answers_wrongly_does_not_pass(bench, answer, problem):
    result = served(bench, answer, "--json")
    assert result.code == 6, result.err
    assert problem in result.err
    assert len(result.json["repeats"]) == 2


def test_a_server_that_gives_all_rows_one_answer_does_not_pass(bench):
    result = served(bench, answer_rightly, rows="rows.npz")
    assert result.code == 6, result.err
    assert "all rows had the same one" in result.err
    assert served(bench, answer_rightly, "--min-accuracy", "0.2", rows="rows.npz").code == 0


def test_one_malformed_answer_loses_nothing(bench):
    async def answer(request):
        return (200, b"{not json") if request.number == 5 else (200, columns(request.rows))

    result = served(bench, answer, "--json", "--max-failed", "0.5")
    assert result.code == 0, result.err
    assert result.json["repeats"][0]["errors"] == {"invalid answer": 1}


def test_answers_that_never_come_are_named(bench):
    async def answer(request):
        if request.number:
            await asyncio.sleep(5)
        return 200, columns(request.rows)

    result = served(bench, answer, "--timeout-s", "0.5", "--warmup-seconds", "1", "--seconds", "0.2")
    assert result.code == 3
    assert re.search(r"no request was answered in repeat 1 \((\d+ x timeout: )?no answer in time\)", result.err)


def test_a_server_that_stops_is_named_and_what_was_measured_is_kept(bench, tmp_path):
    out = tmp_path / "out.json"

    async def answer(request):
        return (200, columns(request.rows)) if request.number < 40 else None

    result = served(bench, answer, "--out", out, "--seconds", "1", "--json")
    assert result.code == 3
    assert re.search("stopped to answer|no request was answered", result.err)
    seen = Result.load(out)
    assert (seen.state, len(seen.repeats)) == ("partial", 1)
    assert seen.repeats[0].requests > 0
    assert "answer" in seen.ended_by


def test_a_server_that_hangs_is_named_within_the_time_limit(bench):
    async def answer(request):
        import asyncio

        await asyncio.sleep(30)

    begin = time.monotonic()
    result = served(bench, answer, "--timeout-s", "0.5")
    assert (result.code, time.monotonic() - begin < 10) == (3, True)
    assert "does not answer a request within 0.5 s" in result.err


def test_a_full_disk_keeps_the_numbers_on_the_screen(bench, tmp_path, monkeypatch):
    from cascade.benchmarks import benchmark
    from cascade.benchmarks.analysis.request_log import RequestLog

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchmark, "write_whole", full)
    monkeypatch.setattr(RequestLog, "add", lambda log, _: setattr(log, "problem", OSError(27, "File too large")))
    result = bench("--out", tmp_path / "out.json", "--log", tmp_path / "log.csv", "--json")
    assert result.code == 3
    assert "out.json is not whole: No space left on device; " in result.err.replace("\n", " ")
    assert "log.csv is not whole: File too large" in result.err.replace("\n", " ")
    assert len(result.json["repeats"]) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_benchmark_that_is_ended_keeps_what_it_has(folder, tmp_path, number, code):
    out = tmp_path / "out.json"
    with StubServer(answer_rightly).running() as url:
        command = [sys.executable, "-m", "cascade", "bench", "run", folder / "config.yaml", "--target", "http"]
        command += ["--url", url, "--rows", folder / "ones.npz", "--rows-per-request", "4", "--out", out]
        command += ["--seconds", "1", "--warmup-seconds", "0", "--repeats", "100"]
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (out.exists() and len(Result.load(out).repeats) >= 2):
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    seen = Result.load(out)
    assert (seen.state, seen.ended_by) == ("partial", "interrupted")
    assert seen.repeats[-1].partial
    assert seen.repeats[-1].requests > 0
    assert b"marked as partial" in err


def test_a_foreign_server_needs_no_config(bench, tmp_path):
    async def answer(request):
        if request.method == "GET":
            return 200, {"name": "m", "inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, 1]}]}
        await asyncio.sleep(0.002)  # the server is the limit, not the client
        n = json.loads(request.body)["inputs"][0]["shape"][0]
        return 200, {"outputs": [{"name": "y", "datatype": "INT64", "shape": [n], "data": [1] * n}]}

    with StubServer(answer).running() as url:
        options = ("--url", url, "--model", "m", "--json")
        result = bench(*options, rows="ones.npz", target="oip-json", config=None)
        assert result.code == 0, result.err
        assert result.json["summary"]["accuracy"]["median"] == 1.0
        assert bench("--url", url, target="oip-json", config=None).code == 2  # which model?


def test_a_trace_is_replayed(run, folder, tmp_path):
    (tmp_path / "trace.csv").write_text(
        "time_s,rows,deadline_ms\n" + "".join(f"{i / 50},{1 + i % 3},5000\n" for i in range(50))
    )
    with StubServer(answer_rightly).running() as url:
        result = run(
            "bench", "replay", tmp_path / "trace.csv", folder / "config.yaml", "--target", "http", "--url", url,
            "--rows", folder / "ones.npz", "--repeats", "1", "--speed", "2", "--json",
        )  # fmt: skip
    assert result.code == 0, result.err
    (repeat,) = result.json["repeats"]
    assert (repeat["requests"], repeat["rows"]) == (50, sum(1 + i % 3 for i in range(50)))
    assert repeat["goodput_per_s"] * repeat["seconds"] == pytest.approx(50)


def test_a_sweep_finds_the_highest_rate(run, folder, tmp_path):
    import asyncio

    async def answer(request):
        await asyncio.sleep(0.02)
        return 200, columns(request.rows)

    with StubServer(answer).running() as url:
        result = run(
            "bench", "sweep", folder / "config.yaml", "--target", "http", "--url", url, "--rows", folder / "ones.npz",
            "--rates", "20,40,400", "--refine", "1", "--connections", "2", "--max-failed", "0.3", *FAST,
            "--folder", tmp_path / "sweep", "--plot", tmp_path / "curve.png", "--json",
        )  # fmt: skip
    assert result.code == 0, result.err
    assert (result.json["highest_rate"], result.json["first_rate_that_misses"]) == (40, 220)
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {f"rate_{n}.json" for n in (20, 40, 220, 400)}
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_sweep_over_connections_in_which_nothing_suffices_ends_with_6(run, folder):
    where = (folder / "config.yaml", "--target", "in-process", "--rows", folder / "rows.npz")
    result = run("bench", "sweep", *where, "--numbers-of-connections", "1,2", "--min-rows-per-s", "1e12", *FAST)
    assert (result.code, "no connections reaches" in result.err) == (6, True)
    for points in (("--rates", "1,x"), ("--rates", "0"), ("--rates", "inf"), ()):
        assert run("bench", "sweep", *where, *points).code == 2


def test_results_are_compared_and_drawn(run, bench, tmp_path):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        assert bench("--out", path, "--repeats", "3", "--max-failed", "1").code == 0
    same = run("bench", "compare", *paths, "--tolerance", "0.9", "--json")
    assert same.code == 0, same.err
    assert same.json["changes"]["rows_per_s"]["ratio"]["low"] > 0
    slow = json.loads(paths[1].read_text())
    for repeat in slow["repeats"]:
        repeat["rows_per_s"] /= 100
    paths[1].write_text(json.dumps(slow))
    worse = run("bench", "compare", *paths)
    assert (worse.code, "worse beyond noise: rows_per_s" in worse.err) == (6, True)
    assert run("bench", "plot", *paths, "--out", tmp_path / "p.html").code == 0
    assert run("bench", "plot", *paths, "--out", tmp_path / "p.gif").code == 2
    assert run("bench", "plot", tmp_path / "no.json", "--out", tmp_path / "p.png").code == 3
    assert Path(tmp_path / "p.html").read_text().startswith("<!doctype html>")
