"""What does an image of 10 megapixels take in time and memory, with the rejector of ``examples/faces`` and without?

    python -m cascade.benchmarks.experiments.detection.large_image

The image is scikit-image's "retina", enlarged to 3648 x 2736 pixels: it has no face, and is flat in part. Each policy
runs in a process of its own, on one thread: policy.json with the rejector before P, R and O, precise.json without it.
Memory is the peak of the process during the detection, less what it held before. Seconds are of the processor, so that
other processes disturb them less; those of the clock are recorded.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade import Detector
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.collection.measure import use_threads

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "faces"
POLICIES = {"with the rejector": "policy.json", "P-R-O": "precise.json"}
WIDTH, HEIGHT = 3648, 2736


def large_image(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    from PIL import Image
    from skimage import data

    return np.asarray(Image.fromarray(data.retina()).resize((width, height), Image.Resampling.BICUBIC))


def peak_bytes() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def detect(policy: str, width: int, height: int) -> dict[str, Any]:
    """One image through one policy, in this process."""
    use_threads(1)
    detector = Detector.load(EXAMPLE / "config.yaml", EXAMPLE / policy)
    image = large_image(width, height)
    detector.detect(image[:200, :200])  # models are warm
    held, clock, processor = peak_bytes(), time.perf_counter(), time.process_time()
    found = detector.detect(image)
    return {
        "seconds": time.process_time() - processor,
        "clock_seconds": time.perf_counter() - clock,
        "bytes": peak_bytes() - held,
        "held_bytes": held,
        "windows": found.windows,
        "answered": dict(found.answered),
        "boxes": len(found.boxes),
    }


def main(
    width: Annotated[int, typer.Option(min=100)] = WIDTH, height: Annotated[int, typer.Option(min=100)] = HEIGHT
) -> Found:
    """Each policy in a process of its own."""
    code = "import json, sys; from {0} import detect; print(json.dumps(detect(sys.argv[1], {1}, {2})))"
    command = [sys.executable, "-c", code.format(__spec__.name if __spec__ else __name__, width, height)]
    found = {}
    for name, policy in POLICIES.items():
        done = subprocess.run([*command, policy], check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return {"pixels": width * height, "runs": found}


def figures(found: Found) -> Figures:
    """Of each policy."""
    named: dict[str, Figure] = {}
    for name, run in found["runs"].items():
        named |= {
            f"seconds, {name}": Figure(run["seconds"]),
            f"microseconds per window, {name}": Figure(run["seconds"] / run["windows"] * 1e6),
            f"peak memory beyond the models (MiB), {name}": Figure(run["bytes"] / 2**20),
            f"peak memory of the process (MiB), {name}": Figure((run["held_bytes"] + run["bytes"]) / 2**20),
        }
    named["windows"] = Figure(next(iter(found["runs"].values()))["windows"])
    return named


if __name__ == "__main__":
    run_experiment(main, figures)
