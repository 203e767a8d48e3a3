"""The main job on real data: calibrate the CIFAR-10 ladder, serve it, measure it over HTTP, report.

Thresholds are calibrated on one half of the test images and judged on the other, since the networks were trained on the
training images. All output is written to the folder ``demo``.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cascade import (
    Cascade,
    CascadeConfig,
    Policy,
    ReportTable,
    RowsTogether,
    ScoreTable,
    Stage,
    calibrate,
    check_table,
    collect,
    datasets,
    judge,
    last_stage_policy,
    load_stages,
    running_cascade,
    write_report,
)
from cascade.benchmarks.analysis.repeat import Repeat
from cascade.benchmarks.harness.clients.lean_load import load_once
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.time_prediction import TimePrediction
from cascade.benchmarks.workload import Workload
from cascade.collection.partial_collection import PartialCollection

FOLDER = Path(__file__).resolve().parent
OUT = Path("demo")
MOST_ACCURACY_DROP = 0.01
ROWS_PER_REQUEST = 64
CONNECTIONS = 8
SERVED_ROWS = 2560
PASSES = 4  # of the cascade over these rows, since one takes two seconds; of the last stage alone one takes twenty
SEED = 0

console = Console()


def main() -> None:
    """Runs the whole job; about three minutes on two processors."""
    OUT.mkdir(exist_ok=True)
    config = CascadeConfig.load(FOLDER / "config.yaml")
    console.rule("1. CIFAR-10")
    datasets.fetch("cifar10", on_note=console.print)
    test = datasets.load("cifar10", "test")
    order = np.random.default_rng(SEED).permutation(len(test.rows))
    calibration, held_out = np.array_split(order, 2)

    console.rule("2. Scores of every stage")
    stages = load_stages(config.stages, FOLDER, config.classes)
    partial = PartialCollection(OUT / "scores.npz.partial")
    table = _collect(stages, config, test, partial.folder)
    table.save(OUT / "scores.npz")
    partial.remove()

    console.rule("3. Calibration")
    half = table.take(calibration)
    policy = calibrate(half, max_accuracy_drop=MOST_ACCURACY_DROP, routers=check_table(table, config))
    policy.save(OUT / "policy.json")
    (tested,) = policy.certificate["tests"]
    console.print(policy)
    certainty, lost = 1 - policy.certificate["delta"], 100 * tested["bound"]
    console.print(
        f"With {certainty:.0%} certainty, at most {lost:.2f} points are lost against {policy.stages[-1]} alone."
    )

    prediction = _predicted_and_realised(Cascade(stages, policy, config.rows), test.rows[held_out[:SERVED_ROWS]])
    console.print(
        f"Predicted {prediction.predicted_ms:.3g} ms per row for {prediction.arrivals}, realised in this process "
        f"{prediction.realised_ms:.3g}: ratio {prediction.ratio:.2f}."
    )
    if prediction.warning is not None:
        console.print(f"warning: {prediction.warning}")

    console.rule(f"4. Serving {SERVED_ROWS:,} held-out images over HTTP")
    served = test.rows[held_out[:SERVED_ROWS]], test.labels[held_out[:SERVED_ROWS]]
    workload = Workload.from_rows(*served, ROWS_PER_REQUEST)
    cascade = _measure_in_own_process(config, policy, workload, PASSES)
    biggest = _measure_in_own_process(*_last_stage_alone(config, policy), workload)

    console.rule("5. Result")
    header, rows = _comparison(config, cascade, biggest)
    _print_table(header, rows)
    (judged,) = judge(table.take(held_out[:SERVED_ROWS]), policy).targets
    low, high = (100 * end for end in judged.interval)
    console.print(
        f"The loss on these images is {100 * judged.estimate:.2f} points, {low:.2f} to {high:.2f} on future ones "
        f"(95% interval); {judged.claim}: {judged.words}."
    )
    measured = {
        "cascade": _plain(cascade),
        "biggest_alone": _plain(biggest),
        "prediction": prediction.to_dict(),
        "judged": judged.to_dict(),
    }
    (OUT / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    served_table = ReportTable("Served over HTTP", header, rows, _note())
    write_report(table.take(held_out), policy, OUT / "report.html", [served_table], calibration=half, pictures=OUT)
    console.print(f"The report is {OUT / 'report.html'}; scores, policy and pictures are in the same folder.")


def _collect(stages: Sequence[Stage], config: CascadeConfig, test: datasets.Split, partial: Path) -> ScoreTable:
    """The score table of the test images; an interrupted collection continues."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks = {stage.name: bar.add_task(stage.name, total=len(test.rows)) for stage in stages}
        return collect(
            stages,
            test.rows,
            test.labels,
            classes=config.classes,
            partial=partial,
            on_rows=lambda name, done: bar.update(tasks[name], completed=done),
            on_note=lambda text: console.print(text, highlight=False),
        )


def _predicted_and_realised(cascade: Cascade, rows: np.ndarray) -> TimePrediction:
    """The time per row predicted by the cost curves, and that measured in this process."""
    arrivals = RowsTogether((ROWS_PER_REQUEST,))
    batches = np.split(rows, range(ROWS_PER_REQUEST, len(rows), ROWS_PER_REQUEST))
    cascade.predict(batches[0])
    began = time.perf_counter()
    for batch in batches:
        cascade.predict(batch)
    realised = (time.perf_counter() - began) / len(rows) * 1e3
    return TimePrediction(cascade.policy.predicted_ms(arrivals) or 0.0, realised, str(arrivals))


def _last_stage_alone(config: CascadeConfig, policy: Policy) -> tuple[CascadeConfig, Policy]:
    """A cascade of the biggest model only, with the same number of gateways."""
    stage = config.stages[-1]
    serving = config.serving.model_copy(update={"segments": None})
    alone = config.model_copy(update={"stages": (stage,), "serving": serving, "name": f"{config.name}-biggest"})
    return alone, last_stage_policy(policy)


def _measure_in_own_process(config: CascadeConfig, policy: Policy, workload: Workload, passes: int = 1) -> Repeat:
    """Serves in a new process, since Ray cannot be started reliably twice in one process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_serve_and_measure, config, policy, workload, passes).result()


def _serve_and_measure(config: CascadeConfig, policy: Policy, workload: Workload, passes: int) -> Repeat:
    """Starts Ray Serve, sends every batch so many times, stops Ray Serve."""
    names = tuple(stage.name for stage in config.stages)
    url = f"http://{config.serving.host}:{config.serving.port}"
    warmup = ClosedLoop(CONNECTIONS, seconds=2.0)
    loop = ClosedLoop(CONNECTIONS, seconds=600.0, max_requests=passes * len(workload.batches))
    with console.status(f"{' -> '.join(names)} on Ray Serve"), running_cascade(config, policy, FOLDER):
        load_once(warmup, url, workload, names)
        return load_once(loop, url, workload, names)


def _comparison(config: CascadeConfig, cascade: Repeat, biggest: Repeat) -> tuple[list[str], list[list[str]]]:
    names = [stage.name for stage in config.stages]
    faster = cascade.rows_per_s / biggest.rows_per_s
    points = 100 * ((cascade.accuracy or 0.0) - (biggest.accuracy or 0.0))

    def row(title: str, text: Callable[[Repeat], str], against: str = "") -> list[str]:
        return [title, text(cascade), text(biggest), against]

    rows = [
        row("accuracy", lambda seen: f"{seen.accuracy:.2%}", f"{points:+.2f} points"),
        row("ms per row", lambda seen: f"{1e3 / seen.rows_per_s:.2f}", f"{faster:.2f}x less"),
        row("rows/s", lambda seen: f"{seen.rows_per_s:,.0f}", f"{faster:.2f}x"),
        *(row(f"rows answered by {name}", partial(_share, name)) for name in names),
    ]
    return ["", "cascade", f"{names[-1]} alone", "against it"], rows


def _plain(seen: Repeat) -> dict[str, Any]:
    return seen.model_dump(mode="json", exclude={"windows", "histogram"})


def _share(stage: str, seen: Repeat) -> str:
    return f"{seen.stage_share.get(stage, 0.0):.1%}"


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _note() -> str:
    return (
        f"{SERVED_ROWS:,} held-out images, {ROWS_PER_REQUEST} per request, {CONNECTIONS} connections; {PASSES} passes, "
        f"one with the last stage alone. Client and gateways share the {os.cpu_count()} processors of one machine. "
        "Milliseconds per row are the wall-clock time divided by the rows."
    )


if __name__ == "__main__":
    main()
