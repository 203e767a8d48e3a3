"""Whether a policy still fits the traffic: what fresh rows say of what its certificate says."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from cascade.calibration.certificates.goal import QUANTITIES, Goal
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
from cascade.calibration.evaluation import Evaluation, evaluate
from cascade.calibration.policy import Policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.errors import PolicyError
from cascade.routers import answering_stage

__all__ = ["Finding", "FreshCheck", "Verdict", "check_fresh"]

Verdict = Literal["broken", "kept", "not refuted", "too few rows"]

DEFAULT_DELTA = 0.05
RATE_TEST = "Fisher's exact, two-sided"


@dataclass(frozen=True)
class Finding:
    """A claim of the policy, and what fresh rows say of it.

    Attributes:
        claim: a target such as "target_accuracy", or "rows forwarded by NAME".
        claimed: the target's value, or the rate at calibration.
        observed: the same on the fresh rows.
        test: name of the test.
        p_value: of the hypothesis that the claim still holds.
        verdict: "broken" if the rows contradict the claim; "kept" if they bear a promise out as a calibration would;
            "too few rows" if no outcome on so few rows could contradict it; else "not refuted", which proves nothing.
    """

    claim: str
    claimed: float
    observed: float
    test: str
    p_value: float
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class FreshCheck:
    """All findings of a check.

    Attributes:
        evaluation: what the policy gives on the fresh rows.
        findings: a promise or a rate each.
        untested: what could not be tested, and why.
        delta: probability, at most, that a policy all of whose claims still hold is found to be broken.
    """

    evaluation: Evaluation
    findings: tuple[Finding, ...]
    untested: tuple[str, ...]
    delta: float

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that the rows contradict."""
        return tuple(finding for finding in self.findings if finding.verdict == "broken")

    @property
    def conclusion(self) -> str:
        """One sentence."""
        verdicts = {finding.verdict for finding in self.findings}
        if self.broken:
            return "the policy does not fit these rows any more; collect and calibrate again"
        if not self.findings:
            return "nothing could be tested"
        if verdicts == {"too few rows"}:
            return "nothing can be concluded from so few rows"
        return "nothing contradicts the policy"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "rows": self.evaluation.rows,
            "accuracy": self.evaluation.accuracy,
            "accuracy_interval": self.evaluation.accuracy_interval,
            "stage_share": self.evaluation.stage_share.tolist(),
            "delta": self.delta,
            "findings": [vars(finding) for finding in self.findings],
            "untested": list(self.untested),
            "conclusion": self.conclusion,
        }


def check_fresh(table: ScoreTable, policy: Policy, delta: float | None = None) -> FreshCheck:
    """Holds fresh rows against what a policy's certificate says.

    Each target of a certified policy is tested by the mirror image of the test that certified it, one-sided: the null
    hypothesis is that the promise is kept. The rate of the rows that each stage but the last forwards is compared with
    that at calibration by Fisher's exact test (the hypergeometric tails, the smaller one twice): given how many rows of
    both samples together were forwarded, it does not matter how many one should expect (R. A. Fisher, Statistical
    Methods for Research Workers, 5th edition, 1934, section 21.02). Of m tests each is made at level delta / m
    (Bonferroni), so a policy that still fits is found to be broken with probability at most delta. The rates at
    calibration are those of the rows that chose the thresholds, which is not accounted for.

    Args:
        table: rows that came after the calibration and had no part in it, independent draws from the traffic; its costs
            count only where they differ from row to row, the policy knows those of its stages.
        policy: of the same stages.
        delta: in (0, 1); by default the certificate's, or 0.05.

    Raises:
        PolicyError: the policy is of other stages, or its certificate cannot be read.
    """
    certificate = policy.certificate
    delta = _number(certificate.get("delta", DEFAULT_DELTA), "delta") if delta is None else delta
    if not 0 < delta < 1:
        raise PolicyError(f"delta must be in (0, 1); got {delta!r}")
    table = _at_the_policys_cost(table, policy)
    evaluation = evaluate(table, policy)
    goals, untested = _goals(policy, table, evaluation)
    known = _calibration_answers(policy)
    if known is None:
        untested.append("forward rates: the certificate does not tell those at calibration")
    tests = len(goals) + (0 if known is None else int(np.count_nonzero(policy.runs[:-1])))
    level = delta / max(tests, 1)
    findings = [_promise_finding(goal, table, policy, level, delta) for goal in goals]
    if known is not None:
        findings += _rate_findings(policy, known, np.rint(evaluation.stage_share * len(table)), level)
    return FreshCheck(evaluation, tuple(findings), tuple(untested), delta)


def _at_the_policys_cost(table: ScoreTable, policy: Policy) -> ScoreTable:
    """Times measured now, on a machine with other work, are not those of the guarantee."""
    if table.stages != len(policy.stages):
        return table  # refused by ``evaluate``
    fixed = np.ones(table.stages, dtype=bool) if table.cost.ndim == 1 else np.ptp(table.cost, axis=0) == 0
    table = table.with_curves(())
    if fixed.all() and policy.cost_per_ms.any():
        table = replace(table, cost=policy.cost, cost_unit=policy.cost_unit)
        return table.with_curves(policy.curves, policy.cost_per_ms)
    cost = policy.cost if fixed.all() else np.where(fixed, policy.cost, table.cost)
    return replace(table, cost=cost, cost_unit=policy.cost_unit)


def _goals(policy: Policy, table: ScoreTable, evaluation: Evaluation) -> tuple[list[Goal], list[str]]:
    """The promises that can be tested, and why others cannot."""
    certificate = policy.certificate
    if certificate.get("guarantee") != "certified":
        return [], ["targets: the policy is not certified, so it promises none"]
    targets = certificate.get("target")
    if not isinstance(targets, dict) or not targets.keys() <= QUANTITIES.keys():
        raise PolicyError(f"the certificate's target must be values of {', '.join(QUANTITIES)}; got {targets!r}")
    try:
        goals = Goal.of(**{name: _number(value, name) for name, value in targets.items()}).parts
    except ValueError as error:
        raise PolicyError(f"the certificate's target cannot be read: {error}") from error
    needs_labels = [goal for goal in goals if goal.name in ("target_accuracy", "max_accuracy_drop")]
    if evaluation.accuracy is not None:
        return goals, []
    why = "the rows have no labels" if table.label is None else "the policy abstains on all of the rows"
    return (
        [goal for goal in goals if goal not in needs_labels],
        [f"{goal.name}: {why}" for goal in needs_labels],
    )


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PolicyError(f"the certificate's {name} must be a number; got {value!r}")
    return float(value)


def _calibration_answers(policy: Policy) -> np.ndarray | None:
    """(K,) how many of the rows of the calibration each stage answered; ``None`` if that is not known."""
    observed = policy.certificate.get("observed")
    share = observed.get("stage_share") if isinstance(observed, dict) else None
    rows = policy.certificate.get("rows")
    if share is None or rows is None:
        return None
    try:
        counts = np.rint(np.asarray(share, dtype=np.float64) * int(rows))
    except (TypeError, ValueError) as error:
        raise PolicyError(f"the certificate's stage_share and rows must be numbers; got {share!r}, {rows!r}") from error
    if counts.shape != (len(policy.stages),) or counts.sum() != int(rows) or (counts < 0).any():
        raise PolicyError(
            f"the certificate's stage_share must be {len(policy.stages)} shares that add to 1; got {share}"
        )
    return counts


def _promise_finding(goal: Goal, table: ScoreTable, policy: Policy, level: float, delta: float) -> Finding:
    agreement = goal.gains_agreement(table)
    thresholds = np.append(policy.thresholds, policy.abstain_below) if policy.abstains else policy.thresholds
    arrivals = policy.arrivals or DEFAULT_ARRIVALS
    problem = RoutingProblem.from_table(table, policy.routers, agreement, policy.abstains, arrivals)
    problem = problem.with_skips(policy.skip_below, policy.thresholds, policy.reached_share)
    if goal.name == "max_cost":
        problem = problem.priced_at(thresholds, policy.reached_share)
    promise = goal.promise(problem, level)
    outcome = promise.outcome(problem, answering_stage(problem.confidence, thresholds))
    p_value = promise.p_value_kept(outcome)
    worst = {"max_accuracy_drop": 1.0, "max_abstain": 1.0, "max_cost": problem.highest_cost}.get(goal.name, 0.0)
    if p_value <= level:
        verdict: Verdict = "broken"
    elif promise.p_value_kept(np.full(len(outcome), worst)) > level:
        verdict = "too few rows"
    elif goal.promise(problem, delta).p_value(outcome) <= delta:
        verdict = "kept"
    else:
        verdict = "not refuted"
    return Finding(goal.name, goal.value, float(outcome.mean()), promise.test, p_value, verdict)


def _rate_findings(policy: Policy, known: np.ndarray, seen: np.ndarray, level: float) -> Iterator[Finding]:
    """Args: (K,) answers of each stage at calibration, and on the fresh rows. A stage that does not run has no rate."""
    rows_known, rows_seen = int(known.sum()), int(seen.sum())
    beyond_known = rows_known - np.cumsum(known).astype(int)
    beyond_seen = rows_seen - np.cumsum(seen).astype(int)
    for k in np.flatnonzero(policy.runs[:-1]).tolist():
        name, before, now = policy.stages[k], beyond_known[k], beyond_seen[k]
        p_value = _fisher(now, rows_seen, before, rows_known)
        extreme = min(_fisher(count, rows_seen, before, rows_known) for count in (0, rows_seen))
        verdict: Verdict = "broken" if p_value <= level else "too few rows" if extreme > level else "not refuted"
        claim = f"rows forwarded by {name}"
        yield Finding(claim, before / rows_known, now / rows_seen, RATE_TEST, p_value, verdict)


def _fisher(count: int, rows: int, other_count: int, other_rows: int) -> float:
    """Two-sided p-value of the hypothesis that two samples have the same rate."""
    from scipy.stats import hypergeom

    drawn = hypergeom(rows + other_rows, count + other_count, rows)
    return min(1.0, 2 * min(float(drawn.cdf(count)), float(drawn.sf(count - 1))))
