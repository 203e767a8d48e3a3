"""The judgement of the policy's targets on the rows of a report, as a table."""

from cascade.calibration import Judgement, TargetJudgement
from cascade.reports.tables.report_table import ReportTable
from cascade.reports.text import count, number, percent, points

__all__ = ["judgement_table"]

MARKS = {"holds": "\N{CHECK MARK}", "violated": "\N{MULTIPLICATION X}"}


def judgement_table(judgement: Judgement, cost_unit: str) -> ReportTable:
    """One row per target; the verdict comes first, with a mark.

    Args:
        judgement: of the policy on the report's rows.
        cost_unit: unit of the costs.
    """
    rows = [
        (
            f"{MARKS.get(each.verdict, '?')} {each.words}",
            _claim(each, cost_unit),
            _value(each, each.estimate),
            f"[{_value(each, each.interval[0])}, {_value(each, each.interval[1])}]",
            count(each.rows),
            each.test,
        )
        for each in judgement.targets
    ]
    level = f"{100 * judgement.targets[0].level:g} % interval" if judgement.targets else "interval"
    return ReportTable("", ("verdict", "target", "on these rows", level, "rows", "test"), rows, judgement.note)


def _claim(judged: TargetJudgement, cost_unit: str) -> str:
    if judged.target == "max_cost":
        return f"{judged.claim} {cost_unit}"
    if judged.target == "max_accuracy_drop":
        return f"accuracy drop at most {100 * judged.value:g} points"
    return f"{judged.claim.rpartition(' ')[0]} {100 * judged.value:g} %"


def _value(judged: TargetJudgement, value: float) -> str:
    """In the unit of the target."""
    if judged.target == "max_cost":
        return number(value)
    if judged.target == "max_accuracy_drop":
        return points(value)
    return percent(value)
