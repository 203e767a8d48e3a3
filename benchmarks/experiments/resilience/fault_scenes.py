"""Faults of a served cascade: parts are killed, hang, raise or are abused."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from cascade.benchmarks.clients.http_bodies import request_bytes
from cascade.benchmarks.harness.clients.labelled_load import LabelledLoad
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.servers.memory_watch import server_memory
from cascade.benchmarks.harness.servers.ray_nodes import RayNodes
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.stages.faulty_stage import HANG, RAISE, marked
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.errors import CascadeError

__all__ = ["CUT_CONNECTIONS", "FAULTS", "HARMLESS", "TWO_NODES", "Fault", "Scene", "malformed_request"]

START_TIMEOUT_S = 90.0
LORIS_CONNECTIONS = 200
MALFORMED = 10_000
OVERLOAD = 3.0
FLOOD_CONNECTIONS = 512


@dataclass
class Scene:
    """What a fault acts on.

    Attributes:
        server: that is under load.
            rows: labelled ones.
        scale: of long faults; below 1 for a quick run.
        nodes: Ray's, where there are two.
        seen: what the fault itself has found, for the result.
    """

    server: ServerProcess
    rows: np.ndarray
    scale: float = 1.0
    nodes: RayNodes | None = None
    seen: dict[str, Any] = field(default_factory=dict)

    def processes(self) -> list[psutil.Process]:
        """All processes of the server, on every node."""
        return [*self.server.family(), *(self.nodes.family() if self.nodes else [])]

    def replicas(self, deployment: str = "") -> list[psutil.Process]:
        """Replicas whose deployment's name begins with a text."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if f"ServeReplica:synthetic:{deployment}" in " ".join(process.cmdline()[:1]):
                    found.append(process)
        return found

    def wait_for_replicas(self, count: int) -> None:
        """Waits until all replicas run; the first gateway answers before that.

        Raises:
            CascadeError: they do not start in time.
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
    """Kills the only replica of the last stage."""
    scene.kill("segment")
    await asyncio.sleep(20)


async def kill_gateway(scene: Scene) -> None:
    """Kills one of two gateways, and its connections with it."""
    scene.kill("gateway")
    await asyncio.sleep(20)


async def kill_node(scene: Scene) -> None:
    """Kills a whole node, with one of two replicas of the last stage on it."""
    if scene.nodes is None:
        raise CascadeError("two nodes are needed")
    killed = [name for name in scene.nodes.kill_second() if "ServeReplica" in name]
    if not killed:
        raise CascadeError("no replica ran on the second node")
    scene.seen["replicas_killed"] = len(killed)
    await asyncio.sleep(40)


async def hang(scene: Scene) -> None:
    """The last stage hangs for six seconds, twice as long as a request may take."""
    await _send_marked(scene, HANG, 1)
    await asyncio.sleep(8)


async def raise_error(scene: Scene) -> None:
    """The last stage raises on some rows, several times; their requests fail, the others must not."""
    for _ in range(20):
        await _send_marked(scene, RAISE, 2)


async def disconnect(scene: Scene) -> None:
    """Clients that close the connection in the middle of a request, or before its answer."""
    whole = request_bytes(scene.rows[:8])
    for turn in range(int(500 * scene.scale)):
        _, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
        writer.write(whole[: len(whole) // 2] if turn % 2 else whole)
        await asyncio.sleep(0.002)
        writer.transport.abort()
    await asyncio.sleep(2)


async def slow_loris(scene: Scene) -> None:
    """Many connections that send a header byte by byte and never end it."""
    opened = [await asyncio.open_connection("127.0.0.1", scene.server.port) for _ in range(LORIS_CONNECTIONS)]
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
    """Malformed requests; each must get a 4xx, or its connection must be closed."""
    statuses: Counter[str] = Counter()
    random = np.random.default_rng(0)
    count = int(MALFORMED * scene.scale)
    gate = asyncio.Semaphore(16)

    async def send(request: bytes) -> None:
        async with gate:
            statuses[await _status(scene.server.port, request)] += 1

    await asyncio.gather(*(send(malformed_request(random)) for _ in range(count)))
    scene.seen |= {"malformed": count, "statuses": dict(statuses)}


def malformed_request(random: np.random.Generator) -> bytes:
    """A request of one of several kinds, with random bytes and lengths."""
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
    address = f"http://127.0.0.1:{scene.server.port}"
    closed = ClosedLoop(64, 5 * scene.scale, 1)
    capacity = (await asyncio.to_thread(run_load, closed, address, workload, stages, 64))["requests_per_s"]
    flood = OpenLoop(OVERLOAD * capacity, 60 * scene.scale)
    seen = await asyncio.to_thread(run_load, flood, address, workload, stages, FLOOD_CONNECTIONS)
    scene.seen |= {"capacity_per_s": capacity, "rate_per_s": OVERLOAD * capacity, "flood": seen}


Fault = Callable[[Scene], Awaitable[None]]
FAULTS: dict[str, Fault] = {
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
"""Faults of single requests or clients, which must not affect the requests of others."""


async def _send_marked(scene: Scene, mark: bytes, rows: int) -> None:
    """A request that makes the last stage fail; counted apart from the load."""
    load = LabelledLoad("127.0.0.1", scene.server.port, scene.rows)
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
