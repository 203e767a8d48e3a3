"""One threshold moved, the others fixed: what the refinement sees is what the rows give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search import _along
from cascade.routers import NEVER


@given(st.integers(2, 4), st.integers(1, 25), st.integers(0, 10_000), st.integers(1, 6))
def test_every_value_of_a_threshold_gains_and_costs_what_the_rows_do(stages, n, seed, levels):
    random = np.random.default_rng(seed)
    confidence = random.integers(0, levels + 1, (n, stages - 1)) / levels
    cost = np.cumsum(random.uniform(0, 3, (n, stages)), axis=1)
    problem = RoutingProblem(confidence, random.uniform(0, 1, (n, stages)), cost)
    thresholds = random.choice([0.0, 0.3, 0.5, 1.0, NEVER], stages - 1)
    for k in range(stages - 1):
        values, gain, cost_along = _along(problem, thresholds, k)
        assert {NEVER, thresholds[k]} <= set(values.tolist())
        for value, g, c in zip(values, gain, cost_along, strict=True):
            moved = thresholds.copy()
            moved[k] = value
            assert (g, c) == pytest.approx(problem.value(moved))
