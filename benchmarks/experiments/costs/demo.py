"""What does the demo of the README measure: the cascade and its last stage alone, served over HTTP?

    python -m cascade.benchmarks.experiments.costs.demo

Runs `examples/cifar10/demo.py` (`make demo`), which writes to the folder ``demo``. An interrupted demo continues
with the predictions that it has made.
"""

import json
import subprocess
import sys
from pathlib import Path

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT

LEAST_TIMES = 7.0


def main() -> Found:
    """Run the demo, and record what it measured."""
    subprocess.run([sys.executable, ROOT / "examples" / "cifar10" / "demo.py"], check=True)
    return {"measured": json.loads((Path("demo") / "measured.json").read_text(encoding="utf-8"))}


def figures(found: Found) -> Figures:
    """Of the cascade, of its last stage alone, and of one against the other."""
    measured = found["measured"]
    cascade, alone = measured["cascade"], measured["biggest_alone"]
    numbers: Figures = {}
    for name, seen in (("cascade", cascade), ("last stage alone", alone)):
        numbers[f"accuracy, %, {name}"] = Figure(100 * seen["accuracy"])
        numbers[f"ms per row, {name}"] = Figure(1e3 / seen["rows_per_s"])
        numbers[f"rows/s, {name}"] = Figure(seen["rows_per_s"])
    numbers["accuracy less the last stage's, points"] = Figure(100 * (cascade["accuracy"] - alone["accuracy"]))
    times = cascade["rows_per_s"] / alone["rows_per_s"]
    numbers["times less time than the last stage alone"] = Figure(times, LEAST_TIMES, ">=")
    numbers["predicted over realised time"] = Figure(measured["prediction"]["ratio"])
    for name, share in cascade["stage_share"].items():
        numbers[f"rows answered by {name}, %"] = Figure(100 * share)
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
