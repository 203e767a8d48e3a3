"""Risk-coverage curves: the error rate of a stage on its most confident rows, and in the ideal order."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from cascade.reports.figures.picture import FONT_SIZE, panel_corners, styled
from cascade.reports.measures.replay import Replay
from cascade.reports.measures.risk_coverage import RiskCoverage
from cascade.reports.text import percent, shortened
from cascade.theme import INK, MUTED, PAPER, STAGES

__all__ = ["risk_coverage_figure"]

# One panel, in points.
WIDTH, HEIGHT = 280.0, 230.0
LEFT, BOTTOM, RIGHT, TOP = 46.0, 36.0, 10.0, 24.0
MOST_CORNERS = 200
NOISY = 0.05  # below this coverage a curve has few rows, and does not determine the scale
CURVE = STAGES[4].light
LONGEST_NAME = 30


def risk_coverage_figure(replay: Replay, stages: Sequence[int] | None = None, columns: int = 4) -> Figure:
    """One panel per stage, on all rows of the table, all with the same scale.

    Args:
        replay: of a policy.
        stages: indices from 0; by default the replay's ``judged_stages``.
        columns: maximum number of panels side by side.
    """
    shown = replay.judged_stages if stages is None else list(stages)
    figure, corners = panel_corners(len(shown), columns, WIDTH, HEIGHT)
    width, height = figure.get_size_inches() * 72
    highest = max((_highest(replay.risk_coverage(stage)) for stage in replay.judged_stages), default=1.0)
    for (left, bottom), stage in zip(corners, shown, strict=True):
        box = (left + LEFT) / width, (bottom + BOTTOM) / height
        size = (WIDTH - LEFT - RIGHT) / width, (HEIGHT - BOTTOM - TOP) / height
        axes = styled(figure.add_axes((*box, *size)))
        name = shortened(replay.policy.stages[stage], LONGEST_NAME)
        _draw(axes, replay.risk_coverage(stage), highest, name)
    return figure


def _highest(seen: RiskCoverage) -> float:
    return max(float(seen.risk[seen.coverage >= NOISY].max()), 0.005)


def _draw(axes: Axes, seen: RiskCoverage, highest: float, name: str) -> None:
    right = 1 - float(seen.risk[-1])  # at full coverage, the risk is the share of wrong answers
    coverage = np.linspace(0.005, 1, MOST_CORNERS)
    ideal = np.maximum(coverage - right, 0) / coverage
    kept = np.unique(np.linspace(0, len(seen.risk) - 1, MOST_CORNERS).round().astype(int))
    axes.plot(coverage, ideal, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)), label="ideal order")
    area = f"AURC {percent(seen.area)}, excess {percent(seen.excess_area)}"
    marker = "o" if len(kept) == 1 else ""
    axes.plot(seen.coverage[kept], seen.risk[kept], color=CURVE, linewidth=1.8, marker=marker, label=area)
    axes.set_title(
        name, fontsize=FONT_SIZE + 1, fontweight="bold", color=INK.light, loc="left", pad=7, parse_math=False
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.03 * highest, 1.4 * highest)
    axes.xaxis.set_major_locator(FixedLocator(list(np.linspace(0, 1, 6))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    axes.set_xlabel("coverage, surest rows first", fontsize=FONT_SIZE)
    axes.set_ylabel("risk", fontsize=FONT_SIZE)
    axes.legend(
        loc="upper left", fontsize=FONT_SIZE - 0.5, labelcolor=INK.light, facecolor=PAPER.light, edgecolor="none",
        framealpha=0.8, borderpad=0.2, handlelength=1.6,
    )  # fmt: skip
