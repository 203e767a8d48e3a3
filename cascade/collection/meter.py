"""The cost of a batch: time, money or energy."""

import time
from typing import Literal

from cascade.machine.energy import EnergyMeter

__all__ = ["COST_UNIT", "SECONDS_PER_HOUR", "CostKind", "Meter"]

CostKind = Literal["time", "flops", "money", "energy"]
COST_UNIT: dict[CostKind, str] = {"time": "ms", "flops": "MFLOP", "money": "price per million rows", "energy": "mJ"}
SECONDS_PER_HOUR = 3600


class Meter:
    """Measures the cost per row of batches.

    Args:
        kind: of the cost; for "flops", which is counted elsewhere, time is measured.
        price_per_hour: of the machine, >= 0, for "money".

    Raises:
        InputError: the kind is "energy", and the machine does not measure it.
    """

    def __init__(self, kind: CostKind, price_per_hour: float = 0.0) -> None:
        self.kind = kind
        self._price_per_second = price_per_hour / SECONDS_PER_HOUR
        self._energy = EnergyMeter() if kind == "energy" else None
        self._begin = 0.0

    def start(self) -> None:
        """Starts a batch."""
        if self._energy is not None:
            self._energy.joules()
        self._begin = time.perf_counter()

    def stop(self, rows: int) -> float:
        """Ends a batch of ``rows`` rows, and returns its cost per row."""
        seconds = time.perf_counter() - self._begin
        if self._energy is not None:
            return self._energy.joules() / rows * 1e3
        if self.kind == "money":
            return seconds / rows * self._price_per_second * 1e6
        return seconds / rows * 1e3
