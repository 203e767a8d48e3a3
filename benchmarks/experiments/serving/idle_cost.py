"""What a served cascade costs while it gets no requests, and what a slower control loop of Ray Serve costs instead.

    python -m cascade.benchmarks.experiments.serving.idle_cost

Processor time (not the clock's) of all processes of ``cascade serve`` with two gateways and a second segment, while it
is idle, for several intervals of Ray Serve's control loop; beside it that of a Ray Serve application of two replicas
that does nothing. Sought: at most a quarter of a processor. For each interval also how long it takes until the second
segment answers again after its only replica was killed, and until a new policy is in force at both gateways.
"""

import json
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.server_process import CASCADE_IS_UP, ServerProcess, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, write_cascade
from cascade.benchmarks.http_target import request_body
from cascade.calibration import Policy
from cascade.errors import CascadeError
from cascade.machine.description import describe_machine

ADMIN_KEY = "admin-key-of-the-experiment"
SERVING: dict[str, Any] = {"gateways": 2, "admin_keys_file": "admin-keys.txt"}
MOST_SHARE = 0.25
SETTLE_S = 15.0
RELOADS = 10
RECOVER_S = 120.0
INTERVALS_S = (0.1, 0.5, 1.0)
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
    for (process, title), spent in after.items():
        by_process[title] += (spent - before.get((process, title), 0.0)) / took
    return {"idle_processors": sum(by_process.values()), "by_process": dict(by_process), "seconds": took}


def recovery_s(server: ServerProcess, body: bytes, headers: dict[str, str]) -> float:
    """Seconds from the end of the second segment's replica to the next answer of that segment."""
    (replica,) = (each for each in server.family() if "segment-large" in " ".join(each.cmdline()))
    replica.kill()
    begin = time.monotonic()
    while time.monotonic() - begin < RECOVER_S:
        try:
            server.post(body, headers)
        except (urllib.error.HTTPError, OSError):
            time.sleep(0.1)
        else:
            return time.monotonic() - begin
    raise CascadeError(f"the killed replica is not back after {RECOVER_S:g} s")


def reload_seconds(url: str) -> list[float]:
    """Seconds that reloads take until they are in force at all gateways, which is when they are answered."""
    seconds = []
    for turn in range(RELOADS):
        policy = Policy.from_thresholds(busy_stage.STAGES, np.array([busy_stage.THRESHOLD - 0.01 * turn]))
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        request = urllib.request.Request(f"{url}/policy", policy.to_json().encode(), headers, method="PUT")
        begin = time.monotonic()
        with urllib.request.urlopen(request, timeout=30) as answer:
            told = json.loads(answer.read())
        if answer.status != 200 or told["gateways"] != SERVING["gateways"]:
            raise CascadeError(f"a reload was answered with {answer.status}: {told}")
        seconds.append(time.monotonic() - begin)
    return seconds


def measure_cascade(seconds: float, interval_s: float) -> dict[str, Any]:
    """Of a served cascade."""
    rows = busy_stage.new_rows(10)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_cascade(folder, calibrated_rounds(), "busy_stage", SERVING)
        (folder / "admin-keys.txt").write_text(ADMIN_KEY)
        (folder / "admin-keys.txt").chmod(0o600)
        port = free_port()
        url, probe = f"http://127.0.0.1:{port}", request_body(rows[:5])
        command = [sys.executable, "-m", "cascade", "serve", str(config), "--port", str(port)]
        environment = {INTERVAL: str(interval_s)}
        server = ServerProcess("cascade", command, f"{url}/predict", probe, folder / "log", environment, CASCADE_IS_UP)
        begin = time.monotonic()
        with server:
            seen = {"interval_s": interval_s, "start_s": time.monotonic() - begin} | idle_share(server, seconds)
            seen["reload_s"] = reload_seconds(url)
            seen["recovery_s"] = recovery_s(server, *probe)
    return seen


def measure_bare(seconds: float) -> dict[str, Any]:
    """Of an application that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [sys.executable, "-m", "cascade.benchmarks.experiments.serving.bare_serve", str(port)]
        url = f"http://127.0.0.1:{port}/predict"
        with ServerProcess("bare", command, url, (b"", {}), Path(folder) / "log") as server:
            return idle_share(server, seconds)


def main(
    seconds: Annotated[float, typer.Option(min=1, help="That each server is watched.")] = 60.0,
    out: Annotated[Path, typer.Option()] = RESULTS / "serving/idle_cost.json",
) -> None:
    """Measure what idle servers cost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    say = Console(stderr=True).print
    bare = measure_bare(seconds)
    say(json.dumps({"bare": bare}, sort_keys=True))
    cascades = []
    for interval_s in INTERVALS_S:
        cascades.append(measure_cascade(seconds, interval_s))
        say(json.dumps(cascades[-1], sort_keys=True))
    result = {
        "schema_version": 1,
        "measured": {"serving": SERVING, "segments": 2, "most_processors": MOST_SHARE},
        "machine": describe_machine(),
        "bare": bare,
        "cascades": cascades,
    }
    save_result(out, result)
    typer.echo(json.dumps({"bare": bare["idle_processors"], **_summary(cascades)}, sort_keys=True))


def _summary(cascades: list[dict[str, Any]]) -> dict[str, Any]:
    return {f"interval {seen['interval_s']:g} s": seen["idle_processors"] for seen in cascades}


if __name__ == "__main__":
    run_experiment(main)
