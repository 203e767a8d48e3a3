"""A benchmark: repeats of a load on a target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cascade.benchmarks.in_process_target import InProcessTarget, LastStageTarget
from cascade.benchmarks.load import Load
from cascade.benchmarks.overhead import measure_engine
from cascade.benchmarks.target import Target
from cascade.benchmarks.workload import Workload
from cascade.cascade import Cascade

__all__ = ["Benchmark"]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A load that is repeated.

    Attributes:
        loop: the load.
        workload: rows to send.
        stages: names of the cascade's stages.
        repeats: at least 1.
    """

    loop: Load
    workload: Workload
    stages: tuple[str, ...]
    repeats: int

    async def run(self, target: Target, on_repeat: Callable[[int], None] = lambda done: None) -> list[dict[str, Any]]:
        """Loads a target, repeat by repeat.

        Args:
            target: opened and closed here.
            on_repeat: called with the number of repeats done.

        Returns:
            The numbers of each repeat, plain values.
        """
        repeats = []
        await target.open()
        try:
            for index in range(self.repeats):
                repeats.append((await self.loop.run(target, self.workload, self.stages)).to_dict())
                on_repeat(index + 1)
        finally:
            await target.close()
        return repeats

    async def run_in_process(
        self, cascade: Cascade, biggest_alone: bool = False, on_repeat: Callable[[int], None] = lambda done: None
    ) -> list[dict[str, Any]]:
        """Loads the engine; each repeat also times the stages, and may load the last stage alone.

        Args:
            cascade: to measure.
            biggest_alone: load the last stage alone in every repeat, before or after the cascade by turns.
            on_repeat: called with the number of repeats done.

        Returns:
            The numbers of each repeat, with "engine" (``EngineTimes``) and, if asked for, "biggest_alone" (the
            last stage's numbers) and "against_biggest" ("rows_per_s_ratio", "accuracy_difference").
        """
        whole, last = InProcessTarget(cascade), LastStageTarget(cascade)
        repeats = []
        await whole.open()
        await last.open()
        try:
            for index in range(self.repeats):
                turns: list[Target] = ([whole, last] if index % 2 == 0 else [last, whole]) if biggest_alone else [whole]
                seen = {id(target): await self.loop.run(target, self.workload, self.stages) for target in turns}
                repeat = seen[id(whole)].to_dict()
                if biggest_alone:
                    repeat |= _against_biggest(repeat, seen[id(last)].to_dict())
                repeat["engine"] = measure_engine(cascade, self.workload, self.loop.seconds).to_dict()
                repeats.append(repeat)
                on_repeat(index + 1)
        finally:
            await whole.close()
            await last.close()
        return repeats


def _against_biggest(cascade: dict[str, Any], biggest: dict[str, Any]) -> dict[str, Any]:
    known = cascade["accuracy"] is not None
    return {
        "biggest_alone": biggest,
        "against_biggest": {
            "rows_per_s_ratio": cascade["rows_per_s"] / biggest["rows_per_s"],
            "accuracy_difference": cascade["accuracy"] - biggest["accuracy"] if known else None,
        },
    }
