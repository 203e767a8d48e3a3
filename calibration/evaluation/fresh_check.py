"""Whether a policy still fits traffic: its certificate tested on fresh rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.evaluation.evaluation import Evaluation, evaluate
from cascade.calibration.evaluation.judgement import (
    Verdict,
    at_the_policys_cost,
    certificate_number,
    judge_target,
    targets_of,
)
from cascade.calibration.policies.policy import Policy
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import PolicyError

__all__ = ["Finding", "FreshCheck", "check_fresh"]

DEFAULT_DELTA = 0.05
RATE_TEST = "Fisher's exact, two-sided"


@dataclass(frozen=True)
class Finding:
    """A claim of the policy, tested on fresh rows.

    Attributes:
        claim: a target such as "target_accuracy", or "rows forwarded by NAME".
        claimed: the target's value, or the rate at calibration.
        observed: the same on the fresh rows.
        test: name of the test.
        p_value: of the hypothesis that the claim still holds.
        verdict: "violated" if the rows refute the claim; "holds" if they certify a target as a calibration would; "too
            few rows" if no outcome on so few rows could refute it; else "not refuted", which is no proof.
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
        evaluation: of the policy on the fresh rows.
        findings: one per target or rate.
        untested: claims that could not be tested, with the reason.
        delta: largest probability that a claim is refuted although all of them still hold.
    """

    evaluation: Evaluation
    findings: tuple[Finding, ...]
    untested: tuple[str, ...]
    delta: float

    @property
    def violated(self) -> tuple[Finding, ...]:
        """The claims that the rows refute."""
        return tuple(finding for finding in self.findings if finding.verdict == "violated")

    @property
    def conclusion(self) -> str:
        """One sentence."""
        verdicts = {finding.verdict for finding in self.findings}
        if self.violated:
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
    """Tests the claims of a policy's certificate on fresh rows.

    Each target of a certified policy is judged (:func:`~cascade.calibration.evaluation.judgement.judge_target`) by the
    mirror image of the test that certified it, one-sided: the null hypothesis is that the target is reached. The
    forward rate of each stage but the last is compared with that at calibration by Fisher's exact test (the
    hypergeometric tails, the smaller one twice): given the number of forwarded rows of both samples together, the
    expected rate does not matter (R. A. Fisher, Statistical Methods for Research Workers, 5th edition, 1934, section
    21.02). Each of m tests has level delta / m (Bonferroni), so a claim of a policy that still fits is refuted with
    probability at most delta. The rates at calibration are those of the rows that chose the thresholds, which is not
    corrected for.

    Args:
        table: rows from after the calibration that had no part in it, independent draws from traffic; its costs are
            used only where they differ between rows, else those of the policy.
        policy: of the same stages.
        delta: in (0, 1); by default the certificate's, or 0.05.

    Raises:
        PolicyError: the policy is of other stages, or its certificate cannot be read.
    """
    certificate = policy.certificate
    delta = certificate_number(certificate.get("delta", DEFAULT_DELTA), "delta") if delta is None else delta
    if not 0 < delta < 1:
        raise PolicyError(f"delta must be in (0, 1); got {delta!r}")
    table = at_the_policys_cost(table, policy)
    evaluation = evaluate(table, policy)
    goals, untested = targets_of(policy, table)
    if certificate.get("guarantee") != "certified":
        goals, untested = [], ["targets: the policy is not certified, so it guarantees none"]
    calibrated = _calibration_answers(policy)
    if calibrated is None:
        untested.append("forward rates: the certificate has none of the calibration")
    tests = len(goals) + (0 if calibrated is None else int(np.count_nonzero(policy.runs[:-1])))
    level = delta / max(tests, 1)
    judged = [judge_target(goal, table, policy, level) for goal in goals]
    findings = [Finding(j.target, j.value, j.estimate, j.test, j.p_value, j.verdict) for j in judged]
    if calibrated is not None:
        findings += _rate_findings(policy, calibrated, np.rint(evaluation.stage_share * len(table)), level)
    return FreshCheck(evaluation, tuple(findings), tuple(untested), delta)


def _calibration_answers(policy: Policy) -> np.ndarray | None:
    """(K,) rows of the calibration that each stage answered; ``None`` if that is not recorded."""
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


def _rate_findings(policy: Policy, calibrated: np.ndarray, fresh: np.ndarray, level: float) -> Iterator[Finding]:
    """Findings from (K,) answered rows of each stage at calibration and now; a stage that does not run has no rate."""
    rows_before, rows_now = int(calibrated.sum()), int(fresh.sum())
    deferred_before = rows_before - np.cumsum(calibrated).astype(int)
    deferred_now = rows_now - np.cumsum(fresh).astype(int)
    for k in np.flatnonzero(policy.runs[:-1]).tolist():
        name, before, now = policy.stages[k], deferred_before[k], deferred_now[k]
        p_value = _fisher(now, rows_now, before, rows_before)
        extreme = min(_fisher(count, rows_now, before, rows_before) for count in (0, rows_now))
        verdict: Verdict = "violated" if p_value <= level else "too few rows" if extreme > level else "not refuted"
        claim = f"rows forwarded by {name}"
        yield Finding(claim, before / rows_before, now / rows_now, RATE_TEST, p_value, verdict)


def _fisher(count: int, rows: int, other_count: int, other_rows: int) -> float:
    """Two-sided p-value of the hypothesis that two samples have the same rate."""
    from scipy.stats import hypergeom

    drawn = hypergeom(rows + other_rows, count + other_count, rows)
    return min(1.0, 2 * min(float(drawn.cdf(count)), float(drawn.sf(count - 1))))
