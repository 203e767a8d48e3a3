"""A certified mean cost rests on a bound that is declared, never on the most expensive row of the table."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import ScoreTable, calibrate
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.choice.choose_cascade import choose_cascade
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.fitting.router_fitting import fit_routers
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.split_table import SplitTable
from cascade.errors import InfeasibleTarget, ScoreTableError
from cascade.routers import NEVER

RARE, USUAL = 600.0, 10.0
DELTA = 0.05


def rare_costs(rows: int, rng: np.random.Generator, bound: float | None = RARE) -> ScoreTable:
    """One row in a hundred takes 60 times what the others take at the second stage."""
    slow = np.where(rng.uniform(0, 1, rows) < 0.01, RARE, USUAL)
    return ScoreTable(
        prediction=(rng.uniform(0, 1, (rows, 2)) < [0.2, 0.05]).astype(int),
        confidence=rng.uniform(0, 1, (rows, 2)),
        cost=np.column_stack([np.ones(rows), slow]),
        stage=np.array(["fast", "slow"]),
        label=np.zeros(rows, dtype=int),
        highest_cost=None if bound is None else np.array([1.0, bound]),
    )


def test_without_a_declared_bound_a_mean_cost_is_refused_and_the_stage_is_named() -> None:
    table = rare_costs(2000, np.random.default_rng(0), None)
    with pytest.raises(InfeasibleTarget, match=r"differ in their cost at .*'slow'.*highest_cost"):
        calibrate(table, max_cost=14.0)
    with pytest.raises(InfeasibleTarget, match="highest_cost"):
        calibrate(table, max_accuracy_drop=0.1, max_cost=14.0)
    assert calibrate(table, max_cost=14.0, guarantee="none").certificate["guarantee"] == "none"
    assert calibrate(table, max_accuracy_drop=0.2).certificate["guarantee"] == "certified"


def test_where_only_the_first_stage_has_a_bound_only_it_alone_keeps_a_budget() -> None:
    certificate = calibrate(rare_costs(500, np.random.default_rng(0), np.inf), max_cost=14.0).certificate
    assert certificate["tests"][0]["test"] == "by construction"
    assert certificate["tests"][0]["bound"] == 1.0
    assert "highest_cost" in certificate["advice"]


def test_the_certificate_holds_the_bound() -> None:
    test = calibrate(rare_costs(20_000, np.random.default_rng(0)), max_cost=14.0).certificate["tests"][0]
    assert test["highest_cost"] == 1.0 + RARE
    assert test["bound"] <= 14.0


def test_rare_expensive_rows_violate_a_certified_cost_no_more_often_than_delta() -> None:
    population, draws, rows = rare_costs(50_000, np.random.default_rng(99)), 300, 60
    goal, violated = Goal("max_cost", 12.0), 0
    for sample in range(draws):
        table = rare_costs(rows, np.random.default_rng((sample, rows)))
        found = SplitTable.of(table, sample, None, False).fitted(goal).certifier.certify(goal, DELTA)
        if found is not None:
            reaching = population.confidence[:, 0] < found.thresholds[0]
            violated += 1.0 + np.mean(reaching * population.cost[:, 1]) > 12.0
    assert violated / draws <= DELTA + 3 * (DELTA * (1 - DELTA) / draws) ** 0.5


def test_a_cost_above_the_declared_bound_is_refused_with_its_place() -> None:
    table = rare_costs(100, np.random.default_rng(0))
    cost = table.cost.copy()
    cost[7, 1] = 601.0
    with pytest.raises(ScoreTableError, match="row 7 costs 601 at stage 'slow', of which 600 is declared"):
        replace(table, cost=cost)
    for wrong in ([1.0], [1, 2], [np.nan, 600.0], [-1.0, 600.0]):
        with pytest.raises(ScoreTableError, match="highest_cost"):
            replace(table, highest_cost=np.array(wrong))


def test_a_deadline_needs_bounds() -> None:
    with pytest.raises(InfeasibleTarget, match=r"deadline needs .* 'slow'"):
        choose_cascade(rare_costs(200, np.random.default_rng(0), None), max_accuracy_drop=0.2, deadline=50.0)
    choice = choose_cascade(rare_costs(200, np.random.default_rng(0)), max_accuracy_drop=0.5, deadline=650.0)
    assert choice.best.worst_cost <= 650.0


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0, 1) | st.just(NEVER), min_size=2, max_size=2), st.booleans())
def test_no_row_costs_more_than_the_bound_at_any_thresholds(seed: int, thresholds: list[float], timed: bool) -> None:
    rng = np.random.default_rng(seed)
    work = rng.uniform(0.5, 2.0, (40, 3)) * [1.0, 5.0, 20.0]
    table = ScoreTable(
        prediction=rng.integers(0, 2, (40, 3)),
        confidence=rng.uniform(0, 1, (40, 3)),
        cost=work,
        stage=np.array(["a", "b", "c"]),
        label=rng.integers(0, 2, 40),
        highest_cost=np.array([2.0, 10.0, 40.0]),
    )
    if timed:
        sizes = np.array([1, 8, 64])
        table = table.with_curves(
            [CostCurve(sizes, c * np.array([1.0, 2.0, 9.0]), np.zeros(3)) for c in (1.0, 5.0, 20.0)]
        )
    problem = RoutingProblem.from_table(table, fit_routers(table, None, Goal("max_cost", 1.0)), False)
    limits = np.array(thresholds)
    priced = problem.priced_at(limits)
    assert (priced.cost[:, -1] <= priced.highest_cost * (1 + 1e-9)).all()
    assert problem.row_cost(limits).mean() <= priced.highest_cost * (1 + 1e-9)
