"""From a score table and a target to a policy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from cascade.calibration.calibration_run import CalibrationRun
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.detection import positive_class
from cascade.calibration.evaluation.evaluation import evaluate
from cascade.calibration.evaluation.table_policy import table_policy
from cascade.calibration.fitting.router_fitting import RouterChoice
from cascade.calibration.policies.policy import Policy
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["Guarantee", "RouterChoice", "calibrate"]

Guarantee = Literal["certified", "none"]


def calibrate(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
    max_abstain: float | None = None,
    min_recall: float | None = None,
    min_precision: float | None = None,
    positive: str | int | None = None,
    delta: float = 0.05,
    guarantee: Guarantee = "certified",
    seed: int = 0,
    routers: Sequence[RouterChoice] | None = None,
    early_deferral: bool = False,
    arrivals: Arrivals = DEFAULT_ARRIVALS,
    look: int | None = None,
) -> Policy:
    """Finds the operating point for a target.

    One target is given, or ``max_cost`` and one other, or ``min_recall`` and ``min_precision``; with
    ``target_accuracy`` or ``max_cost`` the cascade may be allowed to abstain. A certified policy reaches all its
    targets on future data with probability at least 1 - delta over the draw of the table's rows, which must be
    independent draws from the same distribution (``cascade.calibration.certificates.certification``). Without a
    guarantee the policy is the best one on the table itself; it may miss its target on future data, and its
    certificate has ``"guarantee": "none"``.

    Args:
        table: n rows, K stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest policy is returned.
        max_accuracy_drop: most accuracy lost compared with the last stage, in [0, 1]; the cheapest policy is returned.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: largest mean cost per row, in the table's unit. Alone: the most accurate policy is returned (without
            labels, the one that agrees most with the last stage).
        max_abstain: largest share of rows, in [0, 1), that the last stage may leave to a person; accuracy is then that
            of the answered rows. By default, and at 0, every row is answered.
        min_recall: least share of the rows labelled ``positive`` that are answered as ``positive``, in [0, 1]; the
            cheapest policy is returned. It is tested on the positive rows alone.
        min_precision: beside ``min_recall``, least share of the rows answered as ``positive`` that have this label, in
            [0, 1].
        positive: name or number of the class of ``min_recall``; by default, if there are two classes, the one that
            stages which only reject never answer.
        delta: risk that a certified policy breaks a guarantee, in (0, 1).
        guarantee: "certified", or "none" for the empirical optimum.
        seed: of the split into searching and testing rows for a certified policy.
        routers: (score or head, calibrator) for each stage, names of ``SCORES`` or ``HEADS`` and of ``CALIBRATORS``;
            by default the table's confidences are used as they are.
        early_deferral: whether to search early-deferral thresholds as well, with which rows that are hopeless for the
            middle stages go to the last stage at once.
        arrivals: how many rows come together; where the table has cost curves, the predicted cost of the cascade for
            them is minimised. A stage that does not pay then gets the threshold ``NEVER``: it does not run.
        look: number of this look, 1 for the first, if calibration may be repeated (with other rows, more rows, or
            another target or seed). Look k is tested at level delta / 2^k, so all looks of the series together violate
            a guarantee with probability at most delta. By default this is the only look, at level delta.

    Raises:
        ValueError: no target or too many, or an argument out of its range; or ``max_abstain`` with ``early_deferral``
            or an incompatible target.
        ScoreTableError: the target needs labels that the table lacks, or a calibrator its scores.
        InfeasibleTarget: the target cannot be reached or certified; names the nearest that can be, and about how many
            more rows it would take.
    """
    ScoreTable.require(table)
    if min_recall is not None or positive is not None:
        positive = positive_class(table, positive)
    goal = Goal.of(
        positive,
        target_accuracy=target_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        target_agreement=target_agreement,
        max_cost=max_cost,
        max_abstain=max_abstain,
        min_recall=min_recall,
        min_precision=min_precision,
    )
    if early_deferral and goal.least_precision is not None:
        raise ValueError("early_deferral and min_precision cannot be searched together; leave one of them out")
    if early_deferral and goal.abstains:
        raise ValueError("early_deferral and max_abstain cannot be searched together; leave one of them out")
    _check(delta, guarantee, look)
    run = CalibrationRun(table, goal, routers, early_deferral, arrivals)
    found = run.empirical() if guarantee == "none" else run.certified(delta, seed, look)
    thresholds, abstain_below = np.split(found.thresholds, [table.stages - 1])
    policy = table_policy(table, found.routers, thresholds, arrivals, found.defer_below, float(abstain_below.sum()))
    return replace(policy, certificate={"guarantee": guarantee, **_facts(run, policy), **found.facts})


def _check(delta: float, guarantee: str, look: int | None) -> None:
    """Refuses arguments out of their range."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1); got {delta!r}")
    if look is not None and (isinstance(look, bool) or not isinstance(look, int) or look < 1):
        raise ValueError(f"look must be a whole number of at least 1; got {look!r}")
    if guarantee not in get_args(Guarantee):
        raise ValueError(f"guarantee must be one of {', '.join(get_args(Guarantee))}; got {guarantee!r}")


def _facts(run: CalibrationRun, policy: Policy) -> dict[str, Any]:
    """What every certificate records."""
    table, arrivals = run.table, run.arrivals
    priced = table.prices(arrivals) is not None
    cost_basis = (
        f"mean {table.cost_unit} per row of the stages that it reaches, predicted by cost curves for {arrivals}; "
        "it is not the wall-clock time of requests"
    )
    return {
        "target": run.goal.targets,
        "rows": len(table),
        **_positives(run),
        "table_sha256": table.digest,
        "model_sha256": {} if table.model is None else dict(zip(policy.stages, map(str, table.model), strict=True)),
        "observed": _observed(table, policy),
        **({} if run.choices is None else {"routers": [list(choice) for choice in run.choices]}),
        **({"cost_is": cost_basis} if priced else {}),
        **({"curves_measured_on": table.curve_machine or "an unnamed machine"} if table.has_curves else {}),
    }


def _positives(run: CalibrationRun) -> dict[str, Any]:
    """The positive class of a target of recall, and the number of its rows."""
    table, positive = run.table, run.goal.positive
    if positive is None or table.label is None:
        return {}
    name = {} if table.classes is None else {"positive_name": str(table.classes[positive])}
    return {"positive": positive, **name, "positives": int(np.count_nonzero(table.label == positive))}


def _observed(table: ScoreTable, policy: Policy) -> dict[str, Any]:
    result = evaluate(table, policy)
    detection = result.detection
    return {
        "accuracy": result.accuracy,
        "agreement": result.agreement,
        "mean_cost": result.mean_cost,
        "cost_unit": result.cost_unit,
        "last_stage_cost": result.last_stage_cost,
        "stage_share": [float(share) for share in result.stage_share],
        "reached_share": [float(share) for share in result.reached_share],
        **({"abstained": result.abstained} if policy.abstains else {}),
        **({} if detection is None else {"recall": detection.recall, "precision": detection.precision}),
    }
