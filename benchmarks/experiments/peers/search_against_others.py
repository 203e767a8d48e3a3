"""Does the threshold search find cheaper thresholds than other ways, on the same tables?

    python -m cascade.benchmarks.experiments.peers.search_against_others [--scores table.npz] [--mapie-python PYTHON]

1. Without a guarantee: the empirical optimum against one shared threshold (every value of it), every cascade of two of
   the stages, and the grid search of the IDK paper (tenths, and 20 quantiles per threshold). Two of the stages skip the
   others and so save their cost; against them the optimum is searched over every subset of the stages, and also over
   the whole chain ("chain"), which may lose to a shorter one.
2. With a guarantee: see ``mapie_comparison.py``.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.experiments.peers.mapie_comparison import problem_of, with_guarantee
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.simulation import halves
from cascade.benchmarks.harness.synthetic_tables import FAMILIES, synthetic_table
from cascade.calibration import ScoreTable
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.search.grid import Grid
from cascade.cli.shared.console import console
from cascade.routers import NEVER

DROPS = (0.0, 0.002, 0.005, 0.01, 0.02)
BUDGETS = (0.1, 0.2, 0.4, 0.7)  # of the last stage's cost alone
TRUTH_ROWS = 200_000
TOLERANCE = 1e-9
Point = tuple[float, float]


def digits_table() -> ScoreTable:
    """Three models on the 1,797 digits of scikit-learn, each row answered by models that were not fitted on it.

    Costs are multiply-adds of a row: 16 pooled pixels to 10 classes, 64 pixels to 10 classes, and one inner product
    with each of about 700 support vectors.
    """
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.svm import SVC

    rows, label = load_digits(return_X_y=True)
    pooled = rows.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(rows), 16)
    models = ((LogisticRegression(max_iter=500), pooled), (LogisticRegression(max_iter=500), rows), (SVC(), rows))
    answers = []
    for model, features in models:
        method = "predict_proba" if isinstance(model, LogisticRegression) else "decision_function"
        answers.append(cross_val_predict(model, features / 16, label, method=method))
    confidence = np.clip(np.stack([answer.max(axis=1) for answer in answers], axis=1), 0, 1)
    prediction = np.stack([answer.argmax(axis=1) for answer in answers], axis=1)
    return ScoreTable(
        prediction, confidence, np.array([160, 640, 64 * 700]), np.array(["pooled", "pixels", "svc"]), "mul-add", label
    )


def targets(table: ScoreTable) -> Iterator[Target]:
    """Accuracies a little below the last stage's, and budgets."""
    last = problem_of(table, (table.stages - 1,))
    for drop in DROPS:
        yield Target(least_gain=float(last.gain.mean()) - drop)
    for share in BUDGETS:
        yield Target(most_cost=max(share * float(last.cost.mean()), float(np.mean(table.cost[..., 0]))))


def best_point(target: Target, gain: np.ndarray, cost: np.ndarray) -> Point | None:
    """The point of a grid that is best for a target."""
    index = target.best(gain, cost)
    return None if index is None else (float(gain[index]), float(cost[index]))


def searched(problem: RoutingProblem, target: Target) -> Point | None:
    """The point of the threshold search."""
    thresholds = best_thresholds(problem, target)
    return None if thresholds is None else problem.value(thresholds)


def shared_threshold(problem: RoutingProblem, target: Target) -> Point | None:
    """The best of one threshold for all stages, over every value that makes a difference."""
    values = np.append(np.unique(problem.confidence), NEVER)
    highest_before = np.full(len(problem.confidence), -np.inf)
    totals = np.zeros((2, len(values) + 1))
    for k in range(problem.gain.shape[1]):
        last = k == problem.gain.shape[1] - 1
        highest = np.full(len(highest_before), np.inf) if last else np.maximum(highest_before, problem.confidence[:, k])
        # Stage k answers a row from just above the highest confidence before it, up to its own.
        first, end = np.searchsorted(values, highest_before, "right"), np.searchsorted(values, highest, "right")
        for total, weight in zip(totals, (problem.gain[:, k], problem.cost[:, k]), strict=True):
            total += np.bincount(first, weights=weight, minlength=len(total))
            total -= np.bincount(end, weights=weight, minlength=len(total))
        highest_before = highest
    gain, cost = np.cumsum(totals, axis=1)[:, :-1] / len(problem.confidence)
    return best_point(target, gain, cost)


def pairs(table: ScoreTable, target: Target) -> Point | None:
    """The best cascade of two stages, exact; one stage alone is among them."""
    found = []
    for first, second in itertools.combinations(range(table.stages), 2):
        for stages in ((first, second), (second,), (first,)):
            grid = Grid.of(problem_of(table, stages))
            found.append(best_point(target, grid.gain.ravel(), grid.cost.ravel()))
    return best_of(target, found)


def grid_search(problem: RoutingProblem, target: Target, quantiles: int | None) -> Point | None:
    """The grid search of Wang et al., IDK Cascades, UAI 2018: tenths of the confidence, or quantiles per stage."""
    tenths = np.append(np.linspace(0, 1, 11), NEVER)
    candidates = tuple(
        tenths if quantiles is None else np.append(np.unique(np.quantile(column, np.linspace(0, 1, quantiles))), NEVER)
        for column in problem.confidence.T
    )
    grid = Grid.of(problem, 10**8, candidates)
    return best_point(target, grid.gain.ravel(), grid.cost.ravel())


def best_of(target: Target, found: list[Point | None]) -> Point | None:
    """The best of some points, some of which may be missing."""
    points = np.array([point for point in found if point is not None])
    return best_point(target, *points.T) if len(points) else None


def subsets(stages: int) -> Iterator[tuple[int, ...]]:
    """Every subset of the stages but the empty one."""
    for size in range(1, stages + 1):
        yield from itertools.combinations(range(stages), size)


def without_guarantee(name: str, table: ScoreTable) -> Iterator[dict[str, Any]]:
    """An entry for each target and peer: the point of the search and that of the peer."""
    problem = problem_of(table)
    for target in targets(table):
        chain = searched(problem, target)
        any_subset = best_of(target, [searched(problem_of(table, subset), target) for subset in subsets(table.stages)])
        for peer, ours, theirs in (
            ("shared threshold", chain, shared_threshold(problem, target)),
            ("grid of tenths", chain, grid_search(problem, target, None)),
            ("grid of 20 quantiles", chain, grid_search(problem, target, 20)),
            ("two stages", any_subset, pairs(table, target)),
            ("two stages, against the chain", chain, pairs(table, target)),
        ):
            kind, value = next((kind, value) for kind, value in vars(target).items() if value is not None)
            yield {
                "table": name,
                "target": {kind: value},
                "peer": peer,
                "searched": ours,
                "found_by_peer": theirs,
                "loses": loses(target, ours, theirs),
            }


def loses(target: Target, ours: Point | None, theirs: Point | None) -> bool:
    """Whether the peer's point is better than ours, beyond rounding."""
    if theirs is None:
        return False
    if ours is None:
        return True
    return ours[1] > theirs[1] * (1 + TOLERANCE) if target.least_gain is not None else ours[0] < theirs[0] - TOLERANCE


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """For each peer: how often it lost or found nothing, and how much cheaper or more accurate the search is."""
    grouped = defaultdict(list)
    for entry in entries:
        grouped[entry["peer"]].append(entry)
    return {peer: summary_of_one(found) for peer, found in grouped.items()}


def summary_of_one(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the comparisons with one peer."""
    both = [entry for entry in found if entry["found_by_peer"] and entry["searched"]]
    cost = [entry["searched"][1] / entry["found_by_peer"][1] for entry in both if "least_gain" in entry["target"]]
    points = [
        100 * (entry["searched"][0] - entry["found_by_peer"][0]) for entry in both if "most_cost" in entry["target"]
    ]
    return {
        "comparisons": len(found),
        "losses": sum(entry["loses"] for entry in found),
        "only_the_peer_finds_nothing": sum(bool(e["searched"] and not e["found_by_peer"]) for e in found),
        "mean_cost_ratio_at_an_accuracy": float(np.mean(cost)) if cost else None,
        "mean_accuracy_points_within_a_budget": float(np.mean(points)) if points else None,
    }


def main(
    scores: Annotated[Path | None, typer.Option(help="A score table with labels, to be compared on as well.")] = None,
    mapie_python: Annotated[str | None, typer.Option(help="Interpreter of an environment with MAPIE 1.6.")] = None,
    rows: Annotated[int, typer.Option(min=10, help="Of each synthetic table.")] = 4000,
    draws: Annotated[int, typer.Option(min=1, help="Tables per source that are certified.")] = 20,
) -> Found:
    """Compare the threshold search with others."""
    tables = {f"{family}, {k} stages": synthetic_table(family, rows, k, seed=0) for family in FAMILIES for k in (3, 4)}
    sources = {
        family: (
            [synthetic_table(family, rows, 3, seed=1 + draw) for draw in range(draws)],
            synthetic_table(family, TRUTH_ROWS, 3, seed=0),
        )
        for family in FAMILIES
    }
    digest = None
    real = {"digits": digits_table()}
    if scores is not None:
        real["the given table"] = ScoreTable.load(scores)
        digest = real["the given table"].digest
    for name, table in real.items():
        tables[name] = table
        # The other half is used as the truth: a guarantee may seem violated by chance.
        for place, (first, second) in enumerate(halves(len(table), 5)):
            sources[f"{name}, half {place}"] = ([table.take(first)], table.take(second))
    entries: list[dict[str, Any]] = []
    for name, table in tables.items():
        console.print(name)
        entries += without_guarantee(name, table)
    return {
        "measured": {"truth_rows": TRUTH_ROWS, "given_table_sha256": digest},
        "without_guarantee": {"summary": summary(entries), "comparisons": entries},
        "with_guarantee": with_guarantee(sources, mapie_python),
    }


def figures(found: Found) -> Figures:
    """Without a guarantee: mean cost at an accuracy, and comparisons lost; with one: violations."""
    numbers = {}
    for peer, seen in found["without_guarantee"]["summary"].items():
        numbers[f"cost at equal accuracy over that of {peer}"] = Figure(seen["mean_cost_ratio_at_an_accuracy"])
        # A chain of all stages may be worse than two of them: not part of what is sought.
        sought = None if "against the chain" in peer else 0
        numbers[f"comparisons lost of {seen['comparisons']}, {peer}"] = Figure(seen["losses"], sought)
    ours = [seen for seen in found["with_guarantee"]["results"] if seen["method"] == "calibrate"]
    numbers["guarantees violated by certified policies, delta 0.1, share of the draws"] = Figure(
        sum(seen["guarantees_violated"] for seen in ours) / sum(seen["draws"] for seen in ours), 0.1
    )
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
