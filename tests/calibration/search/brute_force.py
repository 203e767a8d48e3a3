"""Small problems, and every thresholds' gain and cost on them row by row."""

import itertools

import numpy as np
from hypothesis import strategies as st

from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import NEVER


@st.composite
def problems(draw, least_stages=1, most_stages=4, most_rows=15):
    """Few distinct confidences, so that ties are common; costs of rows or of stages; any gains, or 0 and 1."""
    stages, n = draw(st.integers(least_stages, most_stages)), draw(st.integers(1, most_rows))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    levels = draw(st.integers(1, 5))
    confidence = random.integers(0, levels + 1, (n, stages - 1)) / levels
    cost = random.uniform(0, 3, (n, stages)) if draw(st.booleans()) else random.integers(0, 3, stages).astype(float)
    gain = random.uniform(0, 1, (n, stages))
    if draw(st.booleans()):
        gain = np.round(gain)
    return RoutingProblem(confidence, gain, np.cumsum(np.broadcast_to(cost, (n, stages)), axis=1))


def distinct_problem(n, stages, seed=0):
    """Every confidence is there once; later stages are better and more expensive."""
    random = np.random.default_rng(seed)
    confidence = random.beta(4, 2, (n, stages))
    right = random.random((n, stages)) < np.clip(confidence * 0.6 + np.linspace(0.55, 0.95, stages) * 0.5, 0, 1)
    cost = np.cumsum(np.geomspace(1.0, 10.0 ** (stages - 1), stages))
    return RoutingProblem(confidence[:, :-1], right.astype(float), np.tile(cost, (n, 1)))


def every_threshold(problem):
    """Every value of a threshold that makes a difference, a stage."""
    return tuple(np.append(np.unique(column), NEVER) for column in problem.confidence.T)


def value(problem, thresholds, runs_all=False):
    """Mean gain and cost, row by row; a stage that answers no row is not run, unless ``runs_all``."""
    own = np.diff(problem.cost, axis=1, prepend=0.0)
    runs = [runs_all or threshold <= 1 for threshold in thresholds] + [True]
    gain = cost = 0.0
    for i, row in enumerate(problem.confidence):
        accepting = [k for k, threshold in enumerate(thresholds) if row[k] >= threshold]
        stage = accepting[0] if accepting else len(thresholds)
        gain += problem.gain[i, stage]
        cost += sum(own[i, k] for k in range(stage + 1) if runs[k])
    return gain / len(problem.confidence), cost / len(problem.confidence)


def all_points(problem, runs_all=False):
    """(m, 2) gain and cost of every combination of thresholds."""
    every = itertools.product(*every_threshold(problem))
    return np.array([value(problem, thresholds, runs_all) for thresholds in every])
