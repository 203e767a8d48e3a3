"""A goal: what a calibration is asked to reach, and what that means for the search and for the test."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.grid import Grid
from cascade.calibration.promises import CostPromise, DropPromise, GainPromise, Promise
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search import Target

__all__ = ["Goal"]

LONGEST_SEQUENCE = 200


@dataclass(frozen=True)
class Goal:
    """One target of :func:`~cascade.calibration.calibrate.calibrate`.

    Attributes:
        name: "target_accuracy", "max_accuracy_drop", "target_agreement" or "max_cost".
        value: of the target.
    """

    name: str
    value: float

    @classmethod
    def of(cls, **targets: float | None) -> "Goal":
        """The one target that is given.

        Raises:
            ValueError: none or several are given, or one is out of its range.
        """
        given = {name: value for name, value in targets.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(targets)}; got {given or 'none'}")
        ((name, value),) = given.items()
        if name == "max_cost" and not (np.isfinite(value) and value > 0):
            raise ValueError(f"max_cost must be a positive number; got {value!r}")
        if name != "max_cost" and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1]; got {value!r}")
        return cls(name, float(value))

    def gains_agreement(self, table: ScoreTable) -> bool:
        """Whether agreement with the last stage counts as the gain, not accuracy."""
        return self.name == "target_agreement" or (self.name == "max_cost" and table.label is None)

    @property
    def quantity(self) -> str:
        """What the target is about, for messages."""
        return {
            "target_accuracy": "accuracy",
            "max_accuracy_drop": "accuracy drop",
            "target_agreement": "agreement",
            "max_cost": "mean cost",
        }[self.name]

    @property
    def rises(self) -> bool:
        """Whether more of the quantity is better."""
        return self.name in ("target_accuracy", "target_agreement")

    def easiest(self, problem: RoutingProblem) -> float:
        """The value of the target that every cascade reaches."""
        if self.name == "max_cost":
            return float(problem.cost[:, -1].max())
        return 0.0 if self.rises else 1.0

    def search_target(self, problem: RoutingProblem) -> Target:
        """The target on the rows of a problem."""
        if self.name == "max_cost":
            return Target(most_cost=self.value)
        if self.name == "max_accuracy_drop":
            return Target(least_gain=float(problem.gain[:, -1].mean()) - self.value)
        return Target(least_gain=self.value)

    def promise(self, problem: RoutingProblem, delta: float) -> Promise:
        """The promise about the rows to come.

        Args:
            problem: tells the highest cost of a row.
            delta: level of the test.
        """
        if self.name == "max_cost":
            return CostPromise(self.value, float(problem.cost[:, -1].max()), delta)
        if self.name == "max_accuracy_drop":
            return DropPromise(self.value)
        return GainPromise(self.value)

    def sequence(self, problem: RoutingProblem) -> list[np.ndarray]:
        """Thresholds of the frontier of a problem, from those that keep the promise most surely to the most daring.

        A cost is kept most surely by the cheapest thresholds, everything else by those that gain most.
        """
        grid = Grid.of(problem)
        points = grid.frontier()
        if len(points) > LONGEST_SEQUENCE:
            points = points[np.linspace(0, len(points) - 1, LONGEST_SEQUENCE).round().astype(int)]
        ordered = points if self.name == "max_cost" else points[::-1]
        return [grid.thresholds(index) for index in ordered]
