"""Rare-event screening by the commands of ``docs/screening.md``: what does a certified recall cost?

    python -m cascade.benchmarks.experiments.costs.screening

Runs ``examples/screening`` from the command line, in folders of their own: 2 % of the rows are positive, then 1 %. A
logistic regression rejects, 100 randomised trees see the rest. The recall is certified on one part of the rows, judged
on another one, which neither trained nor calibrated.
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
from cascade.calibration import ScoreTable, calibrate
from cascade.errors import InfeasibleTarget

TOGETHER, FEW = "1024", "64"
"""Rows that arrive together: in bulk, and as served."""
SCORES = "calibration-scores.npz"
EXAMPLE = Path(cascade.__file__).resolve().parent.parent / "examples" / "screening"


def verb(folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a verb prints."""
    command = [sys.executable, "-m", "cascade", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main(
    recall: Annotated[float, typer.Option(help="Recall to certify.")] = 0.9,
    rare_recall: Annotated[float, typer.Option(help="Recall to certify where 1 % of the rows are positive.")] = 0.8,
    delta: Annotated[float, typer.Option(help="Level of the guarantee.")] = 0.05,
) -> Found:
    """Prepare, collect, calibrate, evaluate, with 2 % and with 1 % positive rows."""
    with tempfile.TemporaryDirectory() as name:
        found = screened(Path(name), 2, recall, delta)
    with tempfile.TemporaryDirectory() as name:
        rare = screened(Path(name), 4, rare_recall, delta)
        try:
            calibrate(ScoreTable.load(Path(name) / SCORES), min_recall=recall, delta=delta, positive="Q")
            rare |= {"first_recall_certified": True, "nearest": recall}
        except InfeasibleTarget as error:
            rare |= {"first_recall_certified": False, "nearest": error.nearest}
    return found | {"one_percent": rare}


def screened(folder: Path, every: int, recall: float, delta: float) -> dict[str, Any]:
    """The commands of ``docs/screening.md`` in an empty folder; one Q of ``every`` is kept."""
    for file in ("prepare.py", "config.yaml"):
        shutil.copy(EXAMPLE / file, folder)
    subprocess.run([sys.executable, "prepare.py", "--every", str(every)], cwd=folder, check=True)
    for part in ("calibration", "test"):
        files = ("--rows", f"{part}.npz", "--out", f"{part}-scores.npz")
        verb(folder, "collect", "config.yaml", *files, "--curve-seconds", "1")
    targets = ("--min-recall", str(recall), "--delta", str(delta), "--batch-rows", TOGETHER)
    calibrated = verb(folder, "calibrate", "config.yaml", "--scores", SCORES, *targets)
    files = ("--scores", "test-scores.npz", "--policy", "policy.json")
    seen, few = (verb(folder, "evaluate", *files, "--batch-rows", rows) for rows in (TOGETHER, FEW))
    return {"calibration": calibrated, "test": seen, "test_few_together": few}


def figures(found: Found) -> Figures:
    """On the test rows."""
    rare = found["one_percent"]
    return _screened(found) | {
        "1 % positive: positive rows for calibration": Figure(rare["calibration"]["positives"]),
        "1 % positive: of which test": Figure(rare["calibration"]["tested_rows"]["min_recall"]),
        "1 % positive: the first recall is certified (1: yes)": Figure(float(rare["first_recall_certified"])),
        "1 % positive: nearest recall that can be certified": Figure(rare["nearest"]),
        **{f"1 % positive: {name}": figure for name, figure in _screened(rare).items()},
    }


def _screened(found: Found) -> Figures:
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
