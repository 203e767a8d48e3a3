"""Pictures of results: one benchmark, or latency against rate of several."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cascade.benchmarks.analysis.result import Result
from cascade.theme import ACCENT, GRID, stage_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PICTURE_SUFFIXES", "picture"]

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")
SHOWN = ("p50", "p90", "p95", "p99", "p99.9", "p99.99")


def picture(results: Sequence[Result], kind: str) -> bytes:
    """Draws one result by its repeats, or several as latency against requests/s.

    Args:
        results: at least one.
        kind: "png", "svg" or "pdf".
    """
    from matplotlib.figure import Figure

    shares = _shares(results)
    panels = 3 if any(shares) else 2  # a foreign server names no stages
    figure = Figure(figsize=(11 / 3 * panels, 3.6), layout="constrained")
    left, middle, *right = figure.subplots(1, panels)
    if len(results) == 1:
        _draw_latency(left, results[0])
        _draw_time(middle, results[0])
        figure.suptitle(results[0].title)
    else:
        _draw_curve(left, results)
        _draw_throughput(middle, results)
    for axes in right:
        _draw_shares(axes, shares, "repeat" if len(results) == 1 else "result")
    content = io.BytesIO()
    figure.savefig(content, format=kind)
    return content.getvalue()


def _draw_latency(axes: "Axes", result: Result) -> None:
    for index, repeat in enumerate(result.repeats):
        names = [name for name in SHOWN if name in repeat.latency_ms]
        axes.plot(names, [repeat.latency_ms[name] for name in names], marker="o", label=f"repeat {index + 1}")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms")
    axes.grid(color=GRID.light)
    axes.legend(fontsize="small")


def _draw_time(axes: "Axes", result: Result) -> None:
    """Answers per second over time."""
    for repeat in result.repeats:
        axes.plot([w.start_s for w in repeat.windows], [w.requests_per_s for w in repeat.windows])
    if result.measured.rate_per_s is not None:
        axes.axhline(result.measured.rate_per_s, color=ACCENT.light, linestyle="--", label="offered")
        axes.legend(fontsize="small")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s after the warm-up")
    axes.set_ylabel("requests/s")
    axes.grid(color=GRID.light)


def _shares(results: Sequence[Result]) -> list[dict[str, float]]:
    """Shares of the rows that each stage answered: by repeat of one result, or by result."""
    if len(results) == 1:
        return [repeat.stage_share for repeat in results[0].repeats]
    return [
        {k.partition(".")[2]: e.median for k, e in one.summary.items() if k.startswith("stage_share.")}
        for one in results
    ]


def _draw_shares(axes: "Axes", shares: Sequence[dict[str, float]], each: str) -> None:
    """A bar for each repeat or result."""
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for one in shares for name in one))
    below = np.zeros(len(shares))
    for name, colour in zip(names, stage_colours(max(len(names), 1))):
        values = np.array([one.get(name, 0.0) for one in shares])
        axes.bar(range(1, len(shares) + 1), values, bottom=below, label=name, color=colour)
        below += values
    axes.set_ylim(0, 1)
    axes.set_xlabel(each)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("share of rows answered")
    axes.legend(fontsize="small")


def _draw_curve(axes: "Axes", results: Sequence[Result]) -> None:
    """Latency against the rate."""
    places = [result.measured.rate_per_s or result.summary["requests_per_s"].median for result in results]
    order = np.argsort(places)
    for name in ("p50", "p99"):
        points = [(places[i], results[i].summary.get(f"latency_ms.{name}")) for i in order]
        known = [(x, found) for x, found in points if found is not None]
        if known:
            middle = [found.median for _, found in known]
            low = [found.median - found.smallest for _, found in known]
            high = [found.largest - found.median for _, found in known]
            axes.errorbar([x for x, _ in known], middle, yerr=(low, high), marker="o", capsize=3, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("requests/s offered")
    axes.set_ylabel("latency, ms")
    axes.grid(color=GRID.light)
    axes.legend(fontsize="small")


def _draw_throughput(axes: "Axes", results: Sequence[Result]) -> None:
    """Requests/s and goodput that were reached, against the rate; by result where one has no rate."""
    from matplotlib.ticker import MaxNLocator

    rates = [result.measured.rate_per_s for result in results]
    has_rates = None not in rates
    places = [float(rate or 0) for rate in rates] if has_rates else [float(k) for k in range(1, len(results) + 1)]
    order = np.argsort(places)
    for name, label in (("requests_per_s", "answered"), ("goodput_per_s", "goodput")):
        known = [(places[i], results[i].summary[name].median) for i in order if name in results[i].summary]
        if known:
            axes.plot(*zip(*known), marker="o", label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests/s offered" if has_rates else "result")
    if not has_rates:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("requests/s")
    axes.grid(color=GRID.light)
    axes.legend(fontsize="small")
