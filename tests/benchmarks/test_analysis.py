"""From records to numbers: percentiles, intervals, steady state, validity, comparison, files."""

import csv
import io
import json
import os
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.analysis.comparison import compare, differences
from cascade.benchmarks.analysis.exports import EXPORT_SUFFIXES, export
from cascade.benchmarks.analysis.intervals import estimate, ratio, spread
from cascade.benchmarks.analysis.latencies import Latencies, most_above
from cascade.benchmarks.analysis.objectives import Objectives, client_limits
from cascade.benchmarks.analysis.result import Measured, Result
from cascade.benchmarks.analysis.steady_state import steady_from
from cascade.benchmarks.analysis.tally import Tally
from cascade.benchmarks.clients.lane import ANSWERED, NOT_SENT
from cascade.benchmarks.errors import ResultError
from cascade.benchmarks.generator.slices import RECORD, RowSums, Slice
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Batch, Workload
from cascade.errors import InputError
from cascade.files.result_files import check_output, write_whole


@given(st.lists(st.floats(0, 2000), min_size=1, max_size=300), st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_percentiles_are_those_of_the_values_up_to_a_thousandth(seconds, percent):
    seconds = np.array(seconds)
    exact = np.sort(seconds)[max(0, int(np.ceil(percent / 100 * len(seconds) - 1e-9)) - 1)] * 1e3
    found = Latencies.of(seconds).percentile(percent)
    assert exact - 1e-9 <= found * (1 + 1e-12) + 1e-9
    assert found <= exact * 1.001 + 0.0011
    assert Latencies.of(seconds).largest_ms == seconds.max() * 1e3


@given(st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=50), min_size=1, max_size=4))
def test_merged_histograms_are_that_of_all(parts):
    single = [Latencies.of(np.array(part)) for part in parts]
    merged = Latencies.merged([(one.sparse(), one.largest_ms, one.mean_ms) for one in single])
    whole = Latencies.of(np.concatenate([np.array(part) for part in parts]))
    assert merged.sparse() == whole.sparse()
    assert merged.mean_ms == pytest.approx(whole.mean_ms)


def test_a_percentile_needs_as_many_requests_as_loadgen_asks_for():
    assert [most_above(n, p) for n, p in ((63, 90), (64, 90), (661, 99), (662, 99))] == [None, 1, None, 1]
    assert most_above(0, 50) is None


def test_the_upper_bound_of_a_percentile_holds_with_its_confidence():
    random, true = np.random.default_rng(0), -np.log(0.1)
    missed = sum(Latencies.of(random.exponential(1.0, 200)).upper(90) / 1e3 < true for _ in range(1000))
    assert missed <= 20  # 10 are expected at most


def test_the_text_of_hdrhistogram_has_rising_percentiles():
    lines = Latencies.of(np.random.default_rng(0).exponential(0.01, 1000)).to_hgrm().splitlines()[2:-2]
    values = np.array([[float(cell) for cell in line.split()] for line in lines])
    assert (np.diff(values[:, 0]) >= 0).all()
    assert values[-1, 2] == 1000


def test_intervals_hold_a_further_repeat_as_often_as_they_claim():
    random = np.random.default_rng(0)
    found = [estimate(random.normal(100, 10, 5)) for _ in range(2000)]
    held = np.mean([one.low <= random.normal(100, 10) <= one.high for one in found])
    assert 0.93 <= held <= 0.97
    ratios = [ratio(random.normal(100, 5, 4), random.normal(100, 10, 4)) for _ in range(1000)]
    further = [random.normal(100, 5) / random.normal(100, 10) for _ in ratios]
    assert np.mean([one.low <= other <= one.high for one, other in zip(ratios, further)]) >= 0.93


def test_intervals_hold_where_the_machine_changes_between_benchmarks_as_much_as_within_one():
    random = np.random.default_rng(0)
    found = [estimate(random.normal(100, 10) + random.normal(0, 10, 4)) for _ in range(1000)]
    assert np.mean([one.low <= 100 <= one.high for one in found]) >= 0.9


def test_two_repeats_have_no_interval():
    assert estimate([1.0, 50.0, 2.0]).low == 0
    assert estimate([-1.0, 50.0, 2.0]).low < -1
    assert (estimate([1.0, 2.0]).low, ratio([1.0, 2.0], [1.0, 2.0]).low) == (None, None)
    assert ratio([0.0], [1.0]) is None


@pytest.mark.parametrize(
    ("series", "start"),
    [
        ([10.0] * 20, 0),
        ([1.0, 2, 4, 6, 8] + [10.0] * 15, 5),
        (list(range(20)), None),
        ([np.nan] * 20, 0),
        ([0.0] * 20, 0),
    ],
)
def test_the_steady_part_of_a_load_is_found(series, start):
    assert steady_from(np.array(series, dtype=float)) == start


def test_noise_is_steady():
    random = np.random.default_rng(0)
    found = [steady_from(random.normal(100, 30, 20)) for _ in range(300)]
    assert found.count(None) <= 3


def tallied(load, due, latency_s, status=ANSWERED, lag_s=0.0, processor_s=0.1, sums=None):
    """The repeat of a load with these requests."""
    records = np.zeros(len(due), RECORD)
    records["due"], records["handled"], records["sent"] = due, due + lag_s, due + lag_s
    records["done"], records["status"] = due + latency_s, status
    workload = Workload((Batch(np.zeros((1, 1)), None),))
    tally = Tally(load, workload, seed=0)
    tally.add(Slice(records, sums or RowSums(rows=len(due), stages={}, versions=set()), {}, processor_s, True))
    return tally.repeat()


def closed_repeat(rate=200.0, latency_s=0.01, **options):
    return tallied(ClosedLoop(2, 10.0), np.arange(0, 10, 1 / rate), latency_s, **options)


def test_the_warm_up_is_left_out():
    repeat = tallied(ClosedLoop(2, 1.0, warmup_seconds=1.0), np.arange(0, 2, 0.01), 0.001)
    assert (repeat.requests, repeat.seconds) == (100, 1.0)
    assert repeat.requests_per_s == pytest.approx(100, abs=1)


def test_few_requests_have_no_p99():
    repeat = tallied(ClosedLoop(2, 1.0), np.linspace(0, 0.9, 31), 0.001)
    assert "p99" not in repeat.latency_ms
    assert {"p50"} <= repeat.latency_ms.keys()
    assert repeat.too_few_for[-3:] == ["p99", "p99.9", "p99.99"]


@pytest.mark.parametrize(
    ("repeat", "reason"),
    [
        (closed_repeat(), None),
        (closed_repeat(processor_s=9.5), "used 95% of a processor"),
        (tallied(OpenLoop(200, 10.0), np.arange(0, 10, 0.005), 0.05, lag_s=0.04), "the client was late: 40 ms"),
        (tallied(OpenLoop(200, 10.0), np.arange(0, 10, 0.005), 0.05, lag_s=0.001), None),
        (
            tallied(OpenLoop(200, 10.0), np.arange(0, 10, 0.005), 0.05, NOT_SENT, np.nan),
            "did not get to 2,000 of 2,000",
        ),
    ],
)
def test_a_repeat_is_invalid_where_the_client_was_the_limit(repeat, reason):
    found = client_limits(repeat)
    assert (found == []) if reason is None else any(reason in text for text in found)


def result(*repeats, **objectives):
    found = Result(
        date=datetime.now(timezone.utc),
        commit=None,
        machine={"cpu": "x", "cores": 2},
        options={"seconds": 10},
        measured=Measured(
            config="c", target="http", scenario="offline", load="closed loop", rows_per_request=1, connections=2,
            rate_per_s=None, mix=None, data="rows.npz", data_rows=10,
        ),
        objectives=Objectives(**objectives),
    )  # fmt: skip
    for repeat in repeats:
        found.add(repeat.model_copy(update={"invalid": client_limits(repeat)}))
    return found


def test_objectives_are_judged_on_medians():
    repeats = [closed_repeat(latency_s=s) for s in (0.01, 0.02, 0.4)]
    assert result(*repeats, max_p99_ms=21, min_rows_per_s=190).missed == []
    missed = result(*repeats, max_p99_ms=19, min_rows_per_s=1e6, min_accuracy=0.5).missed
    assert ["p99 latency" in missed[0], "throughput" in missed[1], "no labels" in missed[2]] == [True] * 3


def test_failures_miss_an_objective_of_their_own():
    half = tallied(ClosedLoop(2, 10.0), np.arange(0, 10, 0.005), 0.01, np.resize([ANSWERED, 503], 2000))
    assert "50.00% did" in result(half).missed[0]
    assert "not answered at all" in result(half, max_p99_ms=1000).missed[1]
    assert result(half, max_failed=0.6).missed == []


def test_one_answer_to_all_rows_misses_an_objective():
    same = closed_repeat().model_copy(update={"different_answers": 1})
    several = closed_repeat().model_copy(update={"different_answers": 2})
    assert result(same, min_different_answers=2).missed == ["2 answers must differ; all rows had the same one"]
    assert result(same).missed == result(several, min_different_answers=2).missed == []


def test_repeats_that_differ_have_a_remark():
    assert any("differ by a factor of 2" in text for text in result(closed_repeat(100), closed_repeat(200)).remarks)


def test_an_overload_is_named():
    status = np.resize([ANSWERED, NOT_SENT], 2000)
    half = tallied(OpenLoop(200, 10.0), np.arange(0, 10, 0.005), 0.01, status)
    assert any("overload: 200 requests/s were due, 100 were answered" in text for text in result(half).remarks)


def test_a_regression_is_told_from_noise():
    random = np.random.default_rng(0)
    base, same, slow = (
        result(*(closed_repeat(rate * random.normal(1, 0.02)) for _ in range(4))) for rate in (200, 200, 150)
    )
    verdicts = {one.name: one.verdict for one in compare(base, slow)}
    assert (verdicts["rows_per_s"], verdicts["latency_ms.p50"]) == ("worse", "no difference beyond noise")
    assert {one.verdict for one in compare(base, same)} == {"no difference beyond noise"}
    assert {one.name: one.verdict for one in compare(slow, base)}["rows_per_s"] == "better"
    assert {one.name: one.verdict for one in compare(base, slow, 0.5)}["rows_per_s"] == "no difference beyond noise"
    assert {one.verdict for one in compare(result(closed_repeat()), result(closed_repeat(100)))} == {"not known"}


def test_a_repeat_that_was_ended_early_does_not_change_the_summary():
    whole, cut = closed_repeat(200), closed_repeat(10).model_copy(update={"partial": True})
    assert result(whole, cut).summary["rows_per_s"].median == pytest.approx(200, rel=0.01)
    assert result(cut).summary["rows_per_s"].median == pytest.approx(10, rel=0.01)


def test_other_loads_and_machines_are_named_in_a_comparison():
    first, second = result(closed_repeat()), result(closed_repeat())
    second.measured.connections, second.machine["cpu"] = 7, "y"
    assert differences(first, second)[:2] == ["connections: 2 and 7", "cpu: x and y"]


def test_a_result_file_is_read_as_it_was_written(tmp_path):
    written = result(closed_repeat(), closed_repeat(100), closed_repeat(150))
    (tmp_path / "r.json").write_text(written.model_dump_json())
    assert Result.load(tmp_path / "r.json") == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a JSON file"),
        ("[]", "schema_version 2"),
        ('{"schema_version": 1, "repeats": []}', "measure again with 'cascade bench run'"),
        ('{"schema_version": 2}', "has .* problems"),
        ('{"schema_version": 3}', "has .* problems"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ResultError, match=message):
        Result.load(tmp_path / "r.json")
    with pytest.raises(ResultError, match="does not exist"):
        Result.load(tmp_path / "no.json")


@pytest.mark.parametrize("suffix", EXPORT_SUFFIXES)
@pytest.mark.parametrize("count", [1, 3])
def test_results_are_written_in_every_form(tmp_path, suffix, count):
    results = [result(*(closed_repeat(rate) for rate in (100, 200, 150))) for _ in range(count)]
    path = tmp_path / f"out{suffix}"
    export(results, path)
    assert path.stat().st_size > 100
    if suffix == ".csv":
        assert len(list(csv.DictReader(io.StringIO(path.read_text())))) == 3 * count
    if suffix == ".json":
        metrics = json.loads(path.read_text())
        assert {one["perf_metric_type"] for one in metrics} == {"LATENCY", "THROUGHPUT"}
    if suffix == ".html":
        page = path.read_text()
        assert "<script" not in page
        assert page.count("Numbers over the repeats") == count


def test_an_empty_result_and_an_unknown_form_are_refused(tmp_path):
    with pytest.raises(InputError, match="nothing was measured"):
        export([result()], tmp_path / "out.png")
    with pytest.raises(InputError, match="must end in"):
        export([result(closed_repeat())], tmp_path / "out.gif")


def test_what_is_not_a_file_is_never_replaced(tmp_path):
    target = tmp_path / "kept.json"
    target.write_text("kept")
    (tmp_path / "link.json").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for path in ("link.json", "pipe.json", "folder.json", "no/folder.json"):
        with pytest.raises(InputError):
            write_whole(tmp_path / path, "new")
    with pytest.raises(InputError, match="device"):
        check_output(Path(os.devnull))
    assert target.read_text() == "kept"
    assert (tmp_path / "link.json").is_symlink()
    assert Path(os.devnull).is_char_device()


def test_a_failed_write_keeps_the_older_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    write_whole(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert [one.name for one in tmp_path.iterdir()] == ["r.json"]
    assert path.read_text() == "old"


def test_the_spread_has_the_nesting_of_the_repeats():
    repeats = [
        {"rows_per_s": 10, "latency_ms": {"p50": 3.0}, "errors": {}, "accuracy": None, "policy_versions": ["x"]},
        {"rows_per_s": 30, "latency_ms": {"p50": 1.0}, "errors": {"503": 4}, "accuracy": None, "policy_versions": []},
        {"rows_per_s": 11, "latency_ms": {"p50": 2.5}, "errors": {}, "accuracy": None, "policy_versions": ["x"]},
    ]
    assert spread(repeats) == {
        "rows_per_s": {"median": 11, "min": 10, "max": 30},
        "latency_ms": {"p50": {"median": 2.5, "min": 1.0, "max": 3.0}},
        "errors": {"503": {"median": 0, "min": 0, "max": 4}},  # a repeat without an error had none of them
        "accuracy": None,
    }
