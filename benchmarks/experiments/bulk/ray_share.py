"""What share of the throughput that its stages alone allow does ``cascade predict --ray`` reach, in how much memory?

    python -m cascade.benchmarks.experiments.bulk.ray_share

The synthetic cascade of two stages scores an ``.npy`` file of 3-KiB rows, once with both stages in each worker, and
once with a pool of workers for each stage, between which the deferred rows move. The ideal is sum_k t_k n_k / P
seconds: t_k is the processor time per row of stage k, measured alone in this process in one thread, n_k the number of
rows that reach it, and P the number of processors.

"while it scores" compares the ideal with the time from the first to the last part that was written, for the rows of the
parts between. "with its start" compares it with the whole command, from the start of Python and Ray to their end, which
is the same number of seconds for any number of rows. The share in the processor time counts all processes of the
command, its start included, and depends least on what else the machine does.

Memory is the largest sum, over all processes of the command, of the proportional set size (pages that several processes
share are counted once). The pages of the input in the system's cache are not memory of a process.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import PROCESSORS, calibrated_rounds, write_cascade
from cascade.errors import CascadeError

TARGET = 0.9
MOST_BYTES = 2e9
ARRANGEMENTS = {"stages together": [["small", "large"]], "a pool for each stage": [["small"], ["large"]]}
SAMPLE_S = 0.5
TIMED_ROWS = 5000
FILE_ROWS = 50_000
"""Rows of the input that are made and written at a time."""


def stage_s(rounds: Sequence[int], tries: int = 5) -> list[float]:
    """Processor seconds per row of each stage, the median of some calls."""
    seconds = []
    rows = busy_stage.new_rows(TIMED_ROWS)
    for stage, count in zip(busy_stage.new_stages(rounds), (TIMED_ROWS, TIMED_ROWS // busy_stage.DEFERRED_EVERY)):
        spent = []
        for _ in range(tries):
            begin = time.thread_time()
            stage.predict(rows[:count])
            spent.append((time.thread_time() - begin) / count)
        seconds.append(float(np.median(spent)))
    return seconds


def write_rows(path: Path, count: int) -> None:
    """An ``.npy`` of rows, a piece at a time."""
    piece = busy_stage.new_rows(FILE_ROWS)
    rows = np.lib.format.open_memmap(path, "w+", piece.dtype, (count, *piece.shape[1:]))
    for start in range(0, count, FILE_ROWS):
        rows[start : start + FILE_ROWS] = piece[: count - start]
    rows.flush()


def run_command(config: Path, rows: Path, output: Path) -> dict[str, Any]:
    """Runs the command; its seconds, processor seconds and largest memory."""
    command = [sys.executable, "-m", "cascade", "predict", str(config), "--input", str(rows), "--output", str(output)]
    begin, most, spent = time.monotonic(), 0, dict[int, float]()
    with psutil.Popen([*command, "--ray", "--json"], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _sample(process, spent))
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise CascadeError(f"cascade predict ended with exit code {process.returncode}")
    return {"seconds": time.monotonic() - begin, "peak_bytes": most, "processor_s": sum(spent.values())}


def _sample(process: psutil.Process, spent: dict[int, float]) -> int:
    """Proportional bytes of a process and all below it; updates the processor seconds of each."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for each in family:
        try:
            times = each.cpu_times()
            spent[each.pid] = times.user + times.system
            total += each.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return total


def scoring(output: Path) -> dict[str, float]:
    """Rows and seconds between the first and the last part that were written."""
    from pyarrow import parquet

    written = sorted((path.stat().st_mtime, path) for path in output.glob("part-*.parquet"))
    rows = sum(parquet.read_metadata(path).num_rows for _, path in written[1:])
    return {"rows": rows, "seconds": written[-1][0] - written[0][0]}


def main(rows: Annotated[int, typer.Option(min=10_000, help="Rows of the input.")] = 1_000_000) -> Iterator[Found]:
    """Both arrangements, one after the other; the state after each is kept."""
    rounds = calibrated_rounds()
    row_s = stage_s(rounds)
    ideal_row_s = (row_s[0] + row_s[1] / busy_stage.DEFERRED_EVERY) / PROCESSORS
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.npy")
        write_rows(source, rows)
        for number, (name, segments) in enumerate(ARRANGEMENTS.items()):
            config = write_cascade(Path(folder, f"config-{number}"), rounds, serving={"segments": segments})
            output = Path(folder, f"answers-{number}")
            seen = run_command(config, source, output)
            part = scoring(output)
            found[name] = seen | {
                "scoring": part,
                "share_while_it_scores": ideal_row_s * part["rows"] / part["seconds"],
                "share_with_start": ideal_row_s * rows / seen["seconds"],
                "processor_share": ideal_row_s * PROCESSORS * rows / seen["processor_s"],
            }
            shutil.rmtree(output)
            yield {
                "rows": rows,
                "processors": PROCESSORS,
                "stage_processor_s_per_row": row_s,
                "arrangements": dict(found),
            }


def figures(found: Found) -> Figures:
    """Shares of the ideal, and memory."""
    numbers = {"rows": Figure(found["rows"])}
    for name, seen in found["arrangements"].items():
        numbers[f"share of the ideal while it scores, {name}"] = Figure(seen["share_while_it_scores"], TARGET, ">=")
        numbers[f"share of the ideal with its start, {name}"] = Figure(seen["share_with_start"], TARGET, ">=")
        numbers[f"share of the stages in the processor time of the command, {name}"] = Figure(seen["processor_share"])
        numbers[f"largest memory of all processes, GB, {name}"] = Figure(seen["peak_bytes"] / 1e9, MOST_BYTES / 1e9)
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
