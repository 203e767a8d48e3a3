"""Recall, precision and the rates of the stages, where a policy has a positive class."""

from cascade.calibration.evaluation.detection_rates import DetectionRates
from cascade.calibration.evaluation.evaluation import Evaluation, Interval
from cascade.reports.tables.report_table import ReportTable
from cascade.reports.text import count, percent

__all__ = ["detection_tables"]


def detection_tables(evaluation: Evaluation, positive_name: str) -> list[ReportTable]:
    """One table of the whole cascade and one of its stages; none without a positive class.

    Args:
        evaluation: of a policy.
        positive_name: of the positive class.
    """
    seen = evaluation.detection
    if seen is None:
        return []
    negatives = evaluation.rows - seen.positives
    whole = [
        ("recall", _share(seen.recall, seen.recall_interval), count(seen.positives)),
        ("precision", _share(seen.precision, seen.precision_interval), count(seen.answered_positive)),
        ("false-positive rate", _share(seen.false_positive_rate, seen.false_positive_rate_interval), count(negatives)),
    ]
    note = f"In brackets: two-sided {percent(evaluation.level)} intervals, exact binomial."
    title = f"Detection of {positive_name}"
    return [ReportTable(title, ("", "cascade", "of rows"), whole, note), _stages(evaluation, seen, title)]


def _stages(evaluation: Evaluation, seen: DetectionRates, title: str) -> ReportTable:
    rows = [
        (name, percent(detected), percent(false))
        for name, detected, false in zip(
            evaluation.stage,
            seen.stage_detection_rate.tolist(),
            seen.stage_false_positive_rate.tolist(),
            strict=True,
        )
    ]
    rows += [
        ("product of the stages", percent(seen.product_detection_rate), percent(seen.product_false_positive_rate)),
        ("whole cascade", percent(seen.recall), percent(seen.false_positive_rate)),
    ]
    note = (
        "Of the positive and of the negative rows that reach a stage: the share that it passes on or answers as "
        "positive. The products are the classical rule for the whole cascade."
    )
    return ReportTable(f"{title}, by stage", ("stage", "detection rate", "false-positive rate"), rows, note)


def _share(share: float | None, interval: Interval) -> str:
    return f"{percent(share)} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
