"""Measuring what stages cost: the time of a batch against its size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.backends.backend import CountsFlops
from cascade.calibration.cost_model import CostModel
from cascade.stage import Stage

__all__ = ["StageCosts", "measure"]

REPEATS = 5
WARM_UP_BATCHES = 2


@dataclass(frozen=True, eq=False)
class StageCosts:
    """Times of one stage.

    Attributes:
        name: of the stage.
        batch_rows: (m,) int, sizes.
        batch_ms: (m,) median time of a batch of each size.
        model: fitted to them.
        flops_per_row: where the backend counts them.
    """

    name: str
    batch_rows: np.ndarray
    batch_ms: np.ndarray
    model: CostModel
    flops_per_row: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name,
            "batch_rows": self.batch_rows.tolist(),
            "batch_ms": self.batch_ms.tolist(),
            "fixed_ms": self.model.fixed_ms,
            "row_ms": self.model.row_ms,
            "flops_per_row": self.flops_per_row,
        }


def measure(
    stages: Sequence[Stage],
    rows: np.ndarray,
    *,
    largest: int = 64,
    on_size: Callable[[str, int], None] = lambda stage, size: None,
) -> list[StageCosts]:
    """Times every stage on batches of 1, 2, 4, ... rows.

    Args:
        stages: K stages.
        rows: (n, ...), n >= 1; batches are taken from the front, over and over if there are too few.
        largest: most rows of a batch, >= 1.
        on_size: called with (stage, size) after every size.
    """
    sizes = np.unique(np.minimum(2 ** np.arange(int(np.ceil(np.log2(largest))) + 1), largest))
    return [_measured(stage, rows, sizes, on_size) for stage in stages]


def _measured(stage: Stage, rows: np.ndarray, sizes: np.ndarray, on_size: Callable[[str, int], None]) -> StageCosts:
    times = []
    for size in sizes:
        batch = np.ascontiguousarray(rows[np.arange(size) % len(rows)])
        times.append(_median_ms(stage, batch))
        on_size(stage.name, int(size))
    batch_ms = np.array(times)
    flops = stage.backend.flops_per_row(rows[:1]) if isinstance(stage.backend, CountsFlops) else None
    return StageCosts(stage.name, sizes, batch_ms, CostModel.fit(sizes, batch_ms), flops)


def _median_ms(stage: Stage, batch: np.ndarray) -> float:
    for _ in range(WARM_UP_BATCHES):
        stage.predict(batch)
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        stage.predict(batch)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3
