"""The threshold search against other ways to choose thresholds, on the same tables, in one run.

    python -m cascade.benchmarks.experiments.peers.search_against_others [--scores table.npz] [--mapie-python PYTHON]

1. Without a promise: the empirical optimum against one shared threshold (every value of it), every cascade of two of
   the stages, and the grid search of the IDK paper (tenths, and 20 quantiles a threshold). Two of the stages skip the
   others and so save their cost; against them the optimum is searched over every subset of the stages, and also over
   the whole chain ("chain"), which may lose to a shorter one.
2. With a promise: ``calibrate(..., delta=...)`` against the cheapest valid point of MAPIE's risk controller on the same
   rows. Both are judged on a large table of the same source that neither has seen. MAPIE is not needed by anything
   else: ``--mapie-python`` names the interpreter of an environment that has it.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.synthetic_tables import FAMILIES, synthetic_table
from cascade.calibration import InfeasibleTarget, ScoreTable, calibrate
from cascade.calibration.calibrators import Identity
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.search.grid import Grid
from cascade.machine.description import describe_machine
from cascade.routers import NEVER, Router

HERE = Path(__file__).resolve().parent
RESULT = RESULTS / "peers/search_against_others.json"
DROPS = (0.0, 0.002, 0.005, 0.01, 0.02)
BUDGETS = (0.1, 0.2, 0.4, 0.7)  # of the last stage's cost alone
CERTIFIED_DROPS = (0.01, 0.02)
DELTA = 0.1
TRUTH_ROWS = 200_000
TOLERANCE = 1e-9
MOST_MAPIE_POINTS = 1000
Point = tuple[float, float]
Source = tuple[list[ScoreTable], ScoreTable]


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


def problem_of(table: ScoreTable, stages: tuple[int, ...] | None = None) -> RoutingProblem:
    """The problem of a table, or of some of its stages, which then cost only what they cost themselves."""
    kept = list(range(table.stages) if stages is None else stages)
    part = ScoreTable(
        table.prediction[:, kept],
        table.confidence[:, kept],
        table.cost[..., kept],
        table.stage[kept],
        label=table.label,
    )
    return RoutingProblem.from_table(part, (Router(None, Identity()),) * len(kept), agreement=False)


def targets(table: ScoreTable) -> Iterator[Target]:
    """Accuracies a little below the last stage's, and budgets."""
    last = problem_of(table, (table.stages - 1,))
    for drop in DROPS:
        yield Target(least_gain=float(last.gain.mean()) - drop)
    for share in BUDGETS:
        yield Target(most_cost=max(share * float(last.cost.mean()), float(np.mean(table.cost[..., 0]))))


def best_point(target: Target, gain: np.ndarray, cost: np.ndarray) -> Point | None:
    index = target.best(gain, cost)
    return None if index is None else (float(gain[index]), float(cost[index]))


def searched(problem: RoutingProblem, target: Target) -> Point | None:
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
    """The grid search of Wang et al., IDK Cascades, UAI 2018: tenths of the confidence, or quantiles a stage."""
    tenths = np.append(np.linspace(0, 1, 11), NEVER)
    candidates = tuple(
        tenths if quantiles is None else np.append(np.unique(np.quantile(column, np.linspace(0, 1, quantiles))), NEVER)
        for column in problem.confidence.T
    )
    grid = Grid.of(problem, 10**8, candidates)
    return best_point(target, grid.gain.ravel(), grid.cost.ravel())


def best_of(target: Target, found: list[Point | None]) -> Point | None:
    points = np.array([point for point in found if point is not None])
    return best_point(target, *points.T) if len(points) else None


def subsets(stages: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, stages + 1):
        yield from itertools.combinations(range(stages), size)


def without_promise(name: str, table: ScoreTable) -> Iterator[dict[str, Any]]:
    """An entry a target and peer: what the search found and what the peer did."""
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
    """A peer: how often it was beaten or found nothing, and how much cheaper or more accurate the search is."""
    grouped = defaultdict(list)
    for entry in entries:
        grouped[entry["peer"]].append(entry)
    return {peer: summary_of_one(found) for peer, found in grouped.items()}


def summary_of_one(found: list[dict[str, Any]]) -> dict[str, Any]:
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


def with_promise(sources: dict[str, Source], mapie_python: str | None) -> dict[str, Any]:
    """Certified policies and MAPIE's, a source and a drop; the truth is the other table of the source."""
    questions: dict[str, np.ndarray] = {"delta": np.array(DELTA)}
    asked = []
    for source, (tables, truth) in sources.items():
        grids = [each for each in (10, 20) if each ** (truth.stages - 1) <= MOST_MAPIE_POINTS]
        for (draw, table), drop in itertools.product(enumerate(tables), CERTIFIED_DROPS):
            problem = problem_of(table)
            # A fixed number, not taken from the rows: the same promise for both.
            target = float(problem_of(truth).gain[:, -1].mean()) - drop
            for each in grids:
                name = f"{source}|{draw}|{drop}|{each} quantiles"
                asked.append((name, table, truth, target, each == grids[0]))
                questions |= {
                    f"{name}/rows": np.hstack([problem.confidence, problem.gain]),
                    f"{name}/points": quantile_points(truth, each),
                    f"{name}/target": np.array(target),
                }
    answers = ask_mapie(questions, mapie_python)
    judged = defaultdict(list)
    for name, table, truth, target, is_first in asked:
        source, draw, drop, grid = name.split("|")
        if is_first:
            judged[source, drop, "calibrate"].append(judge(certified(table, target, int(draw)), truth, target))
        for method in ("bonferroni_holm", "split_fixed_sequence") if "valid" in answers else ():
            valid = np.array(answers["valid"][f"{name}/{method}"])
            judged[source, drop, f"MAPIE {method}, {grid}"].append(judge(cheapest(table, valid), truth, target))
    return {
        "delta": DELTA,
        "mapie": answers.get("version", answers.get("skipped")),
        "results": [
            {"source": source, "accuracy_drop": float(drop), "method": method}
            | over_draws(found, judged[source, drop, "calibrate"])
            for (source, drop, method), found in judged.items()
        ],
    }


def quantile_points(table: ScoreTable, each: int) -> np.ndarray:
    """(m, K - 1) combinations of thresholds, from quantiles of rows that do not calibrate."""
    axes = [np.append(np.quantile(c, np.linspace(0, 1, each - 1)), NEVER) for c in problem_of(table).confidence.T]
    return np.array(list(itertools.product(*axes)))


def ask_mapie(questions: dict[str, np.ndarray], python: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "questions.npz", Path(folder) / "answers.json"
        np.savez(asked, **questions)
        command = [python or sys.executable, str(HERE / "mapie_points.py"), str(asked), str(answered)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return dict(json.loads(answered.read_text(encoding="utf-8")))
    reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
    if "No module named 'mapie'" not in reason:
        raise SystemExit(f"error: MAPIE's part failed: {reason}")
    typer.echo("MAPIE cannot be imported; its rows are left out (see --mapie-python)", err=True)
    return {"skipped": "MAPIE could not be imported"}


def certified(table: ScoreTable, target: float, seed: int) -> np.ndarray | None:
    try:
        return calibrate(table, target_accuracy=target, delta=DELTA, seed=seed).thresholds
    except InfeasibleTarget:
        return None


def cheapest(table: ScoreTable, valid: np.ndarray) -> np.ndarray | None:
    """Of points that are all valid, the one of the lowest mean cost on the rows at hand."""
    if not len(valid):
        return None
    problem = problem_of(table)
    return np.asarray(valid[np.argmin([problem.value(thresholds)[1] for thresholds in valid])])


def judge(thresholds: np.ndarray | None, truth: ScoreTable, target: float) -> dict[str, Any]:
    """True accuracy and cost."""
    if thresholds is None:
        return {"certified": False, "broken": False}
    gain, cost = problem_of(truth).value(thresholds)
    return {"certified": True, "broken": gain < target, "cost_ratio": cost / float(np.mean(truth.cost[..., -1]))}


def over_draws(found: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    both = [(theirs, our) for theirs, our in zip(found, ours, strict=True) if theirs["certified"] and our["certified"]]
    costs = np.array([(theirs["cost_ratio"], our["cost_ratio"]) for theirs, our in both])
    return {
        "draws": len(found),
        "certified": sum(one["certified"] for one in found),
        "promises_broken": sum(one["broken"] for one in found),
        "both_certified": len(both),
        "cost_over_last_stage_where_both": float(costs[:, 0].mean()) if both else None,
        "calibrate_cost_over_last_stage_where_both": float(costs[:, 1].mean()) if both else None,
    }


def halves(table: ScoreTable, draws: int) -> Iterator[tuple[ScoreTable, ScoreTable]]:
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(table))
        yield table.take(order[: len(table) // 2]), table.take(order[len(table) // 2 :])


def main(
    scores: Annotated[Path | None, typer.Option(help="A score table with labels, to be compared on as well.")] = None,
    mapie_python: Annotated[str | None, typer.Option(help="Interpreter of an environment with MAPIE 1.6.")] = None,
    rows: Annotated[int, typer.Option(min=10, help="Of each synthetic table.")] = 4000,
    draws: Annotated[int, typer.Option(min=1, help="Tables a source that are certified.")] = 20,
    out: Annotated[Path, typer.Option()] = RESULT,
) -> None:
    """Hold the threshold search against others."""
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
        # The other half stands for the truth: a promise may seem broken by chance.
        sources |= {f"{name}, half {i}": ([a], b) for i, (a, b) in enumerate(halves(table, 5))}
    entries = []
    for name, table in tables.items():
        typer.echo(name, err=True)
        entries += without_promise(name, table)
    result = {
        "schema_version": 1,
        "measured": {"rows": rows, "draws": draws, "truth_rows": TRUTH_ROWS, "given_table_sha256": digest},
        "machine": describe_machine(),
        "without_promise": {"summary": summary(entries), "comparisons": entries},
        "with_promise": with_promise(sources, mapie_python),
    }
    save_result(out, result)
    typer.echo(json.dumps([result["without_promise"]["summary"], result["with_promise"]], default=float))


if __name__ == "__main__":
    run_experiment(main)
