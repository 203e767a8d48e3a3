"""The picture of a result."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.benchmarks.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PLOT_SUFFIXES", "plot_result"]

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def plot_result(result: Result, path: Path | str) -> None:
    """Draws latency percentiles, throughput and stage shares of every repeat.

    Args:
        result: to draw.
        path: file to write; its suffix, one of ``PLOT_SUFFIXES``, chooses the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    latency, throughput, shares = figure.subplots(1, 3)
    _draw_latency(latency, result)
    _draw_throughput(throughput, result)
    _draw_shares(shares, result)
    for axes in (throughput, shares):
        axes.set_xticks(range(len(result.repeats)), [str(i + 1) for i in range(len(result.repeats))])
        axes.set_xlabel("repeat")
    measured = result.measured
    figure.suptitle(
        f"{measured['config']}, {measured['target']}: {measured['rows_per_request']} rows per request, "
        + (
            f"{measured['rate_per_s']:g} requests/s"
            if measured.get("rate_per_s")
            else f"{measured['connections']} connections"
        )
    )
    figure.savefig(path)


def _draw_latency(axes: "Axes", result: Result) -> None:
    names = [name for name in result.repeats[0]["latency_ms"] if name.startswith("p")]
    for index, repeat in enumerate(result.repeats):
        axes.plot(names, [repeat["latency_ms"][name] for name in names], marker="o", label=f"repeat {index + 1}")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms")
    axes.legend(fontsize="small")


def _draw_throughput(axes: "Axes", result: Result) -> None:
    places = range(len(result.repeats))
    lines: list[tuple[str, list[Any]]] = [("cascade", [repeat["rows_per_s"] for repeat in result.repeats])]
    if "biggest_alone" in result.repeats[0]:
        lines.append(("last stage alone", [repeat["biggest_alone"]["rows_per_s"] for repeat in result.repeats]))
    width = 0.8 / len(lines)
    for index, (name, values) in enumerate(lines):
        shift = width * (index - (len(lines) - 1) / 2)
        axes.bar([place + shift for place in places], values, width, label=name)
    axes.set_ylabel("rows/s")
    axes.legend(fontsize="small")


def _draw_shares(axes: "Axes", result: Result) -> None:
    places = range(len(result.repeats))
    below = [0.0] * len(result.repeats)
    for name in result.repeats[0]["stage_share"]:
        values = [repeat["stage_share"][name] for repeat in result.repeats]
        axes.bar(places, values, bottom=below, label=name)
        below = [low + value for low, value in zip(below, values)]
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of rows answered")
    axes.legend(fontsize="small")
