"""Reliability diagrams: accuracy over confidence in bins, before and after calibration, with the bins' counts."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cascade.reports.figures.picture import FONT_SIZE, panel_corners, styled
from cascade.reports.measures.reliability import Reliability
from cascade.reports.measures.replay import Replay
from cascade.reports.text import percent, shortened
from cascade.theme import ACCENT, INK, MUTED, PAPER, STAGES

__all__ = ["reliability_figure"]

# One panel, in points.
WIDTH, HEIGHT = 280.0, 340.0
LEFT, BOTTOM, RIGHT, TOP = 46.0, 36.0, 10.0, 24.0
COUNTS, GAP = 52.0, 14.0  # height of the counts below the diagram, and the space between
BEFORE, AFTER = ACCENT.light, STAGES[4].light
LONGEST_NAME = 30


def reliability_figure(replay: Replay, stages: Sequence[int] | None = None, columns: int = 4) -> Figure:
    """One panel per stage, on all rows of the table.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, figure 1,
    https://arxiv.org/abs/1706.04599. Each point is a bin of equal width, at its mean confidence; without labels,
    agreement with the last stage takes the place of accuracy.

    Args:
        replay: of a policy.
        stages: indices from 0; by default the replay's ``judged_stages``.
        columns: maximum number of panels side by side.
    """
    shown = replay.judged_stages if stages is None else list(stages)
    figure, corners = panel_corners(len(shown), columns, WIDTH, HEIGHT)
    for corner, stage in zip(corners, shown, strict=True):
        _panel(figure, corner, replay, stage)
    return figure


def _panel(figure: Figure, corner: tuple[float, float], replay: Replay, stage: int) -> None:
    def place(bottom: float, height: float) -> Axes:
        width, total = figure.get_size_inches() * 72
        box = (corner[0] + LEFT) / width, (corner[1] + bottom) / total, (WIDTH - LEFT - RIGHT) / width, height / total
        return styled(figure.add_axes(box))

    above = BOTTOM + COUNTS + GAP
    diagram, counts = place(above, HEIGHT - above - TOP), place(BOTTOM, COUNTS)
    before, after = replay.reliability(stage)
    name = shortened(replay.policy.stages[stage], LONGEST_NAME)
    diagram.set_title(
        name, fontsize=FONT_SIZE + 1, fontweight="bold", color=INK.light, loc="left", pad=7, parse_math=False
    )
    _draw_diagram(diagram, before, after, replay.gain_name)
    _draw_counts(counts, before, after)


def _draw_diagram(axes: Axes, before: Reliability, after: Reliability, gain_name: str) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
    series = [(before, BEFORE, "o", "before"), (after, AFTER, "s", "after")]
    if _same(before, after):
        series = [(after, AFTER, "s", "not calibrated")]
    for bins, colour, symbol, label in series:
        filled = bins.count > 0
        axes.plot(
            bins.confidence[filled],
            bins.accuracy[filled],
            color=colour,
            marker=symbol,
            markersize=5.5,
            markeredgecolor=PAPER.light,
            markeredgewidth=0.7,
            linewidth=1.6,
            label=f"{label}: ECE {percent(bins.expected_calibration_error)}",
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.03, 1.03)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(list(np.linspace(0, 1, 6))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_ylabel(gain_name, fontsize=FONT_SIZE)
    axes.legend(
        loc="upper left", fontsize=FONT_SIZE - 0.5, labelcolor=INK.light, facecolor=PAPER.light, edgecolor="none",
        framealpha=0.8, borderpad=0.2, handlelength=1.6,
    )  # fmt: skip


def _draw_counts(axes: Axes, before: Reliability, after: Reliability) -> None:
    """Rows per bin, on a logarithmic axis: the last bin often holds a hundred times the others."""
    width = before.edges[1] - before.edges[0]
    if _same(before, after):
        bars = [(after, AFTER, 0.1, 0.8)]
    else:
        bars = [(before, BEFORE, 0.1, 0.4), (after, AFTER, 0.5, 0.4)]
    for bins, colour, start, share in bars:
        axes.bar(bins.edges[:-1] + start * width, bins.count, share * width, align="edge", color=colour)
    highest = int(max(before.count.max(), after.count.max(), 2))
    axes.set_yscale("log")
    axes.set_ylim(0.7, highest * 1.6)
    decades = range(math.ceil(math.log10(highest)) + 1)
    axes.yaxis.set_major_locator(FixedLocator([10.0**d for d in decades if d % (1 + len(decades) // 4) == 0]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_locator(FixedLocator(list(np.linspace(0, 1, 6))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel("confidence", fontsize=FONT_SIZE)
    axes.set_ylabel("rows", fontsize=FONT_SIZE)


def _same(before: Reliability, after: Reliability) -> bool:
    return bool(
        np.array_equal(before.count, after.count)
        and np.allclose(before.confidence, after.confidence, atol=1e-9, equal_nan=True)
    )
