"""The processes of a load generator: each has lanes of its own, and sends its part of the load."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from cascade.benchmarks.clients.lane import Lane, OpenLanes
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.generator.generator import Generator, Plan
from cascade.benchmarks.generator.slices import Slice
from cascade.benchmarks.load import Load
from cascade.benchmarks.running import Running
from cascade.benchmarks.workload import DifficultyMix, Picker, Workload

__all__ = ["Sender", "SenderProcesses", "ThisProcess", "default_processes", "plan_of", "probe"]

START_TIMEOUT_S = 120.0
HEAD_START_S = 0.05
STOP_TIMEOUT_S = 2.0
OnSlice = Callable[[Slice], None]


@dataclass(frozen=True, eq=False)
class Sender:
    """What a process needs to send requests.

    Attributes:
        open_lanes: of the target.
        workload: what is sent.
        mix: of hard and easy rows.
        timeout_s: a request without an answer by then counts as failed.
    """

    open_lanes: OpenLanes
    workload: Workload
    mix: DifficultyMix | None = None
    timeout_s: float = 10.0


def default_processes(connections: int) -> int:
    """One process per four processors that this one may use, and no more than connections."""
    return max(1, min(len(_processors()) // 4, connections))


def plan_of(load: Load, timeout_s: float, seed: int, part: int = 0, parts: int = 1) -> Plan:
    """What one of several processes sends of a load: every ``parts``-th request.

    Args:
        load: of all processes together.
        timeout_s: of a request.
        seed: of random arrivals.
        part: of this process, from 0 on.
        parts: number of processes.
    """
    due, sizes, most = load.due(seed), load.sizes(), load.max_requests
    mine = slice(part, None, parts)
    return Plan(
        seconds=load.warmup_seconds + load.seconds,
        warmup_seconds=load.warmup_seconds,
        timeout_s=timeout_s,
        due=None if due is None else due[mine],
        sizes=None if sizes is None else sizes[mine],
        order=None if due is None else np.arange(len(due))[mine],
        deadlines=load.deadlines(),
        max_requests=None if most is None else len(range(most)[mine]),
        part=part,
    )


class ThisProcess(Running):
    """Sends a load from this process; of targets that are in it.

    Args:
        sender: what to send.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    processes = 1

    def _start(self, undo: ExitStack) -> None:
        """Nothing is started: this process runs."""

    def run(self, load: Load, seed: int, on_slice: OnSlice) -> None:
        """Sends a load once; see :meth:`SenderProcesses.run`."""
        plan = plan_of(load, self._sender.timeout_s, seed)
        _loop(_send(self._sender, plan, load.connections, seed, on_slice))


async def _send(sender: Sender, plan: Plan, connections: int, seed: int, on_slice: OnSlice) -> None:
    lanes = await sender.open_lanes(connections)
    try:
        picker = Picker(sender.workload, sender.mix, seed)
        # The target may be in this process, and its time is not the client's.
        generator = Generator(plan, lanes, sender.workload, picker, on_slice, clock=time.thread_time)
        gc.collect()  # before the beginning, since it may take half a second
        await generator.run(time.monotonic() + HEAD_START_S)
    finally:
        for lane in lanes:
            await lane.close()


class SenderProcesses(Running):
    """Sends loads from processes of their own, which are kept from load to load.

    Args:
        sender: what to send.
        processes: how many.
        processors: numbers of the processors to pin them to, in turn; ``None`` to pin each to one of its own where the
            machine has more than two for each process, and not to pin them otherwise.
    """

    def __init__(self, sender: Sender, processes: int, processors: Sequence[int] | None = None) -> None:
        self._sender, self.processes = sender, processes
        usable = _processors()
        if processors is None and len(usable) > 2 * processes:
            processors = usable[-processes:]
        self._pipes: list[Connection] = []
        self._running: list[Any] = []
        self._processors = [processors[i % len(processors)] if processors else None for i in range(processes)]

    def _start(self, undo: ExitStack) -> None:
        undo.callback(self._stop)
        context = multiprocessing.get_context("spawn")
        for processor in self._processors:
            pipe, other = context.Pipe()
            process = context.Process(target=_main, args=(other, processor), daemon=True)
            process.start()
            other.close()
            self._pipes.append(pipe)
            self._running.append(process)
        for pipe in self._pipes:
            pipe.send(self._sender)

    def run(self, load: Load, seed: int, on_slice: OnSlice) -> None:
        """Sends a load once.

        Args:
            load: to send.
            seed: of arrivals and order.
            on_slice: called with every slice, several times a second.

        Raises:
            TargetError: the target cannot be reached, or a process of the generator ended.
            KeyboardInterrupt: after the slices until then were handed over.
        """
        share = [len(range(load.connections)[part :: self.processes]) for part in range(self.processes)]
        used = [pipe for pipe, count in zip(self._pipes, share) if count]
        for part, pipe in enumerate(used):
            plan = plan_of(load, self._sender.timeout_s, seed, part, len(used))
            pipe.send((plan, share[part], seed + part))
        self._receive_from(used, START_TIMEOUT_S, "did not open its connections")
        begin = time.monotonic() + HEAD_START_S
        for pipe in used:
            pipe.send(begin)
        limit_s = load.warmup_seconds + load.seconds + self._sender.timeout_s + 5.0
        try:
            self._drain(used, time.monotonic() + limit_s, on_slice)
        except KeyboardInterrupt:
            for pipe in used:
                pipe.send("stop")
            self._drain(used, time.monotonic() + STOP_TIMEOUT_S, on_slice)
            raise

    def _receive_from(self, pipes: Sequence[Connection], timeout_s: float, problem: str) -> None:
        """Waits for a word from each process; an error is raised here."""
        for pipe in pipes:
            if not pipe.poll(timeout_s):
                raise TargetError(f"a process of the load generator {problem} within {timeout_s:g} s")
            _received(pipe)

    def _drain(self, pipes: Sequence[Connection], deadline: float, on_slice: OnSlice) -> None:
        open_pipes = list(pipes)
        while open_pipes and time.monotonic() < deadline:
            for pipe in wait(open_pipes, timeout=1.0):
                found = _received(pipe)  # type: ignore[arg-type]
                on_slice(found)
                if found.ends:
                    open_pipes.remove(pipe)  # type: ignore[arg-type]

    def _stop(self) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in self._running:
            process.join(STOP_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()


def _received(pipe: Connection) -> Any:
    try:
        found = pipe.recv()
    except (EOFError, OSError) as error:
        raise TargetError("a process of the load generator ended before its load did") from error
    if isinstance(found, Exception):
        raise found
    return found


def _main(pipe: Connection, processor: int | None) -> None:
    """A process of the generator."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the load in order
    if processor is not None:
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setaffinity(0, {processor})
    with contextlib.suppress(EOFError, OSError):
        sender = pipe.recv()
        _loop(_serve(pipe, sender))


def _loop(main: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(pipe: Connection, sender: Sender) -> None:
    """Sends loads until there are no more."""
    loop = asyncio.get_running_loop()
    lanes: list[Lane] = []
    while (job := await loop.run_in_executor(None, pipe.recv)) is not None:
        plan, count, seed = job
        try:
            if len(lanes) < count:
                lanes += await sender.open_lanes(count - len(lanes))
        except Exception as error:
            pipe.send(error)
            continue
        gc.collect()
        gc.freeze()
        pipe.send("ready")
        begin = await loop.run_in_executor(None, pipe.recv)
        await _send_part(pipe, sender, plan, lanes[:count], seed, begin)
    for lane in lanes:
        await lane.close()


async def _send_part(
    pipe: Connection, sender: Sender, plan: Plan, lanes: Sequence[Lane], seed: int, begin: float
) -> None:
    real_time = _schedule_in_real_time(plan.due is not None)

    def emit(part: Slice) -> None:
        part.real_time = real_time
        pipe.send(part)
        if pipe.poll():  # the word to stop; as a reader of the loop, the pipe would no longer block when it sends
            generator.stop()

    generator = Generator(plan, lanes, sender.workload, Picker(sender.workload, sender.mix, seed), emit)
    await generator.run(begin)
    if pipe.poll():
        pipe.recv()


def _schedule_in_real_time(wanted: bool) -> bool:
    """Lets requests of an open loop leave on time where the server uses all processors; whether that is permitted."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK if wanted else os.SCHED_OTHER
    try:
        os.sched_setscheduler(0, policy, os.sched_param(1 if wanted else 0))
    except OSError:  # without CAP_SYS_NICE
        return False
    return wanted


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


async def probe(open_lanes: OpenLanes, timeout_s: float, requests: Sequence[int] = (0,)) -> list[tuple[int, Any]]:
    """Sends requests one after the other; (status, columns or message) of each.

    Raises:
        TargetError: the target cannot be reached, or does not answer in time.
    """
    loop = asyncio.get_running_loop()
    (lane,) = await open_lanes(1)
    found = []
    try:
        for request in requests:
            ended: asyncio.Future[tuple[int, Any]] = loop.create_future()
            lane.send(request, partial(_resolve, ended))
            found.append(await asyncio.wait_for(ended, timeout_s))
    except asyncio.TimeoutError as error:
        raise TargetError(f"the target does not answer a request within {timeout_s:g} s") from error
    finally:
        await lane.close()
    return found


def _resolve(ended: "asyncio.Future[tuple[int, Any]]", status: int, content: Any) -> None:
    if not ended.done():
        ended.set_result((status, content))
