"""Faults under load: what becomes of every request while parts of a cascade are killed, hang, raise or are abused.

    python -m cascade.benchmarks.experiments.resilience.faults   # all on one node
    python -m cascade.benchmarks.experiments.resilience.faults --fault kill_segment --fault hang
    python -m cascade.benchmarks.experiments.resilience.faults --fault kill_node   # starts two Ray nodes

Several clients send labelled rows all the time. Sought: no wrong answer; no request without an answer, but for those on
connections that a killed gateway cut; service back by itself; no processes, file descriptors or memory left behind. A
fault is a coroutine in ``FAULTS``. Needs the extra ``bench``.
"""

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
import uvloop
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.labelled_load import LabelledLoad
from cascade.benchmarks.harness.lean_http import LeanHttpTarget, request_bytes
from cascade.benchmarks.harness.memory_watch import server_memory
from cascade.benchmarks.harness.ray_nodes import RayNodes
from cascade.benchmarks.harness.server_process import ServerProcess, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.stages.faulty_stage import HANG, RAISE, marked
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, write_cascade
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.errors import CascadeError
from cascade.machine.description import describe_machine

STAGE_S = (2e-4, 2e-3)
"""Slow enough for a client on the same machine to send three times what the cascade can do."""
SERVING: dict[str, Any] = {"gateways": 2, "request_timeout_s": 3.0, "max_queue_rows": 256}
CLIENTS = 16
BEFORE_S = 3.0
SETTLE_S = 5.0
START_TIMEOUT_S = 90.0
LORIS_CONNECTIONS = 200
MALFORMED = 10_000
OVERLOAD = 3.0


@dataclass
class Scene:
    """What a fault acts on.

    Attributes:
        server: that runs.
        port: of the gateways.
        rows: labelled ones.
        scale: of long faults; below 1 for a quick look.
        nodes: Ray's, where there are two.
        seen: what the fault itself saw, for the result.
    """

    server: ServerProcess
    port: int
    rows: np.ndarray
    scale: float = 1.0
    nodes: RayNodes | None = None
    seen: dict[str, Any] = field(default_factory=dict)

    def processes(self) -> list[psutil.Process]:
        """Of the server, wherever they were started."""
        return [*self.server.family(), *(self.nodes.family() if self.nodes else [])]

    def replicas(self, deployment: str = "") -> list[psutil.Process]:
        """Replicas whose deployment's name begins so."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if f"ServeReplica:synthetic:{deployment}" in " ".join(process.cmdline()[:1]):
                    found.append(process)
        return found

    def wait_for_replicas(self, count: int) -> None:
        """The first gateway answers before the last replica is there.

        Raises:
            CascadeError: they do not come.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(self.replicas()) < count:
            if time.monotonic() > deadline:
                raise CascadeError(f"{len(self.replicas())} of {count} replicas run after {START_TIMEOUT_S:g} s")
            time.sleep(0.5)

    def kill(self, deployment: str) -> None:
        """Sends SIGKILL to one replica of a deployment."""
        self.replicas(deployment)[0].kill()

    def resources(self) -> dict[str, int]:
        """Processes, open file descriptors and resident bytes."""
        count = descriptors = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                descriptors += process.num_fds()
                count += 1
        return {"processes": count, "descriptors": descriptors, "memory_bytes": server_memory(self.processes())}


async def kill_segment(scene: Scene) -> None:
    """The only replica of the last stage dies."""
    scene.kill("segment")
    await asyncio.sleep(20)


async def kill_gateway(scene: Scene) -> None:
    """One of two gateways dies, and its connections with it."""
    scene.kill("gateway")
    await asyncio.sleep(20)


async def kill_node(scene: Scene) -> None:
    """A whole node dies, with one of two replicas of the last stage on it."""
    if scene.nodes is None:
        raise CascadeError("two nodes are needed")
    killed = [name for name in scene.nodes.kill_second() if "ServeReplica" in name]
    if not killed:
        raise CascadeError("no replica ran on the second node")
    scene.seen["replicas_killed"] = len(killed)
    await asyncio.sleep(40)


async def hang(scene: Scene) -> None:
    """The last stage stands still for six seconds, twice as long as a request may take."""
    await _send_marked(scene, HANG, 1)
    await asyncio.sleep(8)


async def raise_error(scene: Scene) -> None:
    """The last stage raises on some rows, again and again; their requests fail, the others must not."""
    for _ in range(20):
        await _send_marked(scene, RAISE, 2)


async def disconnect(scene: Scene) -> None:
    """Clients that go away in the middle of a request, or before its answer."""
    whole = request_bytes(scene.rows[:8])
    for turn in range(int(500 * scene.scale)):
        _, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(whole[: len(whole) // 2] if turn % 2 else whole)
        await asyncio.sleep(0.002)
        writer.transport.abort()
    await asyncio.sleep(2)


async def slow_loris(scene: Scene) -> None:
    """Many connections that send a header byte by byte and never end it."""
    opened = [await asyncio.open_connection("127.0.0.1", scene.port) for _ in range(LORIS_CONNECTIONS)]
    for _, writer in opened:
        writer.write(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    for _ in range(int(20 * scene.scale)):
        for _, writer in opened:
            if not writer.is_closing():
                writer.write(b"a")
        await asyncio.sleep(1)
    scene.seen["cut_by_server"] = sum(await asyncio.gather(*(_ended(reader) for reader, _ in opened)))
    for _, writer in opened:
        writer.transport.abort()


async def malformed(scene: Scene) -> None:
    """Requests that are not what they claim; every one must get a 4xx or have its connection closed."""
    statuses: Counter[str] = Counter()
    random = np.random.default_rng(0)
    count = int(MALFORMED * scene.scale)
    gate = asyncio.Semaphore(16)

    async def send(request: bytes) -> None:
        async with gate:
            statuses[await _status(scene.port, request)] += 1

    await asyncio.gather(*(send(malformed_request(random)) for _ in range(count)))
    scene.seen |= {"malformed": count, "statuses": dict(statuses)}


def malformed_request(random: np.random.Generator) -> bytes:
    """One of several kinds of nonsense, each of random bytes and lengths."""
    noise = random.bytes(int(random.integers(1, 400)))
    kinds = ("application/octet-stream", "application/x-npy", "application/json", "text/plain", "image/png")
    head = f"Host: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(noise)}\r\n"
    kind = int(random.integers(0, 8))
    if kind < len(kinds):
        return f"POST /predict HTTP/1.1\r\n{head}Content-Type: {kinds[kind]}\r\n\r\n".encode() + noise
    if kind == 5:
        shapes = ("1,1", "-1,3", "99999999999,3,32,32", "1,3,32,32", "a")
        shape = shapes[int(random.integers(0, len(shapes)))]
        raw = "Content-Type: application/octet-stream\r\nX-Dtype: float64\r\n"
        return f"POST /predict HTTP/1.1\r\n{head}{raw}X-Shape: {shape}\r\n\r\n".encode() + noise
    if kind == 6:
        return f"DELETE /{'x' * int(random.integers(1, 3000))} HTTP/1.1\r\n{head}\r\n".encode() + noise
    return noise + b"\r\n\r\n"


async def overload(scene: Scene) -> None:
    """Three times the capacity for a minute, beside the labelled load."""
    stages = busy_stage.STAGES
    workload = Workload.from_rows(scene.rows, None, 1)
    target = LeanHttpTarget(f"http://127.0.0.1:{scene.port}", stages, connections=512)
    try:
        capacity = (await ClosedLoop(64, 5 * scene.scale, 1).run(target, workload, stages)).requests_per_s
        flood = OpenLoop(OVERLOAD * capacity, 60 * scene.scale, most_under_way=5000)
        seen = await flood.run(target, workload, stages)
    finally:
        await target.close()
    scene.seen |= {"capacity_per_s": capacity, "rate_per_s": OVERLOAD * capacity, "flood": seen.to_dict()}


FAULTS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "kill_segment": kill_segment,
    "kill_gateway": kill_gateway,
    "hang": hang,
    "raise_error": raise_error,
    "disconnect": disconnect,
    "slow_loris": slow_loris,
    "malformed": malformed,
    "overload": overload,
    "kill_node": kill_node,
}
TWO_NODES = {"kill_node"}
CUT_CONNECTIONS = {"kill_gateway", "kill_node"}
"""Faults that end gateways, and so the connections of clients."""
HARMLESS = {"raise_error", "disconnect", "slow_loris", "malformed"}
"""Faults of single requests or clients, which must not touch the requests of others."""


async def _send_marked(scene: Scene, mark: bytes, rows: int) -> None:
    """A request that makes the last stage fail; noted apart from the load."""
    load = LabelledLoad("127.0.0.1", scene.port, scene.rows)
    connection = await load.ask(marked(scene.rows[:rows], mark))
    if connection is not None:
        connection.close()
    seen = scene.seen.setdefault("marked", Counter())
    seen.update(load.account.errors)
    seen.update(load.account.unanswered)
    seen["answered"] += load.account.right + load.account.degraded


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server has closed the connection."""
    try:
        await asyncio.wait_for(reader.read(), 0.5)
    except asyncio.TimeoutError:
        return False
    except OSError:
        return True
    return True


async def _status(port: int, request: bytes) -> str:
    """The status of the answer, or how the connection ended."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        line = await asyncio.wait_for(reader.readline(), 10)
        return line[9:12].decode("latin-1") if line else "closed"
    except asyncio.TimeoutError:
        return "timeout"
    except OSError:
        return "closed"
    finally:
        if writer is not None:
            writer.transport.abort()


async def run_fault(scene: Scene, fault: Callable[[Scene], Awaitable[None]]) -> dict[str, Any]:
    """Loads, injects, goes on loading until the fault is over and a little longer."""
    before = scene.resources()
    load = LabelledLoad("127.0.0.1", scene.port, scene.rows)
    until = asyncio.Event()
    clients = asyncio.create_task(load.run(CLIENTS, until))
    await asyncio.sleep(BEFORE_S)
    early = len(load.account.failed_at)
    begin = time.monotonic()
    await fault(scene)
    await asyncio.sleep(SETTLE_S)
    until.set()
    await clients
    await asyncio.sleep(SETTLE_S)
    after = scene.resources()
    return load.account.to_dict() | {
        "failed_before": early,
        "recovered_s": load.account.recovered_s(begin),
        "leaked": {name: after[name] - before[name] for name in before},
        "before": before,
        "fault": {name: dict(value) if isinstance(value, Counter) else value for name, value in scene.seen.items()},
    }


def verdict(name: str, seen: dict[str, Any]) -> dict[str, bool]:
    """What was sought."""
    cut = seen["unanswered"].get("cut", 0) if name in CUT_CONNECTIONS else 0
    flood = seen["fault"].get("flood", {}).get("errors", {})
    lost = sum(seen["unanswered"].values()) + flood.get("timeout", 0) + flood.get("connection", 0)
    return {
        "no_wrong_answer": seen["wrong"] == 0,
        "all_answered": lost == cut,
        "errors_are_clear": not seen["unclear"],
        "recovered": seen["recovered_s"] is not None,
        "others_unharmed": name not in HARMLESS or seen["right"] == seen["sent"],
    }


def main(
    fault: Annotated[list[str], typer.Option(help="Which; may be repeated [default: all on one node].")] = [],  # noqa: B006
    scale: Annotated[float, typer.Option(min=0.01, max=1, help="Of long faults; below 1 for a quick look.")] = 1.0,
    out: Annotated[Path, typer.Option()] = RESULTS / "resilience/faults.json",
) -> None:
    """Inject faults one after the other into a cascade under load."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    unknown = [name for name in fault if name not in FAULTS]
    if unknown:
        raise typer.BadParameter(f"there is no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    chosen = fault or [name for name in FAULTS if name not in TWO_NODES]
    say = Console(stderr=True).print
    rounds = calibrated_rounds(STAGE_S)
    results: dict[str, Any] = {}
    for two_nodes in (False, True):
        names = [name for name in chosen if (name in TWO_NODES) == two_nodes]
        if not names:
            continue
        with contextlib.ExitStack() as running:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            nodes = running.enter_context(RayNodes(folder)) if two_nodes else None
            last = {"num_replicas": 2, "max_replicas_per_node": 1} if two_nodes else {}
            config = write_cascade(folder, rounds, "faulty_stage", SERVING, {"large": last})
            port = free_port()
            rows = busy_stage.new_rows(1000)
            command = [sys.executable, "-m", "cascade", "serve", str(config), "--port", str(port)]
            url = f"http://127.0.0.1:{port}/predict"
            joined = nodes.environment if nodes else None
            server = ServerProcess("gateway", command, url, request_body(rows[:1]), folder / "log", joined)
            running.enter_context(server)
            for name in names:
                scene = Scene(server, port, rows, scale, nodes)
                scene.wait_for_replicas(SERVING["gateways"] + last.get("num_replicas", 1))
                seen = uvloop.run(run_fault(scene, FAULTS[name]))
                results[name] = seen | {"verdict": verdict(name, seen)}
                say(f"{name}: {json.dumps({key: seen[key] for key in seen if key != 'before'}, sort_keys=True)}")
    result = {
        "schema_version": 1,
        "measured": {"stage_s": STAGE_S, "serving": SERVING, "clients": CLIENTS, "scale": scale},
        "machine": describe_machine(),
        "faults": results,
    }
    save_result(out, result)
    typer.echo(json.dumps({name: seen["verdict"] for name, seen in results.items()}, sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
