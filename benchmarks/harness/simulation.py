"""Simulations over many samples: in chunks on several processes, judged with the error that simulating has."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import numpy as np
from rich.progress import Progress

from cascade.cli.shared.console import console

__all__ = ["allowed_share", "halves", "in_chunks", "moments"]

Case = TypeVar("Case")
Outcome = TypeVar("Outcome")


def allowed_share(delta: float, samples: int) -> float:
    """Highest share of violations in a simulation of a guarantee of level delta: three standard errors above delta."""
    return float(delta + 3 * (delta * (1 - delta) / max(samples, 1)) ** 0.5)


def halves(rows: int, splits: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random halves of a table, to calibrate on and to judge on: indices, ``splits`` times."""
    orders = [np.random.default_rng((seed, split)).permutation(rows) for split in range(splits)]
    return [(order[: rows // 2], order[rows // 2 :]) for order in orders]


def in_chunks(
    run: Callable[[Case, range], Outcome],
    cases: Sequence[Case],
    samples: int,
    chunk: int,
    workers: int,
    start: Callable[..., None],
    *arguments: Any,
) -> Iterator[tuple[Case, Outcome]]:
    """Runs all samples of all cases.

    Args:
        run: of a case and of numbers of samples, in another process.
        cases: that can be pickled.
        samples: of each case.
        chunk: samples of one call.
        workers: processes.
        start: called first in every process.
        arguments: of ``start``.

    Yields:
        (case, outcome of a chunk), as they end.
    """
    chunks = [range(first, min(first + chunk, samples)) for first in range(0, samples, chunk)]
    with ProcessPoolExecutor(workers, initializer=start, initargs=arguments) as pool, Progress(console=console) as bar:
        jobs = {pool.submit(run, case, each): case for case, each in itertools.product(cases, chunks)}
        task = bar.add_task("samples", total=len(jobs))
        for job in as_completed(jobs):
            yield jobs[job], job.result()
            bar.advance(task)


def moments(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, least and greatest."""
    numbers = np.asarray(values)
    found = {"mean": numbers.mean(), "std": numbers.std(), "min": numbers.min(), "max": numbers.max()}
    return {name: float(value) for name, value in found.items()}
