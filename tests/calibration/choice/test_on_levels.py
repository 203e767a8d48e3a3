"""On whole images the first stage may be cheaper than its gathered windows: the costs, and another best cascade."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.calibration import choose_cascade
from cascade.calibration.choice.on_levels import on_levels
from cascade.calibration.costs.cost_curve import CostCurve

NAN = float("nan")


@pytest.fixture(params=["constant", "curves"])
def table(make_table, request):
    table = make_table(300, 3, seed=1, levels=10)
    if request.param == "constant":
        return table
    rows = np.array([1, 64])
    return table.with_curves([CostCurve(rows, cost * rows, np.zeros(2)) for cost in table.cost])


def test_without_levels_there_is_nothing_to_add(table):
    assert on_levels(choose_cascade(table, max_accuracy_drop=0.05), table) == ()


def test_the_first_stage_costs_its_share_and_the_others_what_they_cost(table):
    choice = choose_cascade(table, max_accuracy_drop=0.05)
    best = choice.best
    first = table.stage.tolist().index(best.stages[0])
    assert len(best.stages) > 1
    shares = np.full(3, NAN)
    shares[first] = 0.25
    (sentence,) = on_levels(choice, replace(table, level_share=shares))
    cost = best.mean_cost - 0.75 * table.cost[first]
    assert f": {' -> '.join(best.stages)} {cost:.4g} ms" in sentence
    single = choice.best_single.cascade
    assert f"{single.stages[0]} {single.mean_cost:.4g} ms" in sentence


def test_another_cascade_may_be_the_cheapest_there(table):
    choice = choose_cascade(table, max_accuracy_drop=0.05)
    single = choice.best_single.cascade.stages[0]
    shares = np.where(table.stage == single, 1e-6, NAN)
    assert on_levels(choice, replace(table, level_share=shares))[1] == (
        f"for 'cascade detect', {single} is cheaper than the best choice above"
    )
