"""The simulation of guarantees asks of a table what ``calibrate`` asks."""

from dataclasses import replace

import numpy as np
from drawn_table import draw

from cascade.benchmarks.experiments.statistics import validity
from cascade.benchmarks.harness.populations import Population


def timed():
    """A table in milliseconds whose stages have cost curves."""
    table = draw(np.random.default_rng(0), 4000)
    full = np.array([1.0, 6.0, 300.0])
    return replace(
        table,
        cost=full / 64,
        curve_rows=np.array([1, 64]),
        curve_ms=full[:, None] * np.array([0.4, 1.0]),
        curve_spread=np.zeros((3, 2)),
        curve_cost=full / 64,
        cost_per_ms=np.ones(3),
    )


def test_costs_of_a_table_with_curves_are_bounded_in_the_unit_of_the_budget(monkeypatch):
    population = Population("timed", timed())
    (budget,) = [goal for goal in validity.goals(population) if goal.targets.keys() == {"max_cost"}]
    monkeypatch.setattr(validity, "goals", lambda _: [budget])
    counts = validity.simulate(population, 500, range(12))
    assert counts[0, 0.05, "certified"] > 6
    assert counts[0, 0.05, "violated"] < 3
