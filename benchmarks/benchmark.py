"""A benchmark: independent repeats of a load on a target, written step by step."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cascade.benchmarks.analysis.objectives import client_limits
from cascade.benchmarks.analysis.repeat import Repeat
from cascade.benchmarks.analysis.request_log import RequestLog
from cascade.benchmarks.analysis.result import Result
from cascade.benchmarks.analysis.tally import Live, Tally
from cascade.benchmarks.errors import ResultError, TargetError
from cascade.benchmarks.generator.slices import Slice
from cascade.benchmarks.load import Load
from cascade.benchmarks.workload import Workload
from cascade.files.result_files import write_whole

__all__ = ["Benchmark", "Senders"]

SAVE_EVERY_S = 10.0
LIVE_EVERY_S = 0.5
SEEDS_APART = 1000
"""Between the seeds of two repeats: each process of the generator has one of its own."""


class Senders(Protocol):
    """Processes that send loads."""

    def run(self, load: Load, seed: int, on_slice: Callable[[Slice], None]) -> None:
        """Sends a load once."""


@dataclass(eq=False)
class Benchmark:
    """Repeats of a load.

    Attributes:
        load: the load.
        workload: rows to send.
        result: to which the repeats are added.
        out: file of the result; it is written after every repeat and every ten seconds. ``None`` for none.
        goodput_ms: latency within which an answer counts as goodput; ``None`` for none.
        log: of the requests; open.
        engine: times the engine in this process after each repeat; ``None`` for other targets.
        on_live: called twice a second with the number of the repeat and its last second.
    """

    load: Load
    workload: Workload
    result: Result
    out: Path | None = None
    goodput_ms: float | None = None
    log: RequestLog | None = None
    engine: Callable[[], dict[str, Any]] | None = None
    on_live: Callable[[int, Live], None] = lambda repeat, live: None
    write_problem: OSError | None = field(default=None, init=False)

    def run(self, senders: Senders, repeats: int, seed: int) -> None:
        """Loads a target, repeat by repeat.

        What was measured is in the result, and in its file, however the benchmark ends.

        Args:
            senders: running.
            repeats: at least 1.
            seed: of the first repeat; every repeat has another one.

        Raises:
            TargetError: the target cannot be reached, or stopped to answer.
            ResultError: the result or the log could not be written.
            KeyboardInterrupt: the user ended the benchmark.
        """
        try:
            for index in range(repeats):
                self._repeat(senders, index, seed + SEEDS_APART * index)
        except BaseException as error:
            self.result.ended_by = self.result.ended_by or _reason(error)
            self._save(self.result)
            raise
        self.result.state = "complete"
        self._save(self.result)
        written = [(self.out, self.write_problem)]
        written += [(self.log.path, self.log.problem)] if self.log is not None else []
        lost = [(path, problem) for path, problem in written if problem is not None]
        if lost:
            problems = (f"{path} is not whole: {problem.strerror or problem}" for path, problem in lost)
            raise ResultError("; ".join(problems)) from lost[0][1]

    def _repeat(self, senders: Senders, index: int, seed: int) -> None:
        tally = Tally(self.load, self.workload, seed, self.goodput_ms)
        if self.log is not None:
            self.log.repeat = index + 1
        saved = shown = time.monotonic()

        def on_slice(part: Slice) -> None:
            nonlocal saved, shown
            tally.add(part)
            if self.log is not None:
                self.log.add(part)
            now = time.monotonic()
            if now - shown > LIVE_EVERY_S:
                shown = now
                self.on_live(index + 1, tally.live())
            if self.out is not None and now - saved > SAVE_EVERY_S:
                saved = now
                self._save(self._with(tally))

        try:
            senders.run(self.load, seed, on_slice)
        except BaseException:
            repeat = tally.repeat(partial=True)
            if repeat.requests or repeat.failed:
                self._add(repeat)
            raise
        repeat = tally.repeat()
        if self.engine is not None:
            repeat = repeat.model_copy(update={"engine": self.engine()})
        self._add(repeat)
        self._save(self.result)
        _check_alive(repeat, index + 1)

    def _add(self, repeat: Repeat) -> None:
        self.result.add(repeat.model_copy(update={"invalid": client_limits(repeat)}))

    def _with(self, tally: Tally) -> Result:
        """The result with the repeat that is under way."""
        result = self.result.model_copy(update={"repeats": list(self.result.repeats)})
        result.ended_by = "the benchmark runs, or was killed"
        repeat = tally.repeat(partial=True)
        if repeat.requests or repeat.failed:
            result.add(repeat)
        return result

    def _save(self, result: Result) -> None:
        """Writes the result; a failure is raised at the end, since the measurement goes on."""
        if self.out is None:
            return
        try:
            write_whole(self.out, result.model_dump_json(indent=1) + "\n")
        except OSError as error:
            self.write_problem = error
        else:
            self.write_problem = None


def _check_alive(repeat: Repeat, number: int) -> None:
    """Refuses to go on with a target that does not answer.

    Raises:
        TargetError: no request was answered in the repeat, or none at its end, and others failed.
    """
    seen = "; ".join(f"{count} x {name}: {repeat.messages.get(name, '')}" for name, count in repeat.errors.items())
    if not repeat.requests and not repeat.requests_per_s:
        reason = seen or "; ".join(repeat.messages.values()) or "none was sent"  # errors of the warm-up are not counted
        raise TargetError(f"no request was answered in repeat {number} ({reason})")
    silent = next((k for k, one in enumerate(reversed(repeat.windows)) if one.requests_per_s), 0)
    last = repeat.windows[len(repeat.windows) - silent :]
    if silent * 4 >= len(repeat.windows) and any(one.failed for one in last):
        raise TargetError(f"the target stopped to answer {last[0].start_s:.3g} s into repeat {number} ({seen})")


def _reason(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
