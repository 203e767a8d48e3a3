"""What the simulation of drift shows a monitor is what a policy does with the rows."""

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.benchmarks.experiments.statistics import audit_drift
from cascade.calibration import Policy, ScoreTable
from cascade.calibration.monitoring.monitor import Monitor
from cascade.cascade import Cascade
from cascade.collection.collect import collect
from cascade.stage import Stage


def test_traffic_is_what_the_cascade_does():
    rng = np.random.default_rng(0)
    stages = [Stage(name, FakeBackend(rng.dirichlet(np.full(3, 0.3), 400))) for name in ("a", "b", "c")]
    rows, weight = np.arange(400), rng.random(400)
    policy = Policy.from_thresholds(("a", "b", "c"), np.array([0.9, 0.8]))
    table = collect(stages, rows, rng.integers(0, 3, 400), curve_seconds=0)
    answers = Cascade(stages, policy).predict(rows)
    last = stages[2].predict(rows).answer
    facts = audit_drift.Traffic.of(table, policy, weight).facts()
    assert facts["agreement"] == pytest.approx(np.average(answers.answer == last, weights=weight))
    assert facts["accuracy"] == pytest.approx(np.average(answers.answer == table.label, weights=weight))
    for k in range(3):
        assert facts["stage_share"][k] == pytest.approx(np.average(answers.stage == k, weights=weight))

    monitor = Monitor(policy, 0.1, first_behind=2)
    traffic = audit_drift.Traffic.of(table, policy, weight)
    for _ in range(20):
        traffic.show(monitor, 1000, 0.5, rng)
    seen = monitor.to_dict()
    assert sum(seen["answered_rows"].values()) == 20_000
    assert seen["agreement"]["rows"] == pytest.approx(10_000, rel=0.05)
    assert seen["agreement"]["rate"] == pytest.approx(facts["agreement"], abs=0.02)


def test_rows_of_another_data_set_are_never_right():
    def table(rows, label):
        scores = np.full((rows, 2, 10), 0.1)
        return ScoreTable(
            np.zeros((rows, 2), int),
            np.full((rows, 2), 0.1),
            np.ones(2),
            np.array(["a", "b"]),
            label=label,
            scores=scores,
        )

    drifted = {"digits": table(2, None)} | {name: table(2, np.zeros(2, int)) for name in audit_drift.NOISE}
    both, weight, label = audit_drift.scenarios(table(20, np.arange(20) % 10), drifted)["30% digits"]
    assert (len(both), label.tolist()[-2:]) == (22, [-1, -1])
    policy = Policy.from_thresholds(("a", "b"), np.array([0.5]))
    facts = audit_drift.Traffic.of(both, policy, weight, label).facts()
    assert facts["accuracy"] == pytest.approx(0.7 * 2 / 20)


def test_delays_count_runs_that_never_noticed():
    found = [{"agreement": 500, "forward_rate": 100}] * 9 + [{}] * 2
    assert audit_drift.delays(found) == {"noticed_share": 9 / 11, "median_rows": 100, "p90_rows": None}
    assert audit_drift.delays(found, "agreement")["median_rows"] == 500
