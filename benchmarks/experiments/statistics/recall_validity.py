"""How often is a certified recall violated where few rows are positive?

    python -m cascade.benchmarks.experiments.statistics.recall_validity [--samples 1000]

Samples of 5,000 rows with 20, 50 or 200 positive ones on average, from populations of two and three stages. All but
the last stage only reject, and stages are the better the more they cost. A recall is asked for alone, beside a budget
and beside a precision; the goals lie near what so many positive rows can certify. Beside the certified thresholds
stand those of the classical rule on the same sample, by which the stages have equal shares in the recall: it guarantees
nothing on future data, and the share of samples in which it misses the recall is recorded, with its mean cost.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.simulation import allowed_share, in_chunks
from cascade.calibration import ScoreTable
from cascade.calibration.calibrators import Identity
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.product_rule import product_rule_thresholds
from cascade.calibration.split_table import SplitTable
from cascade.routers import Router, answering_stage

ROWS = 5000
RECALLS = {20: 0.8, 50: 0.9, 200: 0.95}
"""Mean number of positive rows in a sample, and the recall that is asked for."""
CASES = ((2, 20), (2, 50), (2, 200), (3, 50))
"""Number of stages, mean number of positive rows; a budget and a precision are asked for with two stages."""
BUDGET = 0.9
"""Share of the cost of a row that runs through both stages."""
PRECISION = 0.02
DELTA = 0.05
SEPARATION = (1.0, 1.6, 2.2)
COSTS = (1.0, 4.0, 20.0)
ALIKE = 0.5
"""Correlation of the scores of two stages, given the label."""
LAST_ABOVE = -1.2
"""The last stage answers rows with a higher score as positive."""
POPULATION = 200_000
CHUNK = 20
RULE = "product rule"

Case = tuple[int, int]
"""Number of stages, mean number of positive rows."""


def draw(label: np.ndarray, stages: int, rng: np.random.Generator) -> ScoreTable:
    """A table of rows with the given labels (n,): independent draws given the label."""
    common = rng.normal(size=len(label))
    sign = 2 * label - 1
    columns = [*range(stages - 1), len(COSTS) - 1]
    own = rng.normal(size=(len(label), stages))
    scores = sign[:, None] * np.take(SEPARATION, columns) + ALIKE**0.5 * common[:, None] + (1 - ALIKE) ** 0.5 * own
    prediction = np.zeros((len(label), stages), dtype=np.int64)
    prediction[:, -1] = scores[:, -1] > LAST_ABOVE
    return ScoreTable(
        prediction=prediction,
        confidence=1 / (1 + np.exp(scores)),
        cost=np.take(COSTS, columns),
        stage=np.array([f"stage{k}" for k in range(stages)]),
        label=label,
        classes=np.array(["no", "yes"]),
    )


def goals(case: Case) -> dict[str, Goal]:
    """The goals by their names."""
    stages, positives = case
    recall = RECALLS[positives]
    alone = {"recall": Goal.of(1, min_recall=recall)}
    if stages > 2:
        return alone
    budget = BUDGET * (COSTS[0] + COSTS[-1])
    return alone | {
        "recall and budget": Goal.of(1, min_recall=recall, max_cost=budget),
        "recall and precision": Goal.of(1, min_recall=recall, min_precision=PRECISION * positives / 100),
    }


class Truth:
    """A population of half positive rows, weighted to the wanted share of positive ones."""

    def __init__(self, stages: int) -> None:
        self.table = draw(np.arange(POPULATION) % 2, stages, np.random.default_rng(stages))
        self.problem = problem_of(self.table)

    def of(self, thresholds: np.ndarray, share: float) -> dict[str, float]:
        """Recall, precision and mean cost per row, by the names of their targets."""
        stage = answering_stage(self.problem.confidence, thresholds)[:, None]
        answered = np.take_along_axis(self.table.prediction, stage, axis=1)[:, 0]
        cost = self.problem.row_cost(thresholds)
        detected, false = share * answered[1::2].mean(), (1 - share) * answered[::2].mean()
        return {
            "min_recall": float(answered[1::2].mean()),
            "min_precision": float(detected / (detected + false)) if detected + false else 1.0,
            "max_cost": float(share * cost[1::2].mean() + (1 - share) * cost[::2].mean()),
        }


_truths: dict[int, Truth] = {}


def _start() -> None:
    _truths.update({stages: Truth(stages) for stages in {2, 3}})


def problem_of(table: ScoreTable) -> RoutingProblem:
    """The problem of detecting class 1, with the table's confidences."""
    return RoutingProblem.from_table(table, (Router(None, Identity()),) * table.stages, False, positive=1)


def simulate(case: Case, samples: range) -> Counter[tuple[str, str]]:
    """Counts of "certified" and "violated", and sums of "cost", by the name of the goal."""
    stages, positives = case
    share = positives / ROWS
    counts: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        rng = np.random.default_rng((sample, *case))
        table = draw((rng.random(ROWS) < share).astype(np.int64), stages, rng)
        for name, goal in goals(case).items():
            strata = np.asarray(table.label == 1) if goal.tests_positives_only else None
            split = SplitTable.of(table, sample, None, False, strata=strata)
            found = split.fitted(goal).certifier.certify(goal, DELTA)
            if found is not None:
                truth = _truths[stages].of(found.thresholds, share)
                counts[name, "certified"] += 1
                counts[name, "violated"] += not all(part.is_reached_at(truth[part.name]) for part in goal.parts)
                counts[name, "cost"] += truth["max_cost"]  # type: ignore[assignment]
        truth = _truths[stages].of(product_rule_thresholds(problem_of(table), RECALLS[positives]), share)
        counts[RULE, "certified"] += 1
        counts[RULE, "violated"] += truth["min_recall"] < RECALLS[positives]
        counts[RULE, "cost"] += truth["max_cost"]  # type: ignore[assignment]
    return counts


def _entries(case: Case, counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    samples, entries = counts[RULE, "certified"], []
    limit = allowed_share(DELTA, samples)
    for name in (*goals(case), RULE):
        certified, violated = counts[name, "certified"], counts[name, "violated"]
        entries.append(
            {
                "stages": case[0],
                "positives": case[1],
                "goal": name,
                "samples": samples,
                "targets": {"min_recall": RECALLS[case[1]]} if name == RULE else goals(case)[name].targets,
                "certified_share": None if name == RULE else certified / samples,
                "violated_share": violated / samples,
                "mean_cost": counts[name, "cost"] / certified if certified else None,
                "limit": None if name == RULE else limit,
                "valid": None if name == RULE else violated / samples <= limit,
            }
        )
    return entries


def main(
    samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> Iterator[Found]:
    """Simulate."""
    totals: dict[Case, Counter[tuple[str, str]]] = {case: Counter() for case in CASES}
    for case, counts in in_chunks(simulate, CASES, samples, CHUNK, workers, _start):
        totals[case].update(counts)
        entries = [entry for case, counts in totals.items() if counts for entry in _entries(case, counts)]
        yield {"samples": samples, "rows": ROWS, "delta": DELTA, "cases": entries}


def figures(found: Found) -> Figures:
    """Over all cases."""
    certified = [case for case in found["cases"] if case["goal"] != RULE]
    rule = [case for case in found["cases"] if case["goal"] == RULE]
    return {
        "cases with more violated guarantees than delta explains": Figure(
            sum(not case["valid"] for case in certified), 0
        ),
        "highest share of violated guarantees, delta 0.05": Figure(max(case["violated_share"] for case in certified)),
        "lowest share of samples in which the classical rule misses the recall": Figure(
            min(case["violated_share"] for case in rule)
        ),
        "cases": Figure(len(certified)),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
