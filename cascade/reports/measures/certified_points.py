"""Operating points that a calibration table certifies, for a ladder of targets."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cascade.calibration import CALIBRATORS, HEADS, InfeasibleTarget, Policy, ScoreTable, calibrate, frontier
from cascade.calibration.calibrators import calibrator_to_dict
from cascade.calibration.fitting.router_fitting import RouterChoice
from cascade.calibration.policies.certificate import positive_of
from cascade.calibration.routing_problem import RoutingProblem
from cascade.errors import PolicyError
from cascade.reports.measures.frontier_points import FrontierPoint, class_of_recall, point_of
from cascade.routers import NEVER, SCORES, rejected_class

__all__ = ["RISES", "CertifiedFrontier", "certified_frontier", "ladder"]

STEPS = 8
DELTA = 0.05
Otherwise = TypeVar("Otherwise")
TARGETS = ("target_accuracy", "max_accuracy_drop", "target_agreement", "max_cost")
RISES = ("target_accuracy", "target_agreement", "min_recall")
"""Targets of which a higher value is harder."""


@dataclass(frozen=True)
class CertifiedFrontier:
    """Certified points of one kind of target.

    Each point is certified at level delta by itself: the guarantee is for a point that was chosen before its test, not
    for the best of all points.

    Attributes:
        target_name: an argument of :func:`~cascade.calibration.calibrate.calibrate`, such as "target_accuracy".
        delta: probability that the guarantee of a point is violated.
        rows: number of rows of the calibration table.
        points: by rising cost on the rows of the report. Each is cheaper there than the points of harder targets, or
            better if the target is a maximum cost. Empty if nothing can be certified.
        min_precision: certified of each point beside its recall; ``None`` without such a target.
    """

    target_name: str
    delta: float
    rows: int
    points: tuple[FrontierPoint, ...]
    min_precision: float | None = None


def certified_frontier(
    calibration: ScoreTable, policy: Policy, table: ScoreTable, delta: float | None = None
) -> CertifiedFrontier:
    """Certifies a ladder of targets on one table and evaluates the points on another.

    The targets are of the policy's kind, otherwise of accuracy, or of agreement without labels. A recall is certified
    with the policy's target of precision beside it.

    Args:
        calibration: table for the certification.
        policy: defines the scores or heads and the kinds of calibrators, which are fitted again. The points have no
            early deferral, even if the policy has.
        table: table of the report.
        delta: risk of each point, in (0, 1); by default the policy's, otherwise 0.05.

    Raises:
        PolicyError: the policy is for other stages, does not record how its heads were fitted, or uses some confidences
            as is and computes others.
        ValueError: delta is out of its range.
    """
    for rows in (calibration, table):
        if tuple(rows.stage.tolist()) != policy.stages:
            raise PolicyError(f"the policy is for stages {list(policy.stages)}, the table has {rows.stage.tolist()}")
    risk = delta if delta is not None else _number(policy.certificate.get("delta"), DELTA)
    if not 0 < risk < 1:
        raise ValueError(f"delta must be in (0, 1); got {risk!r}")
    choices = _router_choices(policy)
    calibration, table = _as_routed(calibration, policy), _as_routed(table, policy)
    name = _target_name(policy, calibration)
    seed = policy.certificate.get("seed")
    options: dict[str, Any] = {
        "delta": risk,
        "seed": seed if isinstance(seed, int) and seed >= 0 else 0,
        "routers": choices,
    }
    precision = _number(policy.certificate["target"].get("min_precision"), None) if name == "min_recall" else None
    if name == "min_recall":
        options |= {"positive": positive_of(policy.certificate), "min_precision": precision}
    seen = class_of_recall(policy, table)
    points: list[FrontierPoint] = []
    for target in _targets(calibration, policy, name, options):
        if name in RISES and target <= 0:
            continue
        try:
            found = calibrate(calibration, **(options | {name: target}))
        except InfeasibleTarget:
            continue
        problem = RoutingProblem.from_table(table, found.routers, table.label is None, positive=seen)
        point = point_of(problem, found.thresholds, target)
        # The hardest target comes first, and a point that satisfies it also satisfies this one.
        if all(_is_worth_it(point, harder, name) for harder in points):
            points.append(point)
    return CertifiedFrontier(
        name, risk, len(calibration), tuple(sorted(points, key=lambda point: point.cost)), precision
    )


def _is_worth_it(point: FrontierPoint, harder: FrontierPoint, name: str) -> bool:
    """Whether a point of an easier target is better in cost (or gain) than that of a harder one."""
    return point.gain > harder.gain if name == "max_cost" else point.cost < harder.cost


def ladder(name: str, hardest: float, easiest: float, steps: int = STEPS) -> list[float]:
    """Targets from the hardest to the easiest, closer together at the hard end.

    Args:
        name: of the target.
        hardest: the hardest value that can be certified.
        easiest: value that the cheapest policy reaches.
        steps: maximum number of values.

    Returns:
        Distinct values, rounded to four digits towards the easier side, so that they are short to type.
    """
    rises = name in RISES
    easiest = min(easiest, hardest) if rises else max(easiest, hardest)
    values = hardest + (easiest - hardest) * np.linspace(0, 1, steps) ** 2
    digits = 4 if name != "max_cost" or hardest <= 0 else min(3 - math.floor(math.log10(hardest)), 12)
    unit = 10.0**-digits
    rounded = (np.floor if rises else np.ceil)(values / unit) * unit
    return list(dict.fromkeys(round(float(value), digits) for value in rounded))


def _targets(calibration: ScoreTable, policy: Policy, name: str, options: dict[str, Any]) -> list[float]:
    """The ladder from the hardest certified target to what the cheapest policy reaches.

    The value that holds by construction, with one stage alone, comes first; the next one is the hardest that is
    certified by a test, since values between them lead to the same thresholds.
    """
    agreement = name == "target_agreement" or calibration.label is None
    problem = RoutingProblem.from_table(calibration, policy.routers, agreement, positive=options.get("positive"))
    cheapest = frontier(problem)[0]
    ask, easiest = {
        "target_accuracy": (1.0, cheapest.gain),
        "target_agreement": (1.0, cheapest.gain),
        "min_recall": (1.0, cheapest.gain / problem.highest_gain),
        "max_accuracy_drop": (0.0, float(problem.gain[:, -1].mean()) - cheapest.gain),
        "max_cost": (cheapest.cost, problem.value(np.full(problem.confidence.shape[1], NEVER))[1]),
    }[name]
    if name == "max_cost" and ask == 0:
        return []
    try:
        certificate = calibrate(calibration, **(options | {name: ask})).certificate
    except InfeasibleTarget as refusal:
        return [] if refusal.nearest is None else ladder(name, refusal.nearest, easiest)
    nearest = certificate.get("nearest_tested")
    if nearest is None:
        return ladder(name, ask, easiest)
    return list(dict.fromkeys([ask, *ladder(name, nearest, easiest, STEPS - 1)]))


def _router_choices(policy: Policy) -> list[RouterChoice]:
    """Score or head, and calibrator, of each stage; heads are recorded in the certificate only."""
    recorded = policy.certificate.get("routers")
    if policy.needs_evidence:
        names, kinds = [*SCORES, *HEADS], [*CALIBRATORS]
        if not (
            isinstance(recorded, list)
            and len(recorded) == len(policy.stages)
            and all(isinstance(pair, list) and len(pair) == 2 for pair in recorded)
            and all((name in names or rejected_class(name) is not None) and kind in kinds for name, kind in recorded)
        ):
            raise PolicyError(
                "the certificate does not record how the heads of the policy were fitted ('routers'), so points cannot "
                "be certified; calibrate again, or leave the calibration table out"
            )
        return [(name, kind) for name, kind in recorded]
    return [
        (router.score or "maximum_probability", str(calibrator_to_dict(router.calibrator)["type"]))
        for router in policy.routers
    ]


def _target_name(policy: Policy, calibration: ScoreTable) -> str:
    if class_of_recall(policy, calibration) is not None:
        return "min_recall"
    given = policy.certificate.get("target")
    usable = ("target_agreement", "max_cost") if calibration.label is None else TARGETS
    names = [name for name in given if name in usable] if isinstance(given, Mapping) else []
    return names[0] if names else ("target_agreement" if calibration.label is None else "target_accuracy")


def _as_routed(table: ScoreTable, policy: Policy) -> ScoreTable:
    """The table without class probabilities, if the policy uses the confidences as is."""
    given = [router.score is None and router.head is None for router in policy.routers]
    if table.scores is None or not any(given):
        return table
    if not all(given):
        raise PolicyError(
            "points cannot be certified for a policy that uses the confidences of some stages as is and computes those "
            "of others; use a table without 'scores', or leave the calibration table out"
        )
    return dataclasses.replace(table, scores=None)


def _number(value: object, otherwise: Otherwise) -> float | Otherwise:
    """An entry of a certificate if it is a number, otherwise a default; certificates may hold anything."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
