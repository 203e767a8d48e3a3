"""Scoring on Ray: readers, and a pool of workers for each segment, between which only the deferred rows move."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.bulk.local_run import Scored
from cascade.bulk.part import Damage, Part, PartKey, PartSource
from cascade.bulk.segment_worker import SegmentWorker, read_parts
from cascade.bulk.sources import units_of
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.errors import CascadeError

__all__ = ["RayRun"]

CALLS_AHEAD = 2
"""Calls that a worker has been sent and has not answered: one runs, and the next one waits for it."""
MOST_JOINED = 32
"""Batches of deferred rows that are joined at most: their parts wait, and would be scored again after a stop."""
RESTARTS = 3
"""Of a worker that was killed or crashed; as often its call is sent again."""


@dataclass(eq=False)
class _Open:
    """A part of which rows are pending.

    Attributes:
        part: without its rows.
        answers: of its m rows so far.
        pending: rows without an answer.
    """

    part: Part
    answers: Answers
    pending: int


@dataclass(eq=False)
class _Batch:
    """Deferred rows that wait for a segment.

    Attributes:
        rows: reference of the :class:`Deferred`.
        parts: of the rows, each with the (k,) places of its rows among the part's m.
    """

    rows: Any
    parts: list[tuple[_Open, np.ndarray]]

    def __len__(self) -> int:
        return sum(len(places) for _, places in self.parts)


@dataclass(eq=False)
class _Pool:
    """The workers of a segment.

    Attributes:
        calls: number of calls under way of each worker that is ready.
        waiting: batches for them.
    """

    calls: dict[Any, int] = field(default_factory=dict)
    waiting: deque[_Batch] = field(default_factory=deque)

    @property
    def free(self) -> Any:
        """A worker with the fewest calls; ``None`` if all have enough."""
        worker = min(self.calls, key=lambda each: self.calls[each], default=None)
        return None if worker is None or self.calls[worker] >= CALLS_AHEAD else worker

    @property
    def waiting_rows(self) -> int:
        """Rows that wait."""
        return sum(map(len, self.waiting))


class RayRun:
    """Scores parts on the Ray that this process is connected to.

    At most ``CALLS_AHEAD`` parts for each worker are held at a time, so the memory does not depend on the input.

    Args:
        config: of the cascade, with segments.
        policy: of the cascade.
        folder: of the configuration file.
        workers: number for each segment.
        readers: units that are read at a time.
    """

    def __init__(
        self, config: CascadeConfig, policy: Policy, folder: Path, workers: Sequence[int], readers: int
    ) -> None:
        import ray

        self._config, self._policy = config, policy
        self._readers = readers
        self._pools = [_Pool() for _ in config.segments]
        self._under_way: dict[Any, tuple[int, Any, _Batch | None]] = {}
        """Segment, worker and rows of each call, by the reference of its answers; no rows while a worker loads."""
        policy_json = policy.to_json()
        for index, count in enumerate(workers):
            options = _worker_options(config, index)
            for _ in range(count):
                worker: Any = ray.remote(SegmentWorker).options(**options).remote(config, folder, policy_json, index)
                self._under_way[worker.ready.remote()] = (index, worker, None)

    def scored(
        self, sources: Sequence[PartSource], part_rows: int, done: Collection[PartKey]
    ) -> Iterator[Scored | Damage]:
        """Scores all parts that are not done, in no particular order; as :meth:`LocalRun.scored`.

        Raises:
            CascadeError: rows are refused, a model failed, or a worker ended several times.
        """
        import ray

        finished = frozenset(done)
        read = ray.remote(read_parts).options(
            num_cpus=0, num_returns="streaming", max_retries=RESTARTS, _generator_backpressure_num_objects=2
        )
        units, shared = deque(units_of(sources, part_rows)), ray.put(finished)
        stored = [ray.put(source) for source in sources]
        reading: list[Any] = []
        while units or reading or self._under_way_rows or any(pool.waiting for pool in self._pools):
            while units and len(reading) < self._readers:
                unit = units.popleft()
                reading.append(read.remote(stored[unit.source], unit, part_rows, shared))
            self._send(part_rows, is_read=not units and not reading)
            first = self._pools[0]
            wants_parts = len(first.waiting) < max(1, len(first.calls))
            ready, _ = ray.wait([*self._under_way, *(reading if wants_parts else ())], num_returns=1)
            if ready[0] in self._under_way:
                yield from self._answered(ready[0])
            else:
                yield from self._read(ready[0], reading)

    @property
    def _under_way_rows(self) -> bool:
        return any(batch is not None for _, _, batch in self._under_way.values())

    def _read(self, reader: Any, reading: list[Any]) -> Iterator[Scored | Damage]:
        """Takes the next part of a reader."""
        try:
            item = _value(next(reader))
        except StopIteration:
            reading.remove(reader)
            return
        if isinstance(item, Damage):
            yield item
            return
        rows = next(reader)
        if not item.count:
            yield Scored(item, Answers.empty(0))
            return
        part = _Open(item, Answers.empty(item.count), item.count)
        self._pools[0].waiting.append(_Batch(rows, [(part, np.arange(item.count))]))

    def _send(self, part_rows: int, is_read: bool) -> None:
        """Gives workers what waits for them, the last segment first."""
        for index in reversed(range(len(self._pools))):
            pool = self._pools[index]
            later = self._pools[index + 1] if index + 1 < len(self._pools) else None
            while pool.waiting and (worker := pool.free) is not None:
                if later is not None and later.waiting_rows >= part_rows * (1 + len(later.calls)):
                    break
                is_last = is_read and not self._busy_before(index)
                joined = 1 if index == 0 else _joined(pool.waiting, part_rows, is_last)
                if not joined:
                    break
                self._call(index, worker, [pool.waiting.popleft() for _ in range(joined)])

    def _busy_before(self, index: int) -> bool:
        """Whether more rows can come to a segment."""
        calls = any(at < index and batch is not None for at, _, batch in self._under_way.values())
        return calls or any(pool.waiting for pool in self._pools[:index])

    def _call(self, index: int, worker: Any, batches: list[_Batch]) -> None:
        answers, deferred = worker.run.options(num_returns=2).remote(*(batch.rows for batch in batches))
        joined = _Batch(deferred, [part for batch in batches for part in batch.parts])
        self._under_way[answers] = (index, worker, joined)
        self._pools[index].calls[worker] += 1

    def _answered(self, reference: Any) -> Iterator[Scored]:
        """Takes the answers of a call; yields the parts that are complete."""
        index, worker, batch = self._under_way.pop(reference)
        pool = self._pools[index]
        stages = ", ".join(stage.name for stage in self._config.segments[index])
        where = "" if batch is None else f" while it scored {batch.parts[0][0].part.place}"
        answers = _value(reference, f"the worker of {stages} ended{where}")
        if batch is None:
            pool.calls[worker] = 0
            return
        pool.calls[worker] -= 1
        left: list[tuple[_Open, np.ndarray]] = []
        start = 0
        for part, places in batch.parts:
            found = answers.take(slice(start, start + len(places)))
            start += len(places)
            _put(part.answers, places, found)
            still = places[found.stage == PENDING]
            part.pending -= len(places) - len(still)
            if len(still):
                left.append((part, still))
            if not part.pending:
                yield Scored(part.part, part.answers.with_abstentions(self._policy))
        if left:
            self._pools[index + 1].waiting.append(_Batch(batch.rows, left))


def _put(answers: Answers, places: np.ndarray, found: Answers) -> None:
    """Overwrites the answers of some rows; their costs are sums already."""
    answers.cost[places] = 0.0
    answers.put(places, found)


def _joined(waiting: Sequence[_Batch], most_rows: int, is_last: bool) -> int:
    """How many of the waiting batches run together; 0 to wait for more."""
    rows = 0
    for count, batch in enumerate(waiting, 1):
        rows += len(batch)
        if rows >= most_rows or count == MOST_JOINED:
            return count
    return len(waiting) if is_last else 0


def _value(reference: Any, ended: str = "a reader ended") -> Any:
    """What a call returned.

    Raises:
        CascadeError: it raised one, or its process ended.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CascadeError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise CascadeError(
            f"{ended}, {RESTARTS + 1} times: it was killed, crashed, or had too little memory (a smaller --part-rows "
            f"needs less): {type(error).__name__}"
        ) from error


def _worker_options(config: CascadeConfig, index: int) -> dict[str, Any]:
    """Ray's options of a worker: what the segment's first stage requests, by default one logical processor."""
    given = config.segments[index][0].deployment.get("ray_actor_options") or {}
    return {"num_cpus": 1, **given, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
