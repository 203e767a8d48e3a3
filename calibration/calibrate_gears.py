"""From a score table and several targets to a policy set."""

from collections.abc import Mapping, Sequence

from cascade.calibration.calibrate import Guarantee, RouterChoice, calibrate
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.policies.certificate import TARGETS
from cascade.calibration.policies.policy_set import PolicySet
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["calibrate_gears"]


def calibrate_gears(
    table: ScoreTable,
    targets: Sequence[Mapping[str, float]],
    *,
    delta: float = 0.05,
    guarantee: Guarantee = "certified",
    seed: int = 0,
    routers: Sequence[RouterChoice] | None = None,
    early_deferral: bool = False,
    arrivals: Arrivals = DEFAULT_ARRIVALS,
    look: int | None = None,
    positive: str | int | None = None,
) -> PolicySet:
    """Finds an operating point for each of several targets.

    With probability at least 1 - delta *all* gears satisfy their guarantees on future data: each of m gears is tested
    at level delta / m, and the levels add up (Bonferroni) for any dependence between the tests. So does any mixture of
    the gears, as long as the choice of a gear is independent of the rows that it routes.

    Args:
        table: n rows, K stages.
        targets: of each gear, the best first: names and values as :func:`~cascade.calibration.calibrate` takes them,
            such as ``[{"target_accuracy": 0.94}, {"target_accuracy": 0.93}]``.
        delta: probability that any of the gears violates a guarantee, in (0, 1).
        guarantee: "certified", or "none" for the empirical optimum.
        seed: of the split of the rows.
        routers: as for ``calibrate``.
        early_deferral: as for ``calibrate``.
        arrivals: as for ``calibrate``.
        look: as for ``calibrate``.
        positive: as for ``calibrate``, for gears with ``min_recall``.

    Raises:
        ValueError: there is no target, or ``calibrate`` refuses one.
        PolicyError: a gear is not cheaper than the one before it, or has a stricter guarantee.
        ScoreTableError, InfeasibleTarget: as for ``calibrate``.
    """
    if not targets:
        raise ValueError("give the target of at least one gear")
    gears = []
    for target in targets:
        if set(target) - {*TARGETS, "max_abstain"}:
            raise ValueError(f"a target must be one of {', '.join(TARGETS)}, max_abstain; got {', '.join(target)}")
        gears.append(
            calibrate(
                table,
                target_accuracy=target.get("target_accuracy"),
                max_accuracy_drop=target.get("max_accuracy_drop"),
                target_agreement=target.get("target_agreement"),
                max_cost=target.get("max_cost"),
                max_abstain=target.get("max_abstain"),
                min_recall=target.get("min_recall"),
                min_precision=target.get("min_precision"),
                positive=positive if "min_recall" in target else None,
                delta=delta / len(targets),
                guarantee=guarantee,
                seed=seed,
                routers=routers,
                early_deferral=early_deferral,
                arrivals=arrivals,
                look=look,
            )
        )
    return PolicySet(tuple(gears))
