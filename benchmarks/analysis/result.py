"""The result of a benchmark, and its file."""

import json
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cascade.benchmarks.analysis.intervals import METHOD, Estimate, estimate
from cascade.benchmarks.analysis.objectives import Objectives
from cascade.benchmarks.analysis.repeat import Repeat
from cascade.benchmarks.errors import ResultError
from cascade.files.problems import validated

__all__ = ["SCHEMA_VERSION", "Measured", "Result", "code_commit", "summary_of"]

SCHEMA_VERSION = 2
LARGEST_SPREAD = 1.2
"""Ratio of the largest to the smallest throughput of the repeats above which a result has a remark."""
BUSY_MACHINE = 0.5
"""Load average per processor before the first repeat above which a result has a remark."""
NUMBERS = (
    "rows_per_s",
    "requests_per_s",
    "goodput_per_s",
    "offered_per_s",
    "sent_per_s",
    "accuracy",
    "mean_cost",
    "different_answers",
)


class Measured(BaseModel):
    """What was measured.

    Attributes:
        config: name of the cascade; ``None`` without a configuration.
        target: kind of the target, such as "http".
        scenario: name of the scenario.
        load: in words, such as "Poisson arrivals, 500 requests/s".
        rows_per_request: of each request; ``None`` in a trace.
        connections: most requests under way.
        rate_per_s: of an open loop.
        mix: of hard rows, in words; ``None`` without.
        data: data set or file of the rows.
        data_rows: number of them.
        policy_version: all that answers have named.
        cost_unit: of the policy; ``None`` where it is not known.
        prediction: in process, predicted and realised time.
    """

    model_config = ConfigDict(extra="forbid")

    config: str | None
    target: str
    scenario: str
    load: str
    rows_per_request: int | None
    connections: int
    rate_per_s: float | None
    mix: str | None
    data: str
    data_rows: int
    policy_version: str = ""
    cost_unit: str | None = None
    prediction: dict[str, Any] | None = None


class Result(BaseModel):
    """Everything about one benchmark.

    Attributes:
        schema_version: of this format.
        state: "partial" until all repeats are there; then "complete".
        ended_by: why a partial result has no more; empty for a complete one.
        date: of the beginning.
        commit: of the code, with "+" where files differ; ``None`` outside of git.
        machine: on which it ran.
        options: of the command; files by their names only, no addresses.
        measured: what was measured.
        objectives: that it was to reach.
        missed: sentences about objectives that it missed.
        invalid: reasons why the client, and not the target, was the limit.
        remarks: what a reader should know.
        interval_method: of the summary.
        summary: numbers over the repeats; without those that were ended early, if there are others.
        repeats: the numbers of each.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    state: Literal["partial", "complete"] = "partial"
    ended_by: str = ""
    date: datetime
    commit: str | None
    machine: dict[str, Any]
    options: dict[str, Any]
    measured: Measured
    objectives: Objectives
    missed: list[str] = []
    invalid: list[str] = []
    remarks: list[str] = []
    interval_method: str = METHOD
    summary: dict[str, Estimate] = {}
    repeats: list[Repeat] = []

    def add(self, repeat: Repeat) -> None:
        """Adds a repeat, and judges the whole anew."""
        self.repeats.append(repeat)
        self.summary = summary_of(self.counted)
        self.missed = self.objectives.missed(self.summary)
        self.invalid = [f"repeat {i}: {text}" for i, one in enumerate(self.repeats, 1) for text in one.invalid]
        self.remarks = _remarks(self.repeats, self.summary, int(self.machine.get("cores") or 1))
        self.measured.policy_version = ", ".join(sorted({v for one in self.repeats for v in one.policy_versions}))

    @property
    def counted(self) -> list[Repeat]:
        """The repeats of the summary: those that were not ended early, if there are any."""
        return [one for one in self.repeats if not one.partial] or self.repeats

    def values(self, name: str) -> list[float]:
        """A number of every counted repeat that has it, by its name in the summary."""
        return [found for found in (_number(one, name) for one in self.counted) if found is not None]

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        seen = self.measured
        rows = f"{seen.rows_per_request} rows per request, " if seen.rows_per_request else ""
        return f"{seen.config or seen.data}, {seen.target}: {rows}{seen.load}"

    @classmethod
    def load(cls, path: Path | str) -> "Result":
        """Reads a result file.

        Raises:
            ResultError: it is missing, is not JSON, is of an older version, or is not a result.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ResultError(f"{path} does not exist; 'cascade bench run --out' makes it") from error
        except (OSError, ValueError) as error:
            raise ResultError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(values, dict) or "schema_version" not in values:
            raise ResultError(f"{path} must be a result of schema_version {SCHEMA_VERSION}")
        if values["schema_version"] == 1:
            raise ResultError(
                f"{path} is of schema_version 1, whose numbers were those of a slower client; measure again with "
                "'cascade bench run'"
            )
        return validated(values, cls, str(path), ResultError)


def summary_of(repeats: Sequence[Repeat]) -> dict[str, Estimate]:
    """Every number over the repeats; one that a repeat lacks is taken over the others, a missing error counts as 0."""
    names = [name for name in NUMBERS if any(getattr(one, name) is not None for one in repeats)]
    names += ["failed_share", "abstained", "degraded"]
    for group in ("latency_ms", "latency_upper_ms", "stage_share"):
        names += dict.fromkeys(f"{group}.{key}" for one in repeats for key in getattr(one, group))
    names += ["send_lag.p50_ms", "send_lag.p99_ms", "send_lag.max_ms", "client.busiest_share"]
    names += dict.fromkeys(f"engine.{key}" for one in repeats for key in one.engine or {})
    found = {name: [value for value in (_number(one, name) for one in repeats) if value is not None] for name in names}
    return {name: estimate(values) for name, values in found.items() if values}


def _number(repeat: Repeat, name: str) -> float | None:
    group, _, key = name.partition(".")
    value = getattr(repeat, group)
    if key:
        value = (
            value.get(key, 0.0 if group == "stage_share" else None)
            if isinstance(value, dict)
            else getattr(value, key, None)
        )
    return float(value) if isinstance(value, int | float) else None


def _remarks(repeats: Sequence[Repeat], summary: dict[str, Estimate], cores: int) -> list[str]:
    found = []
    rate = summary["rows_per_s"]
    if repeats[0].load_average[0] > BUSY_MACHINE * cores:
        found.append(
            f"the machine was busy before the run: load average {repeats[0].load_average[0]:.1f} on {cores} processors"
        )
    if rate.smallest > 0 and rate.largest > LARGEST_SPREAD * rate.smallest and repeats[0].offered_per_s is None:
        spread = rate.largest / rate.smallest
        found.append(
            f"rows/s of the repeats differ by a factor of {spread:.2f}: the machine's speed changes, or it does more"
        )
    unsteady = [str(i) for i, one in enumerate(repeats, 1) if one.steady_from_s is None and not one.partial]
    if unsteady:
        found.append(f"no steady state in repeat {', '.join(unsteady)}: give more --warmup-seconds or --seconds")
    late = [f"{i} ({one.steady_from_s:.3g} s)" for i, one in enumerate(repeats, 1) if one.steady_from_s]
    if late:
        found.append(f"steady only after a time in repeat {', '.join(late)}: give more --warmup-seconds")
    few = sorted({name for one in repeats for name in one.too_few_for}, key=lambda name: float(name[1:]))
    if few:
        found.append(f"too few requests for {', '.join(few)}")
    offered = summary.get("offered_per_s")
    answered = summary["requests_per_s"].median
    if offered is not None and answered < 0.95 * offered.median:
        found.append(f"overload: {offered.median:.4g} requests/s were due, {answered:.4g} were answered")
    return found


def code_commit(folder: Path) -> str | None:
    """The commit of a work tree, with "+" where files differ from it; ``None`` outside of git."""
    ask = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*ask, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
        if head.returncode:
            return None
        changed = subprocess.run(
            [*ask, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout else "")
