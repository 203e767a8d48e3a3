"""How much time does the stage contract take? The same stages with it and without any check or copy, in turn.

    python -m cascade.benchmarks.experiments.costs.contract_overhead

The first stage of the synthetic cascade alone (20 us per row) and both, through the engine in this process, at 1 and at
64 rows per call. Of each pair: rows per second with the contract over those without, so 0.98 is a cost of 2 %, and the
microseconds that the contract adds to a call. Seconds are of processor time, which other programs affect least; nothing
here waits. A served request of one row takes about 100 us of processor time beside its stages (``http_one_row.py``),
and shares a call with others under load.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer

from cascade.backends.config import CustomConfig
from cascade.backends.custom_backend import CustomBackend
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds
from cascade.calibration import Policy
from cascade.engine import Segment
from cascade.prediction import Prediction
from cascade.rows.parts import Parts
from cascade.stage import Stage

CALL_ROWS = (1, 64)
CHUNK_S = 0.02
"""With and without take turns after so long, so that a change of the machine's speed affects both alike."""


@dataclass(frozen=True)
class BareStage(Stage):
    """A stage that uses its model's output as is."""

    def predict(self, rows: np.ndarray | Parts) -> Prediction:
        """(n, ...) -> n answers, without a check."""
        return Prediction.from_probabilities(self.backend.model.predict(rows))  # type: ignore[attr-defined]


def new_segment(kind: type[Stage], rounds: Sequence[int]) -> Segment:
    """Some stages of the synthetic cascade."""
    arguments = [{"rounds_per_row": each} for each in rounds]
    arguments[1:] = [each | {"answer_byte": busy_stage.LATER_STAGE_BYTE} for each in arguments[1:]]
    configs = [
        CustomConfig(type="custom", object="cascade.benchmarks.harness.stages.busy_stage:BusyStage", arguments=each)
        for each in arguments
    ]
    names = busy_stage.STAGES[: len(rounds)]
    return Segment([kind(name, CustomBackend(config)) for name, config in zip(names, configs, strict=True)])


def rows_per_s(segment: Segment, policy: Policy, calls: Sequence[np.ndarray], count: int) -> float:
    """Rows per second of this thread's processor time, over ``count`` passes over the calls."""
    begin = time.thread_time()
    for _ in range(count):
        for rows in calls:
            segment.run(rows, policy)
    return count * sum(map(len, calls)) / (time.thread_time() - begin)


def measure(rounds: Sequence[int], call_rows: int, pairs: int) -> dict[str, Any]:
    """Ratios of pairs: with the contract over without; each of the two comes first in half of the pairs."""
    policy = Policy.from_thresholds(busy_stage.STAGES[: len(rounds)], np.full(len(rounds) - 1, busy_stage.THRESHOLD))
    rows = busy_stage.new_rows(5 * call_rows)
    calls = [np.ascontiguousarray(rows[start : start + call_rows]) for start in range(0, len(rows), call_rows)]
    segments = {"contract": new_segment(Stage, rounds), "none": new_segment(BareStage, rounds)}
    speed = min(rows_per_s(segment, policy, calls, 3) for segment in segments.values())
    count = max(1, round(CHUNK_S * speed / len(rows)))
    ratios, added = [], []
    for pair in range(pairs):
        order = ("contract", "none") if pair % 2 else ("none", "contract")
        found = {name: rows_per_s(segments[name], policy, calls, count) for name in order}
        ratios.append(found["contract"] / found["none"])
        added.append(call_rows * 1e6 * (1 / found["contract"] - 1 / found["none"]))
    low, median, high = np.quantile(ratios, [0.05, 0.5, 0.95]).tolist()
    return {"pairs": pairs, "median": median, "5 %": low, "95 %": high, "added_us_per_call": float(np.median(added))}


def main(pairs: Annotated[int, typer.Option(min=2, help="Of each case.")] = 200) -> Found:
    """Measure in turn."""
    rounds = calibrated_rounds()
    cases = {"stage of 20 us": rounds[:1], "synthetic cascade": rounds}
    ratios = {
        f"{name}, {call_rows} rows per call": measure(case, call_rows, pairs)
        for name, case in cases.items()
        for call_rows in CALL_ROWS
    }
    return {"throughput_with_over_without": ratios}


def figures(found: Found) -> Figures:
    """Medians over the pairs."""
    numbers = {}
    for case, seen in found["throughput_with_over_without"].items():
        least = 0.99 if "64 rows" in case else 0.98
        numbers[f"throughput with the contract over without, {case}"] = Figure(seen["median"], least, ">=")
        numbers[f"added per call, us, {case}"] = Figure(seen["added_us_per_call"])
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
