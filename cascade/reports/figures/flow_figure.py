"""The flow of the rows: how many each stage answers, and how many it defers.

All rows come in at the top. At every stage the answered ones turn to the right and the forwarded ones go on down;
widths are true to the counts, except that no flow is thinner than a hair.
"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from cascade.reports.figures.picture import FONT_SIZE, new_figure
from cascade.reports.measures.replay import Replay
from cascade.reports.text import count, percent, rows, shortened
from cascade.theme import INK, MUTED, PAPER, TRUNK, stage_colours

__all__ = ["flow_figure"]

# In points, y down.
WIDTH = 400.0
LEFT, TOP, BOTTOM = 14.0, 26.0, 6.0
TRUNK_WIDTH = 120.0
THINNEST = 1.4
NODE = 7.0  # height of a stage's bar
BEND = 14.0  # inner radius where answered rows turn
BELOW = 26.0  # space below the answered rows, for the count of the deferred ones
LEAST_HEIGHT = 70.0  # of a stage: three lines of text
TEXT = LEFT + TRUNK_WIDTH + BEND + 34.0
LINE = 14.0
LONGEST_NAME = 30
QUARTER = 4 / 3 * math.tan(math.pi / 8)  # handle of the cubic that is nearest to a quarter of a circle


def flow_figure(replay: Replay) -> Figure:
    """The flow of a policy's rows through its stages, any number of them.

    Args:
        replay: of a policy.
    """
    n = len(replay.table)
    answered = _widths(replay.answered, n)
    heights = np.maximum(NODE + BEND + answered + BELOW, LEAST_HEIGHT)
    # The last stage defers nothing.
    heights[-1] = max(NODE + BEND + answered[-1] + 6, LEAST_HEIGHT - 8)
    figure = new_figure(WIDTH, TOP + float(heights.sum()) + BOTTOM)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(TOP + heights.sum() + BOTTOM, 0)
    _write(axes, LEFT, TOP - 10, f"{rows(n)} come in", MUTED.light)
    tops = TOP + np.concatenate([[0.0], np.cumsum(heights)[:-1]])
    colours = stage_colours(replay.table.stages)
    for stage, (top, height) in enumerate(zip(tops, heights, strict=True)):
        _draw_stage(axes, replay, stage, float(top), float(height), colours[stage])
    return figure


def _widths(counts: np.ndarray, n: int) -> np.ndarray:
    """(K,) width of flows in points; 0 only for no row at all."""
    return np.where(counts > 0, np.maximum(TRUNK_WIDTH * counts / n, THINNEST), 0.0)


def _draw_stage(axes: Axes, replay: Replay, stage: int, top: float, height: float, colour: str) -> None:
    n, reached, answered = len(replay.table), int(replay.reached[stage]), int(replay.answered[stage])
    came, turned, went_on = (float(w) for w in _widths(np.array([reached, answered, reached - answered]), n))
    if went_on:
        axes.add_patch(Rectangle((LEFT, top), went_on, height, facecolor=TRUNK.light, edgecolor="none"))
        text = f"{count(reached - answered)} forwarded, {percent((reached - answered) / n)}"
        if replay.deferred_early[stage]:
            text += f" ({count(int(replay.deferred_early[stage]))} deferred early)"
        _write(axes, LEFT + went_on + 8, top + height - 9, text, MUTED.light)
    elif stage < replay.table.stages - 1:
        _dashed(axes, (LEFT + 0.7, top), (LEFT + 0.7, top + height))
    if turned:
        axes.add_patch(PathPatch(_turn(LEFT + came, top, turned), facecolor=colour, edgecolor="none"))
    middle = top + NODE + BEND + turned / 2
    if not turned and reached:
        _dashed(axes, (LEFT + came, middle), (TEXT - 10, middle))
    axes.add_patch(
        FancyBboxPatch(
            (LEFT - 4, top),
            max(came, THINNEST) + 8,
            NODE,
            boxstyle="round,pad=0,rounding_size=3.4",
            facecolor=INK.light if reached else PAPER.light,
            edgecolor=INK.light if reached else MUTED.light,
            linewidth=1,
        )
    )
    _write_stage(axes, replay, stage, middle)


def _turn(right: float, top: float, width: float) -> Path:
    """The outline of answered rows: down from the trunk's right side, a quarter of a circle, then to the right."""
    left, bend, end = right - width, top + NODE, TEXT - 10
    centre = right + BEND
    inner, outer = BEND, BEND + width
    corners = [
        (Path.MOVETO, (left, top)),
        (Path.LINETO, (right, top)),
        (Path.LINETO, (right, bend)),
        (Path.CURVE4, (right, bend + QUARTER * inner)),
        (Path.CURVE4, (centre - QUARTER * inner, bend + inner)),
        (Path.CURVE4, (centre, bend + inner)),
        (Path.LINETO, (end, bend + inner)),
        (Path.LINETO, (end, bend + outer)),
        (Path.LINETO, (centre, bend + outer)),
        (Path.CURVE4, (centre - QUARTER * outer, bend + outer)),
        (Path.CURVE4, (left, bend + QUARTER * outer)),
        (Path.CURVE4, (left, bend)),
        (Path.CLOSEPOLY, (left, top)),
    ]
    codes, vertices = zip(*corners, strict=True)
    return Path(vertices, codes)


def _write_stage(axes: Axes, replay: Replay, stage: int, middle: float) -> None:
    reached, answered = int(replay.reached[stage]), int(replay.answered[stage])
    name = shortened(replay.policy.stages[stage], LONGEST_NAME)
    if not reached:
        lines = ["no row comes here"]
    else:
        lines = [f"answers {rows(answered)}, {percent(answered / len(replay.table))}"]
    if answered:
        lines.append(f"{replay.gain_name} of these {percent(float(replay.answered_gain[stage]))}")
    first = middle - LINE * len(lines) / 2
    _write(axes, TEXT, first, name, INK.light if reached else MUTED.light, bold=True)
    for place, line in enumerate(lines, start=1):
        _write(axes, TEXT, first + place * LINE, line, INK.light if reached else MUTED.light)


def _write(axes: Axes, x: float, y: float, text: str, colour: str, bold: bool = False) -> None:
    axes.text(
        x,
        y,
        text,
        color=colour,
        fontsize=FONT_SIZE + bold,
        fontweight="bold" if bold else "normal",
        va="center_baseline",
        parse_math=False,
    )


def _dashed(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.plot(*zip(start, end, strict=True), color=MUTED.light, linewidth=1, linestyle=(0, (2, 3)))
