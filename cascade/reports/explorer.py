"""The points of the frontier's picture, as tables for the page's script."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cascade.reports.figures.picture import places_in_picture
from cascade.reports.measures.certified_points import RISES, CertifiedFrontier
from cascade.reports.measures.frontier_points import FrontierPoint
from cascade.reports.measures.replay import Replay
from cascade.reports.text import number, percent

__all__ = ["Choice", "Choices", "choices", "start"]

GOALS = {
    "target_accuracy": "accuracy at least",
    "max_accuracy_drop": "accuracy drop against the last stage at most",
    "target_agreement": "agreement with the last stage at least",
    "max_cost": "mean cost at most",
    "min_recall": "recall at least",
}


@dataclass(frozen=True)
class Choice:
    """A point as it is shown.

    Attributes:
        cells: texts, one for each column of its table.
        place: x and y in the picture's ``viewBox``.
        value: compared with a target, in the unit of the target.
        gain: in [0, 1].
        cost: mean cost per row.
        share: K shares in [0, 1].
    """

    cells: tuple[str, ...]
    place: tuple[float, float]
    value: float
    gain: float
    cost: float
    share: tuple[float, ...]


@dataclass(frozen=True)
class Choices:
    """Points of one kind.

    Attributes:
        title: of the kind.
        goal: the target without its value, such as "accuracy at least".
        unit: of the target, such as "%".
        rises: whether a higher target is harder.
        header: names of the columns.
        points: cheapest first.
    """

    title: str
    goal: str
    unit: str
    rises: bool
    header: tuple[str, ...]
    points: tuple[Choice, ...]


def start(replay: Replay, figure: Figure) -> tuple[float, float]:
    """Place of the policy in the picture's ``viewBox``; the nearest point is shown first.

    Args:
        replay: of the policy.
        figure: the picture of its frontier.
    """
    ((x, y),) = places_in_picture(figure, np.array([(replay.evaluation.mean_cost, replay.sought)]))
    return round(float(x), 1), round(float(y), 1)


def choices(replay: Replay, figure: Figure, certified: CertifiedFrontier | None) -> list[Choices]:
    """The kinds of points in a picture of the frontier.

    Args:
        replay: of the policy.
        figure: the picture.
        certified: points that a calibration table certifies.
    """
    kinds = [
        Choices(
            "Best on these rows, not certified",
            f"{replay.sought_words} at least",
            "%",
            True,
            _header(replay),
            _choices(figure, replay.frontier, lambda point: 100 * point.gain),
        )
    ]
    if certified is not None and certified.points:
        factor, unit = (1.0, replay.table.cost_unit) if certified.target_name == "max_cost" else (100.0, "%")
        goal = GOALS[certified.target_name]
        beside = f", with a precision of {certified.min_precision:g}" if certified.min_precision is not None else ""
        kinds.append(
            Choices(
                f"Certified, delta = {certified.delta:g}{beside}",
                f"certified {goal}",
                unit,
                certified.target_name in RISES,
                (*_header(replay), f"certified: {goal}"),
                _choices(figure, certified.points, lambda point: factor * (point.target or 0.0), unit),
            )
        )
    return kinds


def _header(replay: Replay) -> tuple[str, ...]:
    names = replay.policy.stages
    return (
        replay.sought_name,
        f"cost ({replay.table.cost_unit})",
        *(f"{name} answers from" for name in names[:-1]),
        *(f"share of {name}" for name in names),
    )


def _choices(
    figure: Figure,
    points: Sequence[FrontierPoint],
    value: Callable[[FrontierPoint], float],
    unit: str = "",
) -> tuple[Choice, ...]:
    places = places_in_picture(figure, np.array([(point.cost, point.gain) for point in points]).reshape(-1, 2))
    return tuple(
        Choice(
            (
                f"{100 * point.gain:.2f} %",
                number(point.cost),
                *("never" if threshold > 1 else f"{threshold:.4f}" for threshold in point.thresholds),
                *(percent(float(share)) for share in point.share),
                *([f"{value(point):.4g} {unit}"] if unit else []),
            ),
            (round(float(x), 1), round(float(y), 1)),
            round(value(point), 6),
            round(point.gain, 6),
            float(f"{point.cost:.6g}"),
            tuple(round(float(share), 4) for share in point.share),
        )
        for point, (x, y) in zip(points, places, strict=True)
    )
