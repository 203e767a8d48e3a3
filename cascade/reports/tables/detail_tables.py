"""The detailed tables of a report: calibration of the stages, value of each stage, losses by slice."""

from collections.abc import Mapping

import numpy as np

from cascade.reports.measures.replay import Replay
from cascade.reports.measures.slices import Slice, compare_slices
from cascade.reports.measures.stage_value import stage_values
from cascade.reports.tables.report_table import ReportTable
from cascade.reports.text import MISSING, count, number, percent, points

__all__ = ["knowledge_table", "slice_tables", "value_table"]

MOST_SLICES = 20


def knowledge_table(replay: Replay) -> ReportTable:
    """Calibration error and area under the risk-coverage curve, one row per stage."""
    rows = []
    for stage in replay.judged_stages:
        before, after = replay.reliability(stage)
        seen = replay.risk_coverage(stage)
        rows.append(
            (
                replay.policy.stages[stage],
                percent(before.expected_calibration_error),
                percent(after.expected_calibration_error),
                percent(seen.area),
                percent(seen.ideal_area),
                percent(seen.excess_area),
            )
        )
    header = ("stage", "ECE before calibration", "ECE after", "AURC", "AURC of the ideal order", "E-AURC, the excess")
    return ReportTable("", header, rows)


def value_table(replay: Replay) -> ReportTable | None:
    """The cost of the policy's accuracy without each stage; ``None`` if there is only one stage."""
    if replay.table.stages == 1:
        return None
    values = stage_values(replay.problem(), replay.sought, float(replay.cost.mean()))
    rows = [("none", number(values.cost), "", "")]
    for name, cost, pays in zip(replay.policy.stages, values.cost_without, values.pays, strict=True):
        if np.isnan(cost):
            rows.append((name, MISSING, MISSING, "needed"))
        else:
            change = cost / values.cost - 1 if values.cost > 0 else np.nan
            rows.append((name, number(cost), _change(change), "pays" if pays else "does not pay"))
    unit = replay.table.cost_unit
    header = ("stage left out", f"least mean cost ({unit})", "change", "the stage")
    note = (
        f"With at least the policy's {replay.sought_name}, {percent(values.gain)}. All cascades were searched on these "
        "rows, also that of all stages, whose cost may therefore be below the policy's. A stage is needed if no "
        f"cascade of the others with this {replay.sought_name} was found."
    )
    return ReportTable("", header, rows, note)


def slice_tables(replay: Replay, slices: Mapping[str, np.ndarray]) -> list[ReportTable]:
    """The cascade against its last stage: by class, and by each of the user's slices.

    Args:
        replay: of a policy on n rows.
        slices: (n,) arrays of int, bool or str.
    """
    table = replay.table
    if table.label is None:
        title, ids = "By class that the last stage answers", table.prediction[:, -1]
    else:
        title, ids = "By class of the label", table.label
    groups = {title: ids if table.classes is None else table.classes[ids]}
    groups |= {f"By {name}": value for name, value in slices.items()}
    return [_slice_table(replay, title, value) for title, value in groups.items()]


def _slice_table(replay: Replay, title: str, value: np.ndarray) -> ReportTable:
    found = compare_slices(value, replay.gain, replay.cost, replay.stage)
    header = (
        "value",
        "rows",
        f"{replay.gain_name} of the cascade",
        "of the last stage",
        "difference, points",
        f"mean cost ({replay.table.cost_unit})",
        *(f"answered by {name}" for name in replay.policy.stages),
    )
    note = f"The {MOST_SLICES} worst of {count(len(found))} values." if len(found) > MOST_SLICES else ""
    return ReportTable(title, header, [_slice_row(part) for part in found[:MOST_SLICES]], note)


def _slice_row(part: Slice) -> tuple[str, ...]:
    low, high = part.difference_interval
    return (
        str(part.value),
        count(part.rows),
        percent(part.gain),
        percent(part.last_gain),
        f"{points(part.difference)} [{points(low)}, {points(high)}]",
        number(part.mean_cost),
        *(percent(float(share)) for share in part.share),
    )


def _change(share: float) -> str:
    if np.isnan(share):
        return MISSING
    text = f"{100 * share:+.1f} %"
    return "0.0 %" if abs(share) < 5e-4 else text.replace("-", "\N{MINUS SIGN}")
