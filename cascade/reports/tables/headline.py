"""The main facts of a report: the cascade against its last stage, the stages, the certificate."""

from collections.abc import Iterator, Mapping
from typing import Any

from cascade.calibration import Policy
from cascade.calibration.evaluation.evaluation import Interval, proportion_interval
from cascade.reports.measures.replay import Replay
from cascade.reports.tables.report_table import ReportTable
from cascade.reports.text import MISSING, cell, count, number, percent, times_less

__all__ = ["certificate_facts", "comparison", "sameness", "stage_table", "tiles"]

DIGEST_LENGTH = 64
DIGEST_SHOWN = 12
TIMES = "\N{MULTIPLICATION SIGN}"


def tiles(replay: Replay) -> list[tuple[str, str]]:
    """The most important numbers: (number, meaning)."""
    seen = replay.evaluation
    ratio = replay.cost_ratio
    if ratio is None and seen.mean_cost != seen.last_stage_cost:  # one of them is 0
        meaning = f"mean cost per row ({seen.cost_unit}); the last stage alone costs {number(seen.last_stage_cost)}"
        shown = [(number(seen.mean_cost), meaning)]
    elif ratio is None or 0.995 <= ratio < 1.005:
        shown = [("same", "cost per row as the last stage alone")]
    elif ratio > 1:
        shown = [(f"{number(ratio)}{TIMES}", "less cost per row than the last stage alone")]
    else:
        shown = [(f"{number(1 / ratio)}{TIMES}", "more cost per row than the last stage alone")]
    if seen.accuracy is not None and seen.last_stage_accuracy is not None:
        last = percent(seen.last_stage_accuracy)
        shown.append((percent(seen.accuracy), f"accuracy; the last stage alone has {last}"))
    if replay.policy.abstains:
        shown.append((percent(seen.abstained), "of the rows are abstained on; the accuracy is that of the others"))
    shown.append((percent(seen.agreement), "of the answers agree with the last stage's"))
    shown.append((percent(float(seen.stage_share[0])), "of the rows are answered by the first stage"))
    return shown


def comparison(replay: Replay) -> ReportTable:
    """The cascade against the last stage alone, with intervals."""
    seen = replay.evaluation
    level = percent(seen.level)
    rows: list[tuple[str, str, str]] = []
    if seen.accuracy is not None and seen.accuracy_interval is not None:
        right = int(replay.gain[:, -1].sum())
        rows.append(
            (
                "accuracy",
                f"{percent(seen.accuracy)} {_shares(seen.accuracy_interval)}",
                f"{percent(seen.last_stage_accuracy)} {_shares(proportion_interval(right, seen.rows, seen.level))}",
            )
        )
    if replay.policy.abstains:
        rows.append(("abstained rows", f"{percent(seen.abstained)} {_shares(seen.abstained_interval)}", percent(0)))
    agreement = f"{percent(seen.agreement)} {_shares(seen.agreement_interval)}"
    rows += [
        ("agreement with the last stage", agreement, percent(1.0)),
        (
            f"mean cost per row ({seen.cost_unit})",
            f"{number(seen.mean_cost)} {_costs(seen.mean_cost_interval)}",
            number(seen.last_stage_cost),
        ),
        ("cost against the last stage", times_less(replay.cost_ratio), "1"),
    ]
    intervals = f"two-sided {level} intervals, exact binomial for shares, normal for costs"
    note = f"{count(seen.rows)} rows. In brackets: {intervals}."
    return ReportTable("", ("", "cascade", f"{seen.stage[-1]} alone"), rows, note)


def stage_table(replay: Replay) -> ReportTable:
    """One row per stage."""
    seen = replay.evaluation
    rows = [
        (
            name,
            _threshold(replay.policy, k),
            f"{router.score or 'confidence'}, {type(router.calibrator).__name__.lower()}".replace("_", " "),
            number(float(replay.single_cost[k])),
            count(int(replay.reached[k])),
            count(int(replay.answered[k])),
            f"{percent(float(seen.stage_share[k]))} {_shares(tuple(seen.stage_share_interval[k]))}",
            percent(float(replay.answered_gain[k])),
            percent(float(replay.single_gain[k])),
        )
        for k, (name, router) in enumerate(zip(replay.policy.stages, replay.policy.routers, strict=True))
    ]
    header = (
        "stage",
        "answers from",
        "confidence is",
        f"cost ({seen.cost_unit})",
        "rows reached",
        "answered",
        "share of all rows",
        f"{replay.gain_name} of these",
        f"{replay.gain_name} alone, all rows",
    )
    return ReportTable("", header, rows)


def sameness(replay: Replay) -> str:
    """Whether the report's rows are those of the calibration, in a sentence; empty if unknown."""
    digest = replay.policy.certificate.get("table_sha256")
    if digest is None:
        return ""
    if digest == replay.table.digest:
        return "These are the rows that the thresholds were chosen on, so the numbers of this report are optimistic."
    return "The table is not that of the calibration; rows that are in both would not be recognised."


def certificate_facts(replay: Replay) -> list[tuple[str, str, str]]:
    """Every entry of the certificate: (name, value as shown, full value if it was shortened)."""
    facts = [("policy version", replay.policy.version, ""), *_flat(replay.policy.certificate)]
    return [*facts, _fact("digest of this report's rows", replay.table.digest)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        else:
            yield _fact(name, value)


def _fact(name: str, value: Any) -> tuple[str, str, str]:
    if isinstance(value, list | tuple):
        return name, ", ".join(_exact(item) for item in value) or MISSING, ""
    text = _exact(value)
    if len(text) == DIGEST_LENGTH and set(text) <= set("0123456789abcdef"):
        return name, f"{text[:DIGEST_SHOWN]}…", text
    return name, text, ""


def _exact(value: Any) -> str:
    """A value with six digits, since targets are shown as they were given."""
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


def _threshold(policy: Policy, stage: int) -> str:
    threshold = policy.threshold(stage)
    if threshold is None:
        return "everything"
    lowest = policy.defer_below[stage]
    early = f"; < {lowest:.4f} to {policy.stages[-1]}" if lowest else ""
    return ("never" if threshold > 1 else f"≥ {threshold:.4f}") + early


def _shares(interval: Interval) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _costs(interval: Interval) -> str:
    return f"[{number(max(interval[0], 0.0))}, {number(interval[1])}]"
