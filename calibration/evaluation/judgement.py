"""Whether the targets of a policy hold on rows that were not part of its calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from cascade.calibration.certificates.construction import constructed_bound
from cascade.calibration.certificates.goal import QUANTITIES, Goal
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
from cascade.calibration.evaluation.evaluation import Evaluation, Interval, evaluate
from cascade.calibration.policies.certificate import positive_of
from cascade.calibration.policies.policy import Policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import PolicyError
from cascade.routers import answering_stage

__all__ = [
    "Judgement",
    "TargetJudgement",
    "Verdict",
    "at_the_policys_cost",
    "certificate_number",
    "judge",
    "judge_target",
    "targets_of",
]

Verdict = Literal["holds", "violated", "not refuted", "too few rows", "seen rows"]

BY_CONSTRUCTION = "by construction"


@dataclass(frozen=True)
class TargetJudgement:
    """A target of a policy, judged on some rows.

    Attributes:
        target: name, such as "max_accuracy_drop".
        value: of the target.
        estimate: mean of its quantity on the rows; a drop is compared with the last stage on the same rows.
        interval: two-sided, for the mean on future data of the same kind; the upper end of a mean cost is inf without a
            declared bound of the cost per row.
        level: of the interval.
        rows: of the estimate; the answered ones, where a policy may abstain; the positive ones for a recall, those
            answered as positive for a precision.
        test: whose inversion gives the interval.
        p_value: of the hypothesis that the target is reached.
        verdict: "holds" if all of the interval is on the right side of the target; "violated" if all of it is on the
            wrong side; "too few rows" if that is impossible on so few rows; "seen rows" if they are the calibration's;
            else "not refuted".
    """

    target: str
    value: float
    estimate: float
    interval: Interval
    level: float
    rows: int
    test: str
    p_value: float
    verdict: Verdict

    @property
    def words(self) -> str:
        """The verdict, for people."""
        return {
            "holds": "holds on these rows",
            "violated": "violated",
            "not refuted": f"not refuted: cannot be decided on {self.rows:,} rows",
            "too few rows": f"cannot be decided: {self.rows:,} rows are too few to refute it",
            "seen rows": "no verdict: these are the rows of the calibration",
        }[self.verdict]

    @property
    def claim(self) -> str:
        """Such as "accuracy drop at most 0.01"."""
        side = "at most" if self.target.startswith("max_") else "at least"
        return f"{QUANTITIES[self.target]} {side} {self.value:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; an infinite end of the interval is ``None``."""
        ends = [end if np.isfinite(end) else None for end in self.interval]
        return vars(self) | {"interval": ends, "words": self.words}


@dataclass(frozen=True)
class Judgement:
    """All targets of a policy.

    Attributes:
        certified: whether they are guaranteed.
        delta: of the guarantee; ``None`` without one.
        targets: each judged by itself.
        not_judged: targets that could not be judged, with the reason.
        rows: n.
    """

    certified: bool
    delta: float | None
    targets: tuple[TargetJudgement, ...]
    not_judged: tuple[str, ...]
    rows: int

    def __repr__(self) -> str:
        found = "; ".join(f"{each.claim}: {each.words}" for each in self.targets) or "no targets"
        return f"Judgement({self.rows} rows, {'certified' if self.certified else 'not certified'}; {found})"

    @property
    def violated(self) -> tuple[TargetJudgement, ...]:
        """The guaranteed targets that the rows refute."""
        return tuple(each for each in self.targets if self.certified and each.verdict == "violated")

    @property
    def guarantee(self) -> str:
        """The guarantee of the policy, in a sentence."""
        if self.certified and self.delta is not None:
            return f"guaranteed on future data with probability {1 - self.delta:g}"
        if self.certified:
            return "guaranteed on future data"
        if self.targets or self.not_judged:
            return "nothing was guaranteed: thresholds were chosen for this target, on the rows of the calibration"
        return "nothing was guaranteed, and the policy names no target"

    @property
    def note(self) -> str:
        """An explanation of the intervals."""
        if not self.targets:
            return ""
        level = f"{100 * self.targets[0].level:g} %"
        return (
            f"Each interval has level {level} alone and is of this evaluation, not of the calibration. It needs rows "
            "that are independent draws from traffic and were not part of the calibration or the training."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "certified": self.certified,
            "delta": self.delta,
            "guarantee": self.guarantee,
            "targets": [each.to_dict() for each in self.targets],
            "not_judged": list(self.not_judged),
            "note": self.note,
        }


def judge(table: ScoreTable, policy: Policy, level: float = 0.95) -> Judgement:
    """Judges every target of a policy, certified or not, on the rows of a table.

    Args:
        table: n rows, the stages of the policy in its order. Its costs are used only where they differ between rows,
            else those of the policy.
        policy: the operating point.
        level: of each two-sided interval, in (0, 1).

    Raises:
        PolicyError: the policy is of other stages, or its certificate cannot be read.
        ValueError: the level is out of its range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1); got {level!r}")
    certificate = policy.certificate
    certified = certificate.get("guarantee") == "certified"
    delta = certificate_number(certificate["delta"], "delta") if certified and "delta" in certificate else None
    table_at_cost = at_the_policys_cost(table, policy)
    goals, not_judged = targets_of(policy, table_at_cost)
    found = [judge_target(goal, table_at_cost, policy, (1 - level) / 2) for goal in goals]
    if certificate.get("table_sha256") == table.digest:
        found = [replace(each, verdict="seen rows") for each in found]
    return Judgement(certified, delta, tuple(found), tuple(not_judged), len(table))


def targets_of(policy: Policy, table: ScoreTable) -> tuple[list[Goal], list[str]]:
    """The targets that can be judged on a table, and the reasons for the others.

    Raises:
        PolicyError: the policy is of other stages, or its targets cannot be read.
    """
    evaluation = evaluate(table, policy)
    targets = policy.certificate.get("target")
    if targets is None and policy.certificate.get("guarantee") != "certified":
        return [], []
    if not isinstance(targets, Mapping) or not targets.keys() <= QUANTITIES.keys():
        raise PolicyError(f"the certificate's target must be values of {', '.join(QUANTITIES)}; got {targets!r}")
    try:
        values = {name: certificate_number(value, name) for name, value in targets.items()}
        goals = Goal.of(positive_of(policy.certificate), **values).parts
    except ValueError as error:
        raise PolicyError(f"the certificate's target cannot be read: {error}") from error
    reasons = {goal.name: _why_not_judged(goal, table, evaluation) for goal in goals}
    judged = [goal for goal in goals if reasons[goal.name] is None]
    return judged, [f"{name}: {why}" for name, why in reasons.items() if why is not None]


def _why_not_judged(goal: Goal, table: ScoreTable, evaluation: Evaluation) -> str | None:
    """Why a target cannot be judged on a table; ``None`` if it can."""
    if goal.name not in ("target_accuracy", "max_accuracy_drop", "min_recall", "min_precision"):
        return None
    if table.label is None:
        return "the rows have no labels"
    detection = evaluation.detection
    if goal.positive is not None and detection is not None:
        if not detection.positives:
            return "none of the rows is labelled as positive"
        if goal.name == "min_precision" and not detection.answered_positive:
            return "none of the rows is answered as positive"
        return None
    return "the policy abstains on all of the rows" if evaluation.accuracy is None else None


def judge_target(goal: Goal, table: ScoreTable, policy: Policy, tail: float) -> TargetJudgement:
    """Judges one target by the exact tests that certify it, and by their mirror images.

    A mean cost that depends on the reach shares is tested as a mean over rows that is never below it, and close to it
    at the reach shares of these rows (:meth:`RoutingProblem.priced_at`); the lower end of the interval is lowered by
    the difference.

    Args:
        goal: one target alone.
        table: n rows at the costs of the policy (:func:`at_the_policys_cost`).
        policy: of the table's stages.
        tail: probability that the mean is below the interval, and that it is above, each in (0, 0.5).
    """
    thresholds = np.append(policy.thresholds, policy.abstain_below) if policy.abstains else policy.thresholds
    evaluation = evaluate(table, policy, arrivals=policy.arrivals)
    problem = _problem(goal, table, policy, thresholds, evaluation.reached_share)
    guarantee = goal.guarantee(problem, tail)
    outcome = guarantee.outcome(problem, answering_stage(problem.confidence, thresholds))
    low, high = guarantee.interval(outcome, tail)
    estimate = evaluation.mean_cost if goal.name == "max_cost" else float(outcome.mean())
    low = max(low - max(float(outcome.mean()) - estimate, 0.0), 0.0) if goal.name == "max_cost" else low
    test, p_value = guarantee.test, guarantee.p_value_satisfied(outcome)
    certain = constructed_bound(goal, policy.thresholds, problem.highest_costs, np.flatnonzero(policy.runs).tolist())
    at_most = goal.name.startswith("max_")
    if certain is not None and goal.is_reached_at(certain):
        test, p_value = BY_CONSTRUCTION, 1.0
        low, high = (low, min(high, certain)) if goal.name == "max_cost" else (certain, certain)
    verdict: Verdict = "not refuted"
    if (goal.value >= high) if at_most else (goal.value <= low):
        verdict = "holds"
    elif (goal.value < low) if at_most else (goal.value > high):
        verdict = "violated"
    elif guarantee.p_value_satisfied(np.full(len(outcome), _worst(goal, problem))) > tail:
        verdict = "too few rows"
    interval, level = (low, high), 1 - 2 * tail
    return TargetJudgement(goal.name, goal.value, estimate, interval, level, len(outcome), test, p_value, verdict)


def _problem(
    goal: Goal, table: ScoreTable, policy: Policy, thresholds: np.ndarray, reached_share: np.ndarray
) -> RoutingProblem:
    arrivals = policy.arrivals or DEFAULT_ARRIVALS
    agreement = goal.gains_agreement(table)
    problem = RoutingProblem.from_table(table, policy.routers, agreement, policy.abstains, arrivals, goal.positive)
    shares = reached_share * table.work.mean(axis=0)
    problem = problem.with_early_deferral(policy.defer_below, policy.thresholds, shares)
    return problem.priced_at(thresholds, shares) if goal.name == "max_cost" else problem


def _worst(goal: Goal, problem: RoutingProblem) -> float:
    """The worst outcome of a row for a target."""
    return {"max_accuracy_drop": 1.0, "max_abstain": 1.0, "max_cost": problem.highest_cost}.get(goal.name, 0.0)


def at_the_policys_cost(table: ScoreTable, policy: Policy) -> ScoreTable:
    """The table at the policy's costs of its stages; costs that differ between rows stay.

    The guarantee is about the costs at calibration, not about times measured now, on a machine with other load.
    """
    if table.stages != len(policy.stages):
        return table  # refused by ``evaluate``
    table = table.with_curves(())
    if table.cost.ndim == 1:
        table = replace(table, cost=policy.cost, highest_cost=None, cost_unit=policy.cost_unit)
        return table.with_curves(policy.curves, policy.cost_per_ms) if policy.cost_per_ms.any() else table
    # Rows with equal costs here may differ elsewhere, so a higher declared bound stays.
    fixed, highest = np.ptp(table.cost, axis=0) == 0, table.highest_work
    return replace(
        table,
        cost=np.where(fixed, policy.cost, table.cost),
        highest_cost=np.where(fixed, np.maximum(policy.cost, highest), highest),
        cost_unit=policy.cost_unit,
    )


def certificate_number(value: Any, name: str) -> float:
    """A number of a certificate from any source.

    Raises:
        PolicyError: it is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PolicyError(f"the certificate's {name} must be a number; got {value!r}")
    return float(value)
