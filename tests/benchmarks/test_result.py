"""The result file, the picture, the objectives."""

import getpass
import json
import os
import platform
import socket
from pathlib import Path

import pytest

from cascade.benchmarks.errors import ResultError
from cascade.benchmarks.objectives import Objectives
from cascade.benchmarks.plot import PLOT_SUFFIXES, plot_result
from cascade.benchmarks.result import Result
from cascade.errors import ObjectiveMissed
from cascade.machine.description import describe_machine


def repeat(rows_per_s=100.0, p99=10.0, failed=0, requests=1000, **more):
    return {
        "rows_per_s": rows_per_s,
        "requests": requests,
        "failed": failed,
        "latency_ms": {"p50": p99 / 3, "p95": p99 / 2, "p99": p99, "mean": p99 / 3, "max": p99},
        "stage_share": {"small": 0.75, "big": 0.25},
        "errors": {},
        **more,
    }


@pytest.fixture
def result():
    measured = {"config": "fake", "target": "http", "rows_per_request": 8, "connections": 2}
    return Result.here(measured, {"seconds": 1.0}, [repeat(100.0), repeat(130.0), repeat(110.0, p99=12.5)])


def test_a_result_file_has_everything_again(result, tmp_path):
    result.save(tmp_path / "result.json")
    assert Result.load(tmp_path / "result.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    summary = json.loads((tmp_path / "result.json").read_text())["summary"]
    assert summary["rows_per_s"] == {"median": 110, "min": 100, "max": 130}
    assert summary["latency_ms"]["p99"] == {"median": 10, "min": 10, "max": 12.5}


def test_a_result_tells_nothing_about_whose_machine_it_was(result):
    text = json.dumps(result.to_dict())
    for secret in {socket.gethostname(), platform.node(), str(Path.home()), str(Path.cwd()), os.environ.get("PWD", "")}:
        assert len(secret) < 2 or secret not in text
    assert f'"{getpass.getuser()}"' not in text
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["versions"]["python"] == platform.python_version()
    assert machine["memory_bytes"] is None or machine["memory_bytes"] > 1 << 28


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; 'cascade bench --out' makes it"),
        ("{", "is not a JSON file"),
        ("\udc80", "is not a JSON file"),
        ("[]", "must be a result of schema_version 1"),
        ('{"schema_version": 2}', "must be a result of schema_version 1"),
        ('{"schema_version": 1, "measured": {}}', "lacks machine, options, repeats"),
        ('{"schema_version": 1, "measured": {}, "machine": {}, "options": {}, "repeats": []}', "lacks repeats"),
        ('{"schema_version": 1, "measured": {}, "machine": {}, "options": {}, "repeats": 3}', "list of objects"),
        ('{"schema_version": 1, "measured": {}, "machine": {}, "options": {}, "repeats": [3]}', "list of objects"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, text, message):
    path = tmp_path / "result.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ResultError, match=message):
        Result.load(path)


@pytest.mark.parametrize("suffix", PLOT_SUFFIXES)
@pytest.mark.parametrize("biggest", [False, True])
def test_a_picture_is_of_the_kind_that_its_name_says(result, tmp_path, suffix, biggest):
    if biggest:
        result = Result.here(result.measured, {}, [one | {"biggest_alone": repeat(70.0)} for one in result.repeats])
    path = tmp_path / f"picture{suffix}"
    plot_result(result, path)
    begin = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    content = path.read_bytes()
    assert content.startswith(begin)
    assert len(content) > 4000


@pytest.mark.parametrize(
    ("objectives", "missed"),
    [
        (Objectives(), []),
        (Objectives(10.0, 110.0), []),
        (Objectives(max_p99_ms=9.99), ["p99 latency must be at most 9.99 ms; measured 10 ms"]),
        (Objectives(min_rows_per_s=110.1), ["at least 110.1 rows/s; measured 110 rows/s"]),
        (Objectives(1.0, 1000.0), ["at most 1 ms", "at least 1000 rows/s"]),
    ],
)
def test_objectives_are_held_against_medians_and_all_misses_are_named(result, objectives, missed):
    if not missed:
        objectives.check(result.summary)
        return
    with pytest.raises(ObjectiveMissed) as found:
        objectives.check(result.summary)
    assert all(text in str(found.value) for text in missed)
    assert found.value.exit_code == 6


@pytest.mark.parametrize(("failed", "meets"), [(10, True), (11, False), (500, False)])
def test_a_latency_objective_is_missed_where_more_than_a_hundredth_is_not_answered(failed, meets):
    summary = Result.here({}, {}, [repeat(p99=1.0, requests=1000 - failed, failed=failed)]).summary
    Objectives(min_rows_per_s=1.0).check(summary)
    if meets:
        Objectives(max_p99_ms=5.0).check(summary)
    else:
        with pytest.raises(ObjectiveMissed, match=f"{failed} of 1000 requests were not answered"):
            Objectives(max_p99_ms=5.0).check(summary)
