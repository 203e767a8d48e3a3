"""Has the kernel, the engine, the batcher or the executor become slower?

    python -m cascade.benchmarks.experiments.costs.regression_guard

Each is timed by turns with the same work by hand in the same thread, in processor time, so neither the machine nor its
load matters. The middle one of three attempts counts. Run by ``make guard``.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.guarded_code import Guarded, guarded_code

__all__ = ["MOST_SLOWDOWN", "slowdown"]

MOST_SLOWDOWN = 1.25
ATTEMPTS = 3
PAUSE_S = 0.3
ROUND_S = 0.002
"""A piece of code is repeated for about this long in each turn."""


def slowdown(code: Guarded, rounds: int, planted: float = 1.0) -> float:
    """Ratio of the times of the code and its baseline, over the usual ratio; the middle one of three attempts.

    Args:
        code: to time.
        rounds: of each attempt.
        planted: the code is made so many times slower, >= 1, to test the guard.
    """
    found = []
    for _ in range(ATTEMPTS):
        found.append(_ratio(code, rounds, planted) / code.usual)
        time.sleep(PAUSE_S)
    return statistics.median(found)


def _ratio(code: Guarded, rounds: int, planted: float) -> float:
    """The shortest time of the code over that of the baseline: noise only adds to a time."""
    for _ in range(20):
        code.run()
        code.baseline()
    repeats = [max(1, round(ROUND_S / _seconds(each, 3))) for each in (code.run, code.baseline)]
    collects = gc.isenabled()
    gc.disable()
    try:
        turns = [(_seconds(code.run, repeats[0], planted), _seconds(code.baseline, repeats[1])) for _ in range(rounds)]
    finally:
        if collects:
            gc.enable()
    own, by_hand = zip(*turns, strict=True)
    return float(min(own) / min(by_hand))


def _seconds(run: Callable[[], object], repeats: int, planted: float = 1.0) -> float:
    """Processor time of this thread for one run."""
    begin = time.thread_time()
    for _ in range(repeats):
        run()
    took = time.thread_time() - begin
    while planted > 1 and time.thread_time() - begin < planted * took:
        pass
    return (time.thread_time() - begin) / repeats


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each attempt.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Of the whole guard.")] = 1,
    planted: Annotated[
        float, typer.Option(min=1.0, help="Make the code so many times slower, to test the guard.")
    ] = 1.0,
) -> Found:
    """Time the code and its baselines, by turns."""
    _one_thread()
    with guarded_code() as code:
        seen: dict[str, list[float]] = {each.name: [] for each in code}
        for _ in range(repeats):
            for each in code:
                seen[each.name].append(slowdown(each, rounds, planted))
        usual = {each.name: each.usual for each in code}
    return {"slowdown": seen, "usual_ratio": usual, "planted": planted}


def _one_thread() -> None:
    """The processor time of other threads is not seen."""
    import torch

    torch.set_num_threads(1)


def figures(found: Found) -> Figures:
    """The largest of the repeats, each against the same limit."""
    return {f"slowdown of the {name}": Figure(max(seen), MOST_SLOWDOWN) for name, seen in found["slowdown"].items()}


if __name__ == "__main__":
    run_experiment(main, figures)
