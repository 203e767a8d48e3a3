"""The statistics of a process, their last minutes, and their export to Prometheus."""

import asyncio
import logging
import re
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_service import LocalService, ask

from cascade.answers import Answers
from cascade.engine import Segment, StageRun
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import Overloaded, StageFailed
from cascade.serving.replica.stats_poller import EXPORT_TICKS, StatsPoller
from cascade.serving.telemetry.history import History
from cascade.serving.telemetry.metrics import METRICS, exported_name
from cascade.serving.telemetry.metrics_export import MetricsExport
from cascade.serving.telemetry.observations import ANSWERED, MOST_LATENCIES, AuditEstimate, Observations

STAGES = ("tiny", "small", "big")

REQUESTS = st.lists(
    st.tuples(st.floats(0, 50), st.lists(st.tuples(st.integers(0, 2), st.floats(0, 9), st.booleans()), min_size=1))
)


def answers_of(rows):
    stage, cost, degraded = (np.array(column) for column in zip(*rows))
    return Answers(stage, stage, np.ones(len(rows)), cost, degraded=degraded if degraded.any() else None)


@given(REQUESTS)
def test_requests_are_counted_as_one_by_one(requests):
    stats = Observations(STAGES)
    for seconds, rows in requests:
        stats.answered(seconds, answers_of(rows))
    stats.fold()
    rows = [row for _, each in requests for row in each]
    assert stats.requests[ANSWERED] == stats.latency_ms.size == len(requests)
    assert stats.latency_ms.total == pytest.approx(1e3 * sum(seconds for seconds, _ in requests))
    assert stats.answered_rows.tolist() == [sum(row[0] == k for row in rows) for k in range(3)]
    assert stats.cost == pytest.approx(sum(row[1] for row in rows))
    assert stats.degraded_rows == sum(row[2] for row in rows)


def test_what_is_collected_stays_small_and_holds_no_answers():
    stats, answers = Observations(STAGES), answers_of([(0, 1.0, False)])
    held = sys.getrefcount(answers)
    for _ in range(MOST_LATENCIES + 100):
        stats.answered(0.001, answers)
        assert len(stats._latencies_s) < MOST_LATENCIES
    assert sys.getrefcount(answers) == held


@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))))
def test_stages_are_counted_as_one_by_one(runs):
    stats = Observations(STAGES)
    for stage, rows in runs:
        confidence, unsure = (np.array(column) for column in zip(*rows))
        stats.stage_ran(StageRun(stage, 0.5, confidence, unsure, np.ones(len(rows))))
    stats.fold()
    for stage in range(3):
        rows = [row for k, each in runs if k == stage for row in each]
        assert stats.deferred_rows[stage] == sum(unsure for _, unsure in rows)
        assert stats.accepted_rows[stage] == sum(not unsure for _, unsure in rows)
        assert stats.confidence[stage].size == len(rows)
        assert stats.stage_s[stage] == 0.5 * sum(k == stage for k, _ in runs)


def rows_request(*numbers):
    return {"method": "POST", "url": "/predict", "json": {"rows": [[number, 0] for number in numbers]}}


def test_a_service_counts_what_its_stages_did(config):
    service = LocalService(config)
    ask(service, rows_request(*range(8)), rows_request(1), rows_request(), rows_request(424242))
    stats = service.stats
    stats.fold()
    assert stats.accepted_rows.tolist() == [4, 5]
    assert stats.deferred_rows.tolist() == [5, 0]
    assert stats.answered_rows.tolist() == [4, 5]
    assert stats.requests == {ANSWERED: 2, ("400", "RowsError"): 1, ("500", "StageFailed"): 1}
    assert stats.failed_rows == 1
    assert stats.batch_rows.total == 9
    assert stats.batch_wait_ms.size == stats.batch_run_ms.size == stats.batch_rows.size
    assert 0 <= stats.batch_wait_ms.total < 1e5
    assert np.all(stats.stage_s > 0)


def test_the_watch_changes_no_answer_and_receives_every_row(config):
    from local_service import POLICY

    from cascade.cascade import load_stages

    runs = []
    stages = load_stages(config.stages)
    rows = np.array([[number, 0] for number in range(20)])
    watched = Segment(stages, watch=runs.append).run(rows, POLICY)
    plain = Segment(stages).run(rows, POLICY)
    assert np.array_equal(watched.stage, plain.stage)
    assert np.array_equal(watched.confidence, plain.confidence)
    assert [(run.stage, len(run.confidence), int(run.deferred.sum())) for run in runs] == [(0, 20, 10), (1, 10, 0)]


class Recorded:
    """A counter or a gauge that records its values."""

    def __init__(self, metric):
        self.metric, self.values = metric, {}

    def inc(self, value, tags):
        assert self.metric.kind == "counter"
        assert value > 0
        assert set(tags) == set(self.metric.tags)
        self.values[tuple(tags.values())] = self.values.get(tuple(tags.values()), 0) + value

    def set(self, value, tags):
        assert self.metric.kind == "gauge"
        self.values[tuple(tags.values())] = value


@given(st.lists(REQUESTS, max_size=4))
def test_however_often_it_is_exported_the_sum_is_the_count(parts):
    stats, made = Observations(STAGES), {}
    export = MetricsExport(stats, lambda metric: made.setdefault(metric.name, Recorded(metric)))
    for part in parts:
        for seconds, rows in part:
            stats.answered(seconds, answers_of(rows))
        export.export()
    export.export()
    for metric in METRICS:
        wanted = {tags: value for tags, value in dict(metric.read(stats)).items() if value or metric.kind == "gauge"}
        assert made[metric.name].values == pytest.approx(wanted)


def test_gauges_follow_and_that_of_an_earlier_policy_version_becomes_zero():
    stats, made = Observations(STAGES), {}
    export = MetricsExport(stats, lambda metric: made.setdefault(metric.name, Recorded(metric)))
    export.export()
    assert made["cascade_policy_info"].values == {}
    assert made["cascade_audit_agreement"].values == {}
    stats.policy_version, stats.audit = "one", AuditEstimate(0.9, 0.8, 1.0, 50)
    stats.alarms["agreement"] = True
    export.export()
    stats.policy_version = "two"
    stats.alarms["agreement"] = False
    stats.reloads["accepted"] += 1
    export.export()
    assert made["cascade_policy_info"].values == {("one",): 0, ("two",): 1}
    assert made["cascade_alarm"].values == {("agreement",): 0}
    assert made["cascade_audit_agreement"].values == {(): 0.9}
    assert made["cascade_audit_agreement_least"].values == {}
    assert made["cascade_audit_rows"].values == {(): 50}
    assert made["cascade_policy_reloads"].values == {("accepted",): 1}


def test_names_are_those_of_prometheus_and_different():
    names = [exported_name(metric) for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"ray_cascade_[a-z_]+", name) for name in names)
    assert not any(name.endswith("_total_total") for name in names)


def test_the_history_has_the_differences_and_forgets():
    stats = Observations(STAGES)
    history = History(stats, slots=3)
    start = history._moments[0].at_s
    for second in range(1, 6):
        for _ in range(second):
            stats.answered(0.01 * second, answers_of([(0, 1.0, False), (2, 3.0, True)]))
        stats.refused(Overloaded("full"))
        history.tick(start + second)
    series, summary = history.series(), history.summary()
    assert series["ago_s"] == [2, 1, 0]
    assert series["requests_per_s"] == [3, 4, 5]
    assert series["rows_per_s"] == [6, 8, 10]
    assert series["refused_per_s"] == [1, 1, 1]
    assert series["p99_ms"] == pytest.approx([30, 40, 50], rel=0.13)
    assert summary["seconds"] == 3
    assert summary["requests"] == 12
    assert summary["answered_rows"] == [12, 0, 12]
    assert summary["degraded_rows"] == 12
    assert summary["abstained_rows"] == 0
    assert summary["mean_cost"] == 2
    assert summary["refused"] == [{"status": "503", "reason": "Overloaded", "requests": 3}]


def test_abstained_rows_and_their_reviews_are_counted():
    stats, made = Observations(STAGES), {}
    export = MetricsExport(stats, lambda metric: made.setdefault(metric.name, Recorded(metric)))
    history = History(stats)
    answers = answers_of([(2, 1.0, False)] * 3)
    stats.answered(0.01, replace(answers, abstained=np.array([True, False, True])))
    stats.reviewed_rows |= {("file", "written"): 1, ("file", "dropped"): 1}
    export.export()
    history.tick()
    assert stats.abstained_rows == history.summary()["abstained_rows"] == 2
    assert stats.answered_rows.tolist() == [0, 0, 3]
    assert made["cascade_abstained_rows"].values == {(): 2}
    assert made["cascade_reviewed_rows"].values == {("file", "written"): 1, ("file", "dropped"): 1}


def test_the_poller_exports_every_few_ticks_and_logs_refusals_once(caplog):
    stats, made = Observations(STAGES), {}
    batcher = Batcher(single_step(lambda *_: None), None, BatcherOptions(8, 100))
    export = MetricsExport(stats, lambda metric: made.setdefault(metric.name, Recorded(metric)))
    poller = StatsPoller(stats, batcher, export)
    stats.refused(StageFailed("secret"))
    stats.refused(StageFailed("secret"))
    for tick in range(1, EXPORT_TICKS):
        poller.poll(tick)
    assert made["cascade_requests"].values == {}
    with caplog.at_level(logging.INFO, logger="cascade"):
        for tick in range(EXPORT_TICKS, 40):
            poller.poll(tick)
    assert made["cascade_requests"].values == {("500", "StageFailed"): 2}
    assert [(record.status, record.reason, record.requests) for record in caplog.records] == [(500, "StageFailed", 2)]
    batcher.close()


def test_the_poller_works_from_a_timer_and_survives_an_export_that_fails(monkeypatch, caplog):
    monkeypatch.setattr("cascade.serving.replica.stats_poller.TICK_S", 0.001)
    calls = Counter()

    class Failing:
        def export(self):
            calls["export"] += 1
            raise OSError("gone")

    async def main():
        poller = StatsPoller(
            Observations(STAGES), Batcher(single_step(lambda *_: None), None, BatcherOptions(8, 100)), Failing()
        )
        poller.start()
        until = time.monotonic() + 5
        while calls["export"] < 2 and time.monotonic() < until:
            await asyncio.sleep(0.005)
        poller.stop()

    asyncio.run(main())
    assert calls["export"] >= 2
