"""The CIFAR-10 cascade and its last stage alone, measured as served: stage times, throughput, latency.

For ``simulated_served.py``.
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import yaml

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.clients.lean_load import SEED, run_load
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.benchmarks.harness.servers.server_process import ServerProcess, cascade_server, free_port
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Picker, Workload
from cascade.calibration import Policy
from cascade.cascade import load_stages
from cascade.cli.shared.console import console
from cascade.collection.measure import use_threads
from cascade.config import CascadeConfig
from cascade.errors import CascadeError
from cascade.planning.simulation.outcome import WARM_UP
from cascade.stage import Stage

__all__ = [
    "CONFIG",
    "CONNECTIONS",
    "OPEN_CONNECTIONS",
    "Others",
    "measured",
    "open_load",
    "sent_rows",
    "serving",
    "slowdown",
]

CONFIG = ROOT / "examples" / "cifar10" / "static.yaml"
CONNECTIONS, OPEN_CONNECTIONS = 64, 256
CLOSED_S, CALLS_S, WARM_S = 8.0, 0.8, 0.1
TURNS, LEAST_CALLS = 3, 4
SIZES = (1, 2, 4, 8, 16, 32, 64)
LONGEST_MS = 250.0  # no larger requests after one that takes as long
PAUSED_SHARE = 0.5  # of the time in which a gateway works, when its calls are timed after pauses


def open_load(rate_per_s: float, seconds: float) -> OpenLoop:
    """An open loop whose first tenth is a warm-up, as that of a simulation."""
    return OpenLoop(rate_per_s, (1 - WARM_UP) * seconds, WARM_UP * seconds)


def measured(
    config: CascadeConfig, policy: Policy, rows: np.ndarray, gateways: int, seconds: float, share: float, fewer: float
) -> Iterator[dict[str, Any]]:
    """The measurements with a number of gateways, so far.

    Args:
        config: of the cascade.
        policy: of the example.
        rows: to send.
        gateways: of the cascade, and then of its last stage alone.
        seconds: of each open loop.
        share: of the throughput, the rate in the open loop.
        fewer: the last stage alone also gets this part of the cascade's rate ("fewer_replicas").
    """
    (last,) = load_stages(config.stages[-1:], CONFIG.parent, config.classes)
    use_threads(1)
    found: dict[str, Any] = {
        "gateways": gateways,
        "slowdown": slowdown(last, rows) if gateways > 1 else 1.0,
        "calls": [served_calls(name, rows) for name in policy.stages],
        "served": [],
    }
    del last
    rate = None
    for names in (policy.stages, policy.stages[-1:]):
        one = policy if names == policy.stages else _alone(names[0])
        with serving(one, gateways, rows) as (server, workload):
            seen = _loads(server, workload, one.stages, seconds, share, rate)
        rate = seen["open_loop"]["rate_per_s"] / fewer
        found["served"].append({"stages": list(names), "gateways": gateways, **seen})
        yield found


def served_calls(stage: str, rows: np.ndarray) -> dict[str, Any]:
    """Times of the calls of one stage in a gateway, from the client, by the number of rows.

    Returns:
        "rows"; "ms" of requests one after the other, and "paused_ms" of requests at a constant rate, between which the
        gateway pauses.
    """
    with serving(_alone(stage), 1, rows) as (server, _):

        def median_ms(load: ClosedLoop | OpenLoop, size: int) -> float:
            workload = Workload.from_rows(rows, None, size)
            return float(run_load(load, server.address, workload, (stage,), 1)["latency_ms"]["p50"])

        in_turn: dict[int, list[float]] = {}
        paused: dict[int, list[float]] = {}
        for _ in range(TURNS):  # since a machine's speed changes within seconds
            for size in SIZES:
                in_turn.setdefault(size, []).append(median_ms(ClosedLoop(1, CALLS_S, WARM_S), size))
                every_s = in_turn[size][0] / 1e3 / PAUSED_SHARE
                seconds = max(CALLS_S, LEAST_CALLS * every_s)
                paused.setdefault(size, []).append(median_ms(OpenLoop(1 / every_s, seconds, arrivals="constant"), size))
                if in_turn[size][0] > LONGEST_MS:
                    break
    ms, paused_ms = ([float(np.median(own)) for own in times.values()] for times in (in_turn, paused))
    return {"stage": stage, "rows": list(in_turn), "ms": ms, "paused_ms": paused_ms}


def _alone(stage: str) -> Policy:
    return Policy.from_thresholds((stage,), np.zeros(0))


def sent_rows(total: int, count: int) -> np.ndarray:
    """(count,) int, the indices of the rows that a load sends, in its order; ``total`` rows are in the workload."""
    workload = Workload.from_rows(np.arange(total), np.arange(total), 1)
    picker = Picker(workload, None, SEED)
    return np.concatenate([workload.batches[picker.next(0.0)].rows for _ in range(count)])


def slowdown(stage: Stage, rows: np.ndarray, batch: int = 4, calls: int = 30) -> float:
    """How many times longer a call takes while a second process runs the same: processors share memory and caches.

    In time of the processor, so that the time in which others have it is not counted: the simulation shares it out.
    """

    def median_ms() -> float:
        times = []
        for place in range(calls):
            begin = time.process_time()
            stage.predict(rows[place : place + batch])
            times.append(1e3 * (time.process_time() - begin))
        return float(np.median(times))

    alone = median_ms()
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    ready = context.Event()
    other = context.Process(target=_run_for_ever, args=(stage.name, rows[:batch], ready), daemon=True)
    other.start()
    try:
        if not ready.wait(60):
            raise CascadeError("the second process did not start")
        return max(1.0, median_ms() / alone)
    finally:
        other.kill()
        other.join()


def _run_for_ever(name: str, rows: np.ndarray, ready: Any) -> None:
    use_threads(1)
    config = CascadeConfig.load(CONFIG)
    (stage,) = load_stages([each for each in config.stages if each.name == name], CONFIG.parent, config.classes)
    use_threads(1)
    while True:
        stage.predict(rows)
        ready.set()


@contextmanager
def serving(policy: Policy, gateways: int, rows: np.ndarray) -> Iterator[tuple[ServerProcess, Workload]]:
    """The stages of a policy in gateways of one segment, and the rows to send."""
    workload = Workload.from_rows(rows, None, 1)
    values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    values["stages"] = [stage for stage in values["stages"] if stage["name"] in policy.stages]
    values["serving"] = {"segments": [list(policy.stages)], "gateways": gateways}
    copy = CONFIG.with_name(f".{CONFIG.stem}-{free_port()}.yaml")
    policy_file = copy.with_suffix(".json")
    try:
        copy.write_text(yaml.safe_dump(values), encoding="utf-8")
        policy.save(policy_file)
        console.print(f"starting {gateways} gateways of {', '.join(policy.stages)}")
        probe = request_body(workload.batches[0].rows)
        with cascade_server(copy, probe, policy=policy_file) as server:
            yield server, workload
    finally:
        copy.unlink(missing_ok=True)
        policy_file.unlink(missing_ok=True)


def _loads(
    server: ServerProcess,
    workload: Workload,
    stages: Sequence[str],
    seconds: float,
    share: float,
    rate: float | None,
) -> dict[str, Any]:
    def loaded(load: ClosedLoop | OpenLoop, connections: int) -> dict[str, Any]:
        others = Others(server)
        seen = run_load(load, server.address, workload, stages, connections, meanwhile=others)
        kept = ("requests_per_s", "requests", "latency_ms", "errors", "send_lag", "client")
        return {key: seen[key] for key in kept} | {
            "others": others.processors,
            "gateway_processor_s": others.gateway_s,
        }

    def opened(rate: float) -> dict[str, Any]:
        return {"rate_per_s": rate, "seconds": seconds} | loaded(open_load(rate, seconds), OPEN_CONNECTIONS)

    closed = loaded(ClosedLoop(CONNECTIONS, CLOSED_S, 1.0), CONNECTIONS)
    found = {"closed_loop": closed, "open_loop": opened(share * closed["requests_per_s"])}
    return found if rate is None else found | {"fewer_replicas": opened(rate)}


class Others:
    """Processors that all but the gateways use meanwhile: client, Ray, and what else runs."""

    def __init__(self, server: ServerProcess) -> None:
        self._gateways = [each for each in server.family() if "gateway" in " ".join(each.cmdline()).lower()]
        self.processors, self.gateway_s = 0.0, list[float]()

    def __enter__(self) -> "Others":
        self._begin, self._busy, self._own = time.perf_counter(), _busy_s(), [_own_s(each) for each in self._gateways]
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._begin
        self.gateway_s = [_own_s(each) - own for each, own in zip(self._gateways, self._own, strict=True)]
        self.processors = max(0.0, (_busy_s() - self._busy - sum(self.gateway_s)) / wall)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
