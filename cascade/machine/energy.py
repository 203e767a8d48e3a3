"""Energy counters of the processor."""

from pathlib import Path

from cascade.errors import InputError

__all__ = ["EnergyMeter"]

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Linux's running-average-power-limit counters of all processor packages.

    https://www.kernel.org/doc/html/latest/power/powercap/powercap.html

    Args:
        folder: of the counters; by default the system's.

    Raises:
        InputError: the machine has no counters, or reading them is not permitted.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or POWERCAP
        # Packages are named "intel-rapl:0" and include their parts, "intel-rapl:0:1".
        self._zones = sorted(zone for zone in folder.glob("*-rapl:*") if zone.name.count(":") == 1)
        if not self._zones:
            raise InputError(f"this machine does not measure energy (no counters in {folder}); collect another cost")
        try:
            self._ranges = [_number(zone / "max_energy_range_uj") for zone in self._zones]
            self._last = self._read()
        except OSError as error:
            raise InputError(f"the energy counters cannot be read: {error}; they may need more rights") from error

    def joules(self) -> float:
        """Energy since the last call (or since construction), in J; corrected for counters that wrapped around."""
        now = self._read()
        taken = [(new - old) % (whole + 1) for new, old, whole in zip(now, self._last, self._ranges, strict=True)]
        self._last = now
        return sum(taken) / 1e6

    def _read(self) -> list[int]:
        return [_number(zone / "energy_uj") for zone in self._zones]


def _number(file: Path) -> int:
    return int(file.read_text())
