"""Has the kernel, the engine, the batcher or the executor become slower?

    python -m cascade.benchmarks.experiments.costs.regression_guard

Each is timed by turns with the same work by hand in the same thread, in processor time. A busy neighbour on the same
processor still slows the one more than the other, for seconds at a time; so the turns of each are spread over seconds,
the shortest times count, and a piece of code that is too slow is timed for up to a minute more. Run by ``make guard``.
"""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.guarded_code import Guarded, guarded_code

__all__ = ["MOST_SLOWDOWN", "slowdowns"]

MOST_SLOWDOWN = 1.25
LEAST_ATTEMPTS, MOST_ATTEMPTS = 3, 30
PAUSE_S = 2.0
"""Before each attempt at code that was too slow in the attempts so far."""
ROUND_S = 0.002
"""A piece of code is repeated for about this long in each turn."""


class Shortest(NamedTuple):
    """The shortest times of the code and its baseline: noise only adds to a time."""

    own_s: float = float("inf")
    baseline_s: float = float("inf")


def slowdowns(code: Sequence[Guarded], rounds: int, planted: float = 1.0) -> dict[str, float]:
    """Ratio of the times of each piece of code and its baseline, over the usual ratio.

    Args:
        code: to time; every attempt times each of them once.
        rounds: of each attempt.
        planted: the code is made so many times slower, >= 1, to test the guard.

    Returns:
        The slowdown of each piece of code, by its name.
    """
    shortest = {each.name: Shortest() for each in code}
    found: dict[str, float] = {}
    for attempt in range(MOST_ATTEMPTS):
        if attempt >= LEAST_ATTEMPTS:
            if max(found.values()) <= MOST_SLOWDOWN:
                break
            time.sleep(PAUSE_S)
        for each in code:
            if attempt < LEAST_ATTEMPTS or found[each.name] > MOST_SLOWDOWN:
                shortest[each.name] = _shortest(each, rounds, planted, shortest[each.name])
                own_s, baseline_s = shortest[each.name]
                found[each.name] = own_s / baseline_s / each.usual
    return found


def _shortest(code: Guarded, rounds: int, planted: float, so_far: Shortest) -> Shortest:
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
    return Shortest(min(so_far.own_s, *own), min(so_far.baseline_s, *by_hand))


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
            for name, found in slowdowns(code, rounds, planted).items():
                seen[name].append(found)
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
