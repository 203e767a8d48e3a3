"""Fitting of routers: from the names of a score or a head and of a calibrator to a router for each stage."""

from collections.abc import Sequence

import numpy as np

from cascade.calibration.calibrators import CALIBRATORS, Identity
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.fitting.calibrator_fitting import fit_calibrator
from cascade.calibration.fitting.cost_aware_fitting import fit_cost_aware
from cascade.calibration.fitting.head_fitting import HEADS, fit_head
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.table_confidence import check_rejected_classes, table_evidence
from cascade.calibration.tables.score_table import ScoreTable
from cascade.routers import EVIDENCE_COLUMNS, SCORES, Head, LearnedHead, Router, rejected_class
from cascade.routers.heads import Inputs, head_features

__all__ = ["RouterChoice", "fit_routers"]

RouterChoice = tuple[str, str]
"""Names of a score (or of a head) and of a calibrator."""


def fit_routers(table: ScoreTable, choices: Sequence[RouterChoice] | None, goal: Goal) -> tuple[Router, ...]:
    """Fits a router for each stage.

    Args:
        table: n rows, K stages.
        choices: K pairs of a name of ``SCORES`` or ``HEADS`` and one of ``CALIBRATORS``; with ``None`` the table's
            confidences are used as they are.
        goal: determines the gain, accuracy or agreement, and the exchange rate of a cost-aware head.

    Raises:
        ValueError: the choices are not K pairs of such names, or cannot be combined.
        ScoreTableError: the table lacks an array that a calibrator needs, or a stage with a reject router also has
            other answers there.
    """
    if choices is None:
        return (Router(None, Identity()),) * table.stages
    _check(table.stages, choices)
    check_rejected_classes(table, [name for name, _ in choices])
    agreement = goal.gains_agreement(table) or table.label is None
    gain = (table.agrees if agreement else table.correct).astype(np.float64)
    label = table.prediction[:, -1] if agreement or table.label is None else table.label
    if not any(name in HEADS for name, _ in choices):
        return tuple(_with_score(table, k, *choice, label) for k, choice in enumerate(choices))
    evidence = table_evidence(table)
    heads = _fit_heads(table, [name for name, _ in choices], evidence, gain, goal)
    return tuple(
        _with_score(table, k, name, calibrator, label)
        if (head := heads[k]) is None
        else _with_head(table, k, head, calibrator, label, evidence)
        for k, (name, calibrator) in enumerate(choices)
    )


def _check(stages: int, choices: Sequence[RouterChoice]) -> None:
    if len(choices) != stages:
        raise ValueError(f"routers must be {stages} pairs (score or head, calibrator); got {len(choices)}")
    for name, calibrator in choices:
        if name not in SCORES and name not in HEADS and rejected_class(name) is None:
            raise ValueError(f"a router's score or head must be one of {sorted({*SCORES, *HEADS})}; got {name!r}")
        if calibrator not in CALIBRATORS:
            raise ValueError(f"a router's calibrator must be one of {sorted(CALIBRATORS)}; got {calibrator!r}")
        if name in HEADS and calibrator == "temperature":
            raise ValueError(
                f"a temperature is applied to class probabilities, and the head {name!r} returns none; "
                "use identity, platt or isotonic"
            )
    aware = [name == "cost_aware" for name, _ in choices[:-1]]
    if any(aware) and not all(aware):
        raise ValueError("cost_aware heads are trained together: choose them for all stages but the last, or for none")


def _fit_heads(
    table: ScoreTable, names: Sequence[str], evidence: np.ndarray, gain: np.ndarray, goal: Goal
) -> list[Head | None]:
    """A head for each stage that has one, ``None`` for the others."""
    inputs: Inputs = "confidence" if table.scores is None else "probabilities"
    heads = _fit_together(table, evidence, inputs, gain, goal) if names[0] == "cost_aware" else []
    for k, name in enumerate(names[len(heads) :], len(heads)):
        heads.append(fit_head(name, _up_to(evidence, k), inputs, gain[:, k:]) if name in HEADS else None)
    return heads


def _fit_together(
    table: ScoreTable, evidence: np.ndarray, inputs: Inputs, gain: np.ndarray, goal: Goal
) -> list[Head | None]:
    """The cost-aware heads of all stages but the last."""
    if table.stages == 1:
        return []
    features = [head_features(_up_to(evidence, k), inputs, False).T for k in range(table.stages - 1)]
    # The target does not depend on any confidence.
    problem = RoutingProblem(np.zeros((len(table), table.stages - 1)), gain, table.cumulative_cost)
    layers = fit_cost_aware(features, gain, table.cumulative_cost, goal.search_target(problem))
    return [LearnedHead(inputs, False, (layer,)) for layer in layers]


def _up_to(evidence: np.ndarray, stage: int) -> np.ndarray:
    return evidence[:, : (stage + 1) * len(EVIDENCE_COLUMNS)]


def _with_score(table: ScoreTable, k: int, score: str, calibrator: str, label: np.ndarray) -> Router:
    probabilities = None if table.scores is None else table.scores[:, k]
    answer = table.prediction[:, k]
    return Router(score, fit_calibrator(calibrator, score, table.confidence[:, k], probabilities, label, answer))


def _with_head(
    table: ScoreTable, k: int, head: Head, calibrator: str, label: np.ndarray, evidence: np.ndarray
) -> Router:
    confidence = head.confidence(_up_to(evidence, k))
    answer = table.prediction[:, k]
    return Router(None, fit_calibrator(calibrator, "", confidence, None, label, answer), head)
