"""The accuracy-cost frontier, with certified points, each stage alone and the chosen operating point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cascade.reports.figures.label_places import label_places, text_width
from cascade.reports.figures.picture import FONT_SIZE, new_figure, styled
from cascade.reports.measures.certified_points import CertifiedFrontier
from cascade.reports.measures.frontier_points import FrontierPoint
from cascade.reports.measures.replay import Replay
from cascade.reports.text import shortened
from cascade.theme import ACCENT, INK, MUTED, PAPER, stage_colours

__all__ = ["frontier_figure"]

WIDTH, HEIGHT = 420.0, 348.0  # points
LEFT, BOTTOM, RIGHT, TOP = 54.0, 40.0, 10.0, 30.0
LOGARITHMIC_FROM = 10.0  # highest over lowest cost
LONGEST_NAME = 24


@dataclass(frozen=True)
class _Mark:
    """A point with a name."""

    cost: float
    gain: float
    name: str
    colour: str
    symbol: str
    size: float


def frontier_figure(replay: Replay, certified: CertifiedFrontier | None = None) -> Figure:
    """Accuracy over mean cost per row: the frontier, certified points, every stage alone, the policy.

    Recall takes the place of accuracy for a policy with a target of it, and agreement with the last stage without
    labels. The cost axis is logarithmic where
    the costs span more than a decade.

    Args:
        replay: of the policy on the rows that the frontier is searched on.
        certified: points that a calibration table certifies.
    """
    proven = () if certified is None else certified.points
    curve, certain = _places(replay.frontier), _places(proven)
    marks = _marks(replay)
    figure = new_figure(WIDTH, HEIGHT)
    axes = styled(figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, _inner()[0] / WIDTH, _inner()[1] / HEIGHT)))
    _set_scales(axes, np.vstack([curve, certain, [(mark.cost, mark.gain) for mark in marks]]))
    last = float(replay.single_sought[-1])
    axes.axhline(last, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    label = "best on these rows, not certified"
    axes.step(*curve.T, where="post", color=INK.light, linewidth=1.8, zorder=2, solid_joinstyle="round", label=label)
    axes.plot([curve[-1, 0], axes.get_xlim()[1]], [curve[-1, 1]] * 2, color=INK.light, linewidth=1.8, zorder=2)
    if certified is not None and proven:
        label = f"certified, delta = {certified.delta:g}"
        style: dict[str, Any] = {
            "markersize": 6.5,
            "color": PAPER.light,
            "markeredgecolor": ACCENT.light,
            "markeredgewidth": 1.6,
        }
        axes.plot(*certain.T, "D", zorder=3, label=label, **style)
    for mark in marks:
        (point,) = axes.plot(mark.cost, mark.gain, mark.symbol, markersize=mark.size, color=mark.colour, zorder=4)
        point.set_markeredgecolor(PAPER.light)
    _name(axes, marks, curve, certain, last)
    axes.set_xlabel(f"mean cost per row ({replay.table.cost_unit})", fontsize=FONT_SIZE, parse_math=False)
    axes.set_ylabel(replay.sought_words, fontsize=FONT_SIZE)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, fontsize=FONT_SIZE - 0.5, labelcolor=INK.light,
        frameon=False, borderpad=0.2, handlelength=1.6,
    )  # fmt: skip
    return figure


def _places(points: Sequence[FrontierPoint]) -> np.ndarray:
    return np.array([(point.cost, point.gain) for point in points]).reshape(-1, 2)


def _marks(replay: Replay) -> list[_Mark]:
    """The policy first, so that it gets the best place for its name."""
    policy = _Mark(replay.evaluation.mean_cost, replay.sought, "this policy", ACCENT.light, "D", 9.5)
    names = [shortened(name, LONGEST_NAME) for name in replay.policy.stages]
    names[-1] += " (last stage)"
    symbols = ["o"] * (len(names) - 1) + ["s"]
    colours = stage_colours(len(names))
    singles = zip(replay.single_cost, replay.single_sought, names, colours, symbols, strict=True)
    alone = [_Mark(float(cost), float(gain), name, colour, symbol, 8.5) for cost, gain, name, colour, symbol in singles]
    # A stage that only rejects has no recall of its own.
    return [policy, *(mark for mark in alone if mark.gain or replay.sought_name != "recall")]


def _inner() -> tuple[float, float]:
    return WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - TOP


def _set_scales(axes: Axes, points: np.ndarray) -> None:
    (low_cost, low_gain), (high_cost, high_gain) = points.min(axis=0), points.max(axis=0)
    axes.set_ylim(*_padded(low_gain, high_gain, 0.01))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %" if value <= 1.0001 else ""))
    if low_cost > 0 and high_cost > LOGARITHMIC_FROM * low_cost:
        axes.set_xscale("log")
        low, high = _padded(np.log10(low_cost), np.log10(high_cost), 0.1)
        axes.set_xlim(10**low, 10**high)
        axes.xaxis.set_major_locator(FixedLocator(_log_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(*_padded(low_cost, high_cost, 0.05 * high_cost or 1.0))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 0 else ""))


def _padded(low: float, high: float, least: float) -> tuple[float, float]:
    pad = max(0.07 * (high - low), least)
    return float(low - pad), float(high + pad)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of every decade, or fewer if there are many decades."""
    leading = (1, 2, 5) if high - low < 2.5 else (1, 3) if high - low < 4 else (1,)
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in leading]
    return [tick for tick in ticks if low <= np.log10(tick) <= high]


def _name(axes: Axes, marks: list[_Mark], curve: np.ndarray, certain: np.ndarray, last: float) -> None:
    """Writes the names of the points so that they overlap neither each other nor the lines."""
    to_points = _to_points(axes)
    anchors = to_points(np.array([(mark.cost, mark.gain) for mark in marks]))
    x = np.linspace(0, _inner()[0], 120)
    steps = to_points(curve)
    # The frontier as it is drawn: the height of the last corner at or before x.
    place = np.searchsorted(steps[:, 0], x, side="right") - 1
    line = np.column_stack([x, steps[np.maximum(place, 0), 1]])[place >= 0]
    level = np.column_stack([x, np.full_like(x, to_points(np.array([(curve[0, 0], last)]))[0, 1])])
    obstacles = np.vstack([line, level, to_points(certain), *[anchors] * 4])
    widths = [text_width(mark.name, FONT_SIZE) for mark in marks]
    places = label_places(anchors, widths, FONT_SIZE + 3, obstacles, _inner())
    for mark, (left, bottom), width, (x_anchor, _) in zip(marks, places, widths, anchors, strict=True):
        to_the_left = left + width < x_anchor
        axes.annotate(
            mark.name,
            (left + width if to_the_left else left, bottom + 3),
            xycoords="axes points",
            ha="right" if to_the_left else "left",
            fontsize=FONT_SIZE,
            fontweight="bold" if mark.symbol == "D" else "normal",
            color=ACCENT.light if mark.symbol == "D" else INK.light,
            parse_math=False,
            zorder=5,
        )


def _to_points(axes: Axes) -> Callable[[np.ndarray], np.ndarray]:
    """From data to points from the lower left corner of the axes."""
    data_to_axes = axes.transData - axes.transAxes
    return lambda data: np.asarray(data_to_axes.transform(data) * _inner())
