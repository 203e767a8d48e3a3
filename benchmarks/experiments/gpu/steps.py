"""The steps that need a CUDA device, and the same ones for a rehearsal on the processor."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.benchmarks.harness.steps import Step
from cascade.errors import ConfigError

__all__ = ["RECIPES", "steps_of"]

EXPERIMENTS = "cascade.benchmarks.experiments"
TESTS = (
    "backends/dynamic/test_graph_executor.py",
    "backends/test_dynamic_backend.py",
    "backends/test_torch_backend.py",
    "backends/training/test_training.py",
)
RECIPES = ("resnet110-large-batch", "blockdrop110-large-batch", "skipnet110-large-batch")
"""Each starts from the weights of the one before it."""
TRAINING_S = (330.0, 240.0, 200.0)
REHEARSAL_S = 600.0
"""Limit of a step in a rehearsal, on a processor of any speed."""
BATCHES = "1,8,64,256"


def steps_of(folder: Path, cache: Path, rehearse: bool) -> list[Step]:
    """All steps, the most valuable first.

    Args:
        folder: for results, weights, and the files that the steps need, which are written here.
        cache: with the images of CIFAR-10.
        rehearse: whether to run on the processor, with small settings.
    """
    for name in ("results", "weights", "recipes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    saving = [_saving(folder, network, precision, rehearse) for network, precision in _cells(rehearse)]
    trainings = [_training(folder, place, rehearse) for place in range(len(RECIPES))]
    ladder = _ladder(folder, cache, rehearse)
    first, last = [_tests(rehearse), saving[0], ladder[0], trainings[0]], [*trainings[1:], *ladder[1:]]
    steps = [*first, *saving[1:2], *last, *saving[2:]]
    return [replace(step, limit_s=REHEARSAL_S) for step in steps] if rehearse else steps


def _python(*arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", *map(str, arguments))


def _experiment(name: str, result: Path, *arguments: str | Path) -> tuple[str, ...]:
    return _python(f"{EXPERIMENTS}.{name}", *arguments, "--out", result)


def _tests(rehearse: bool) -> Step:
    files = [str(ROOT / "tests" / name) for name in (TESTS[:1] if rehearse else TESTS)]
    chosen = ("-k", "no_rows or refused") if rehearse else ()
    return Step("tests", [_python("pytest", "-q", "-m", "not slow and not serve", *chosen, *files)], 150)


def _cells(rehearse: bool) -> list[tuple[str, str]]:
    precisions = ("float32",) if rehearse else ("float32", "bfloat16")
    return [(network, precision) for network in ("resnet110", "resnet101") for precision in precisions]


def _saving(folder: Path, network: str, precision: str, rehearse: bool) -> Step:
    """Realised saving: BlockDrop's kept shares, one-shot and recurrent policies."""
    batches, device, seconds = ("1,2", "cpu", "0") if rehearse else (BATCHES, "cuda", "4")
    command = _experiment(
        "networks.realised_saving",
        folder / "results" / f"realised_saving_{device}_{network}_{precision}.json",
        *("--networks", network, "--batches", batches, "--gates", "one-shot,recurrent"),
        *("--device", device, "--precision", precision, "--seconds", seconds),
    )
    return Step(f"realised saving {network} {precision}", [command], 120)


def _training(folder: Path, place: int, rehearse: bool) -> Step:
    name = RECIPES[place]
    recipe = _placed(ROOT / "examples" / "dynamic" / "recipes" / f"{name}.yaml", folder, rehearse)
    command = _python("cascade", "train", recipe, "--device", "cpu" if rehearse else "cuda", "--json")
    needs = (f"train {RECIPES[place - 1]}",) if place else ()
    return Step(f"train {name}", [command], TRAINING_S[place], needs)


def _placed(recipe: Path, folder: Path, small: bool) -> Path:
    """A copy of a recipe whose weights are written to ``folder/weights``; ``small`` for a rehearsal."""
    values: dict[str, Any] = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    starts = values.get("start_from", [])
    values["start_from"] = [{"weights": starts}] if isinstance(starts, str) else starts
    for start in values["start_from"]:
        shipped = (recipe.parent / start["weights"]).resolve()
        if shipped.exists():
            start["weights"] = str(shipped)
    if small:
        values["arguments"] |= {"depth": 8}
        values["phases"] = [phase | {"epochs": 1} for phase in values["phases"]]
        values |= {"batch_rows": 32, "held_out_rows": 32}
        values["start_from"] = [start for start in values["start_from"] if start["weights"].startswith("../")]
    copy = folder / "recipes" / recipe.name
    copy.write_text(yaml.safe_dump(values), encoding="utf-8")
    return copy


def _ladder(folder: Path, cache: Path, rehearse: bool) -> list[Step]:
    """The CIFAR-10 ladder with the expensive stages on the device: in-process, by ``cascade bench``, and served."""
    config, halves = _ladder_config(folder, rehearse), _halves(folder, cache)
    results = folder / "results"
    drop = "0.5" if rehearse else "0.002"
    in_process = _experiment(
        "costs.cascade_against_biggest",
        results / "cascade_against_biggest_gpu.json",
        *(config, "--dataset", "cifar10", "--timed-drop", drop),
        *(
            ("--splits", "1", "--seconds", "0.5", "--repeats", "1")
            if rehearse
            else ("--splits", "20", "--seconds", "15")
        ),
    )
    served = _experiment(
        "costs.predicted_time",
        results / "predicted_time_gpu.json",
        *(config, "--rows", halves[0], "--held-out", halves[1], "--together", "64"),
        *(("--drop", "0.5", "--seconds", "4") if rehearse else ("--drop", "0.01")),
    )
    scores, policy = folder / "scores.npz", folder / "policy.json"
    limit, untimed = (("--limit", "100"), ("--curve-seconds", "0")) if rehearse else ((), ())
    target = "0.9" if rehearse else "0.01"
    bench = [
        _python("cascade", "collect", config, "--rows", halves[0], "--out", scores, *limit, *untimed),
        _python("cascade", "calibrate", "--scores", scores, "--max-accuracy-drop", target, "--out", policy),
        _python(
            *("cascade", "bench", "run", config, "--target", "in-process", "--policy", policy, "--rows", halves[1]),
            *(("--seconds", "5", "--rows-per-request", "4") if rehearse else ("--seconds", "10")),
            *(*limit, "--out", results / "bench_gpu.json"),
        ),
    ]
    return [
        Step("ladder in-process", [in_process], 150),
        Step("ladder served", [served], 240),
        Step("cascade bench", bench, 120),
    ]


def _ladder_config(folder: Path, rehearse: bool) -> Path:
    """A copy of `examples/cifar10/gpu.yaml` that names its weights by their whole path."""
    source = ROOT / "examples" / "cifar10" / "gpu.yaml"
    values: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    for stage in values["stages"]:
        backend = stage["backend"]
        backend["weights"] = str((source.parent / backend["weights"]).resolve())
        if rehearse:
            backend.pop("device", None)
            stage.pop("deployment", None)
    values.pop("policy", None)
    copy = folder / "ladder.yaml"
    copy.write_text(yaml.safe_dump(values), encoding="utf-8")
    return copy


def _halves(folder: Path, cache: Path) -> list[Path]:
    """The test images, in two files of rows and labels: to calibrate on, and to run on."""
    try:
        rows, labels = (np.load(cache / "cifar10" / f"test_{kind}.npy", mmap_mode="r") for kind in ("rows", "labels"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"CIFAR-10 is not in {cache}: {error}") from error
    files = [folder / "calibration.npz", folder / "held_out.npz"]
    order = np.random.default_rng(0).permutation(len(rows))
    for file, half in zip(files, np.array_split(order, 2), strict=True):
        if not file.exists():
            np.savez(file, rows=rows[np.sort(half)], label=labels[np.sort(half)])
    return files
