"""Certified policies of ``calibrate`` against the cheapest valid point of MAPIE's risk controller on the same rows.

Both are judged on a large table of the same source that neither was fitted on. Nothing else needs MAPIE:
``--mapie-python`` of ``search_against_others.py`` names the interpreter of an environment that has it.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration import InfeasibleTarget, ScoreTable, calibrate
from cascade.calibration.calibrators import Identity
from cascade.calibration.routing_problem import RoutingProblem
from cascade.cli.shared.console import console
from cascade.errors import CascadeError
from cascade.routers import NEVER, Router

__all__ = ["Source", "problem_of", "with_guarantee"]

CERTIFIED_DROPS = (0.01, 0.02)
DELTA = 0.1
MOST_MAPIE_POINTS = 1000
Source = tuple[list[ScoreTable], ScoreTable]
"""Tables to calibrate on, and one that is used as the truth."""


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


def with_guarantee(sources: dict[str, Source], mapie_python: str | None) -> dict[str, Any]:
    """Certified policies and MAPIE's, for each source and drop; the truth is the other table of the source."""
    questions: dict[str, np.ndarray] = {"delta": np.array(DELTA)}
    asked = []
    for source, (tables, truth) in sources.items():
        grids = [each for each in (10, 20) if each ** (truth.stages - 1) <= MOST_MAPIE_POINTS]
        for (draw, table), drop in itertools.product(enumerate(tables), CERTIFIED_DROPS):
            problem = problem_of(table)
            # A fixed number, not taken from the rows: the same guarantee for both.
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
        source, draw_number, asked_drop, grid = name.split("|")
        if is_first:
            judged[source, asked_drop, "calibrate"].append(
                judge(certified(table, target, int(draw_number)), truth, target)
            )
        for method in ("bonferroni_holm", "split_fixed_sequence") if "valid" in answers else ():
            valid = np.array(answers["valid"][f"{name}/{method}"])
            judged[source, asked_drop, f"MAPIE {method}, {grid}"].append(judge(cheapest(table, valid), truth, target))
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
    """Runs ``mapie_points.py``; "skipped" where MAPIE cannot be imported.

    Raises:
        CascadeError: it failed otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "questions.npz", Path(folder) / "answers.json"
        np.savez(asked, **questions)  # type: ignore[arg-type]
        command = [
            python or sys.executable,
            str(Path(__file__).with_name("mapie_points.py")),
            str(asked),
            str(answered),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return dict(json.loads(answered.read_text(encoding="utf-8")))
    reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
    if "No module named 'mapie'" not in reason:
        raise CascadeError(f"MAPIE's part failed: {reason}")
    console.print("MAPIE cannot be imported; its rows are left out (see --mapie-python)")
    return {"skipped": "MAPIE could not be imported"}


def certified(table: ScoreTable, target: float, seed: int) -> np.ndarray | None:
    """Thresholds of ``calibrate``; ``None`` where the target is refused."""
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
    """True accuracy and cost of thresholds."""
    if thresholds is None:
        return {"certified": False, "violated": False}
    gain, cost = problem_of(truth).value(thresholds)
    return {"certified": True, "violated": gain < target, "cost_ratio": cost / float(np.mean(truth.cost[..., -1]))}


def over_draws(found: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of a method, and costs on the draws where it and ``calibrate`` are certified."""
    both = [(theirs, our) for theirs, our in zip(found, ours, strict=True) if theirs["certified"] and our["certified"]]
    costs = np.array([(theirs["cost_ratio"], our["cost_ratio"]) for theirs, our in both])
    return {
        "draws": len(found),
        "certified": sum(one["certified"] for one in found),
        "guarantees_violated": sum(one["violated"] for one in found),
        "both_certified": len(both),
        "cost_over_last_stage_where_both": float(costs[:, 0].mean()) if both else None,
        "calibrate_cost_over_last_stage_where_both": float(costs[:, 1].mean()) if both else None,
    }
