"""Gears: under load a gateway moves to cheaper operating points, and back, never below the operator's floor."""

import math

from cascade.calibration import Policy, PolicySet
from cascade.config import GearsConfig
from cascade.errors import PolicyError

__all__ = ["GearShift", "usable_gears"]

# Arrivals are averaged over this time.
RATE_WINDOW_S = 0.5
# A better gear is taken again at once when rows arrive this much more slowly than when it was left.
CLEARLY_LOWER = 0.9
# After a step down, rows that came before it still wait; another step waits for them, in units of step_down_wait_ms.
SETTLE_WAITS = 1.0


def usable_gears(policies: PolicySet, settings: GearsConfig | None) -> tuple[Policy, ...]:
    """The gears that may be served: the first ones, down to the floor; only the best one without settings.

    Raises:
        PolicyError: even the best gear is below the floor.
    """
    if settings is None:
        return policies.gears[:1]
    usable: list[Policy] = []
    for gear in policies.gears:
        problem = _below_floor(gear, settings)
        if problem and not usable:
            raise PolicyError(f"policy {gear.version} {problem}; calibrate for the floor, or lower it in serving.gears")
        if problem:
            break
        usable.append(gear)
    return tuple(usable)


def _below_floor(policy: Policy, settings: GearsConfig) -> str | None:
    """The reason why a policy may not be served; ``None`` if it may."""
    floors = {
        "target_accuracy": settings.floor_accuracy,
        "target_agreement": settings.floor_agreement,
        "max_accuracy_drop": settings.floor_accuracy_drop,
    }
    for name, floor in floors.items():
        if floor is None:
            continue
        guaranteed = policy.guarantees.get(name)
        if guaranteed is None:
            return f"has no certificate of {name}, and the floor is {floor:g}"
        if guaranteed > floor if name == "max_accuracy_drop" else guaranteed < floor:
            return f"guarantees {name} {guaranteed:g}, and the floor is {floor:g}"
        delta = policy.certificate.get("delta")
        if not isinstance(delta, int | float) or not 0 < delta <= settings.floor_delta:
            return f"is certified at delta {delta}, and serving.gears.floor_delta is {settings.floor_delta:g}"
    return None


class GearShift:
    """Chooses the gear, as a pure function of the values that it is updated with.

    A step down depends on the wait alone. A step up needs a short wait for some time, and evidence that the better gear
    can carry the load: fewer arrivals than when it was left, or enough time since. Without it, a load that only a cheap
    gear can carry would make the gateway oscillate, since in that gear no row waits.

    Args:
        gears: how many there are, at least 1.
        settings: when to move.
        gear: the initial one.

    Attributes:
        gear: in use; 0 is the best.
    """

    def __init__(self, gears: int, settings: GearsConfig, gear: int = 0) -> None:
        self.gear = gear
        self._settings = settings
        self._rate = 0.0
        self._last: tuple[float, int] | None = None
        self._busy_at = -math.inf
        self._changed_at = -math.inf
        # Of each gear: rate of arrivals (rows/s) and moment when it was last left for a cheaper one.
        self._left = [(math.inf, -math.inf)] * gears

    def update(self, now_s: float, waited_s: float, offered_rows: int) -> int:
        """Returns the gear to use from now on.

        Args:
            now_s: on a clock that only goes forward.
            waited_s: how long the oldest rows have waited.
            offered_rows: all that ever arrived.
        """
        self._update_rate(now_s, offered_rows)
        settings = self._settings
        if 1e3 * waited_s >= settings.step_up_wait_ms:
            self._busy_at = now_s
        settled = now_s - self._changed_at >= SETTLE_WAITS * settings.step_down_wait_ms / 1e3
        if 1e3 * waited_s > settings.step_down_wait_ms:
            if settled and self.gear + 1 < len(self._left):
                self._left[self.gear] = (self._rate, now_s)
                self._change(self.gear + 1, now_s)
        elif self.gear and now_s - max(self._busy_at, self._changed_at) >= settings.step_up_after_s:
            rate, left_at = self._left[self.gear - 1]
            if self._rate <= CLEARLY_LOWER * rate or now_s - left_at >= settings.retry_after_s:
                self._change(self.gear - 1, now_s)
        return self.gear

    def _change(self, gear: int, now_s: float) -> None:
        self.gear = gear
        self._changed_at = now_s

    def _update_rate(self, now_s: float, offered_rows: int) -> None:
        if self._last is not None and now_s > self._last[0]:
            passed = now_s - self._last[0]
            weight = -math.expm1(-passed / RATE_WINDOW_S)
            self._rate += weight * ((offered_rows - self._last[1]) / passed - self._rate)
        self._last = (now_s, offered_rows)
