"""How much processor time does an idle served cascade use, and what does a slower control loop cost?

    python -m cascade.benchmarks.experiments.serving.idle_cost

Processor time of all processes of ``cascade serve`` with two gateways and a second segment, while it is idle, for
several intervals of Ray Serve's control loop; beside it that of a Ray Serve application of two replicas that does
nothing. Sought: at most a quarter of a processor. For each interval also the time until the second segment answers
again after its only replica was killed, and until a new policy is in force at both gateways.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import ADMIN_KEY, calibrated_rounds, served_synthetic
from cascade.calibration import Policy
from cascade.cli.shared.console import console
from cascade.errors import CascadeError

SERVING: dict[str, Any] = {"gateways": 2, "admin_keys_file": "admin-keys.txt"}
MOST_SHARE = 0.25
SETTLE_S = 15.0
RELOADS = 10
RECOVER_S = 120.0
INTERVALS_S = (0.1, 0.5, 1.0)
DEFAULT_INTERVAL_S = 0.5
"""Which ``cascade serve`` sets."""
INTERVAL = "RAY_SERVE_CONTROL_LOOP_INTERVAL_S"


def processor_times(server: ServerProcess) -> dict[tuple[int, str], float]:
    """Seconds of processor time by process (id, title)."""
    found = {}
    for process in server.family():
        try:
            times = process.cpu_times()
            found[process.pid, _title(process)] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return found


def _title(process: psutil.Process) -> str:
    command = process.cmdline() or [process.name()]
    title = command[0].split(":synthetic:")[-1].removeprefix("ray::")
    if title.endswith("python") or "/python" in title:
        title = " ".join(Path(part).name for part in command[1:4] if not part.startswith("-"))
    return Path(title).name


def idle_share(server: ServerProcess, seconds: float) -> dict[str, Any]:
    """Processor time per second of an idle server, in processors, in all and by process."""
    time.sleep(SETTLE_S)
    before, begin = processor_times(server), time.monotonic()
    time.sleep(seconds)
    after, took = processor_times(server), time.monotonic() - begin
    by_process: Counter[str] = Counter()
    for (process, title), used in after.items():
        by_process[title] += (used - before.get((process, title), 0.0)) / took  # type: ignore[assignment]
    return {"idle_processors": sum(by_process.values()), "by_process": dict(by_process), "seconds": took}


def recovery_s(server: ServerProcess) -> float:
    """Seconds from the end of the second segment's replica to the next answer of that segment."""
    (replica,) = (each for each in server.family() if "segment-large" in " ".join(each.cmdline()))
    replica.kill()
    begin = time.monotonic()
    while time.monotonic() - begin < RECOVER_S:
        try:
            server.post(*server.probe)
        except (urllib.error.HTTPError, OSError):
            time.sleep(0.1)
        else:
            return time.monotonic() - begin
    raise CascadeError(f"the killed replica is not back after {RECOVER_S:g} s")


def reload_seconds(address: str) -> list[float]:
    """Seconds of reloads, each of which is answered once it is in force at all gateways."""
    seconds = []
    for turn in range(RELOADS):
        policy = Policy.from_thresholds(busy_stage.STAGES, np.array([busy_stage.THRESHOLD - 0.01 * turn]))
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        request = urllib.request.Request(f"{address}/policy", policy.to_json().encode(), headers, method="PUT")
        begin = time.monotonic()
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = json.loads(answer.read())
        if answer.status != 200 or content["gateways"] != SERVING["gateways"]:
            raise CascadeError(f"a reload was answered with {answer.status}: {content}")
        seconds.append(time.monotonic() - begin)
    return seconds


def measure_cascade(seconds: float, interval_s: float) -> dict[str, Any]:
    """A served cascade."""
    rounds, begin = calibrated_rounds(), time.monotonic()
    with served_synthetic(rounds, SERVING, {INTERVAL: str(interval_s)}) as server:
        seen = {"interval_s": interval_s, "start_s": time.monotonic() - begin} | idle_share(server, seconds)
        seen["reload_s"] = reload_seconds(server.address)
        seen["recovery_s"] = recovery_s(server)
    return seen


def measure_bare(seconds: float) -> dict[str, Any]:
    """An application that does nothing."""
    command = [sys.executable, "-m", "cascade.benchmarks.experiments.serving.bare_serve"]
    with ServerProcess("bare", command, (b"", {})) as server:
        return idle_share(server, seconds)


def main(seconds: Annotated[float, typer.Option(min=1, help="Time for which each server is idle.")] = 60.0) -> Found:
    """Measure the processor time of idle servers."""
    bare = measure_bare(seconds)
    console.print({"bare": bare})
    cascades = []
    for interval_s in INTERVALS_S:
        cascades.append(measure_cascade(seconds, interval_s))
        console.print(cascades[-1])
    return {"bare": bare, "cascades": cascades}


def figures(found: Found) -> Figures:
    """Of every interval; the limit is for the one that ``cascade serve`` sets."""
    numbers = {"processors of an application that does nothing": Figure(found["bare"]["idle_processors"])}
    for seen in found["cascades"]:
        interval = f"control loop each {seen['interval_s']:g} s"
        sought = MOST_SHARE if seen["interval_s"] == DEFAULT_INTERVAL_S else None
        numbers[f"processors of an idle cascade, {interval}"] = Figure(seen["idle_processors"], sought)
        numbers[f"seconds until a killed segment answers again, {interval}"] = Figure(seen["recovery_s"])
        numbers[f"seconds of a reload, median, {interval}"] = Figure(float(np.median(seen["reload_s"])))
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
