"""Rare-event screening by the commands of ``docs/screening.md``: what does a certified recall cost?

    python -m cascade.benchmarks.experiments.costs.screening

Runs ``examples/screening`` from the command line, in a folder of its own: 2 % of the rows are positive, with
``--every 4`` 1 %; a logistic regression rejects, 100 randomised trees see the rest. The recall is certified on one part
of the rows and judged on another one, which neither trained nor calibrated.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

import cascade
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment

TOGETHER, FEW = "1024", "64"
"""Rows that arrive together: in bulk, and as served."""
EXAMPLE = Path(cascade.__file__).resolve().parent.parent / "examples" / "screening"


def verb(folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a verb prints."""
    command = [sys.executable, "-m", "cascade", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main(
    recall: Annotated[float, typer.Option(help="Recall to certify.")] = 0.9,
    delta: Annotated[float, typer.Option(help="Level of the guarantee.")] = 0.05,
    every: Annotated[int, typer.Option(min=1, max=8, help="One Q of so many is kept.")] = 2,
) -> Found:
    """Prepare, collect, calibrate, evaluate."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("prepare.py", "config.yaml"):
            shutil.copy(EXAMPLE / file, folder)
        subprocess.run([sys.executable, "prepare.py", "--every", str(every)], cwd=folder, check=True)
        for part in ("calibration", "test"):
            files = ("--rows", f"{part}.npz", "--out", f"{part}-scores.npz")
            verb(folder, "collect", "config.yaml", *files, "--curve-seconds", "1")
        targets = ("--min-recall", str(recall), "--delta", str(delta), "--batch-rows", TOGETHER)
        calibrated = verb(folder, "calibrate", "config.yaml", "--scores", "calibration-scores.npz", *targets)
        files = ("--scores", "test-scores.npz", "--policy", "policy.json")
        seen, few = (verb(folder, "evaluate", *files, "--batch-rows", rows) for rows in (TOGETHER, FEW))
    return {"calibration": calibrated, "test": seen, "test_few_together": few}


def figures(found: Found) -> Figures:
    """On the test rows."""
    seen = found["test"]
    detection, few = seen["detection"], found["test_few_together"]
    return {
        "certified recall (bound)": Figure(found["calibration"]["bounds"]["min_recall"]),
        "recall on test rows": Figure(detection["recall"]),
        "recall on test rows, lower end of the 95 % interval": Figure(detection["recall_interval"][0]),
        "recall on test rows, upper end": Figure(detection["recall_interval"][1]),
        "precision on test rows": Figure(detection["precision"]),
        "share of the rows that reach the expensive model": Figure(seen["reached_share"][-1]),
        f"cost over that of the expensive model alone, {TOGETHER} rows together": Figure(
            seen["mean_cost"] / seen["last_stage_cost"], 1
        ),
        f"cost over that of the expensive model alone, {FEW} rows together": Figure(
            few["mean_cost"] / few["last_stage_cost"]
        ),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
