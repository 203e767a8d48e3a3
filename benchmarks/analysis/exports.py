"""Results in other forms: pictures, one HTML page, CSV, HdrHistogram's text, Ray's release metrics."""

import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.benchmarks.analysis.latencies import Latencies
from cascade.benchmarks.analysis.pictures import PICTURE_SUFFIXES, picture
from cascade.benchmarks.analysis.result import Result
from cascade.errors import InputError
from cascade.files.result_files import write_whole
from cascade.html_table import html_table
from cascade.theme import style_sheet, themed

__all__ = ["EXPORT_SUFFIXES", "export"]

EXPORT_SUFFIXES = (*PICTURE_SUFFIXES, ".html", ".csv", ".hgrm", ".json")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
body { color: var(--ink); background: var(--paper); } svg { width: 100%; height: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
td, th { padding: 0.15rem 0.8rem 0.15rem 0; text-align: left; }
.invalid { color: var(--accent); font-weight: bold; }
"""


def export(results: Sequence[Result], path: Path) -> None:
    """Writes results in the form of a file's suffix.

    Args:
        results: at least one, each with at least one repeat.
        path: its suffix is one of :data:`EXPORT_SUFFIXES`: a picture, a page, a table of all repeats, the latencies of
            all repeats as HdrHistogram's text, or Ray's release metrics.

    Raises:
        InputError: the suffix is another one, a result has no repeats, or the path is not that of a file.
    """
    if path.suffix not in EXPORT_SUFFIXES:
        raise InputError(f"{path.name!r} must end in {', '.join(EXPORT_SUFFIXES)}")
    if not all(result.repeats for result in results):
        raise InputError("a result without repeats cannot be drawn; nothing was measured")
    if path.suffix in PICTURE_SUFFIXES:
        write_whole(path, picture(results, path.suffix[1:]))
    elif path.suffix == ".html":
        write_whole(path, page(results))
    elif path.suffix == ".csv":
        write_whole(path, _csv(results))
    elif path.suffix == ".hgrm":
        write_whole(path, _all_latencies(results).to_hgrm())
    else:
        write_whole(path, json.dumps([metric for one in results for metric in ray_metrics(one)], indent=1) + "\n")


def page(results: Sequence[Result]) -> str:
    """One HTML page without links or scripts."""
    drawn = picture(results, "svg").decode()
    parts = [themed(drawn[drawn.index("<svg") :])]
    for result in results:
        parts.append(f"<h2>{html.escape(result.title)}</h2>")
        parts += [f'<p class="invalid">invalid: {html.escape(text)}</p>' for text in result.invalid]
        parts += [f'<p class="invalid">missed: {html.escape(text)}</p>' for text in result.missed]
        parts += [f"<p>{html.escape(text)}</p>" for text in result.remarks]
        if result.state == "partial":
            parts.append(f'<p class="invalid">partial: {html.escape(result.ended_by)}</p>')
        rows = [(name, e.median, e.low, e.high, e.smallest, e.largest) for name, e in result.summary.items()]
        header = ("", "median", "low", "high", "smallest", "largest")
        parts.append(html_table("Numbers over the repeats", header, rows, (result.interval_method,)))
        facts = result.measured.model_dump(exclude={"prediction"}) | {"date": result.date, "commit": result.commit}
        facts |= {"processor": result.machine.get("cpu"), "processors": result.machine.get("cores")}
        known = [(name.replace("_", " "), value) for name, value in facts.items() if value not in (None, "")]
        parts.append(html_table("What was measured", ("", ""), known))
        parts.append(html_table("Options", ("", ""), [(n, v) for n, v in result.options.items() if v is not None]))
    title = html.escape(results[0].title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style_sheet()}{STYLE}</style></head><body><h1>cascade bench</h1>{''.join(parts)}</body></html>\n"
    )


def _csv(results: Sequence[Result]) -> str:
    """A line for each repeat."""
    lines = [_line(result, i) for result in results for i in range(len(result.repeats))]
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(result: Result, index: int) -> dict[str, Any]:
    repeat = result.repeats[index]
    line: dict[str, Any] = {"title": result.title, "date": result.date.isoformat(), "commit": result.commit}
    line |= {"repeat": index + 1, "rate_per_s": result.measured.rate_per_s, "state": result.state}
    for name, value in repeat.model_dump(exclude={"windows", "histogram", "messages", "engine"}).items():
        if isinstance(value, dict):
            line |= {f"{name}.{key}": item for key, item in value.items()}
        elif isinstance(value, list | tuple):
            line[name] = " ".join(map(str, value))
        else:
            line[name] = value
    return line


def _all_latencies(results: Sequence[Result]) -> Latencies:
    repeats = [repeat for result in results for repeat in result.repeats if repeat.latency_ms]
    return Latencies.merged([(one.histogram, one.latency_ms["max"], one.latency_ms["mean"]) for one in repeats])


def ray_metrics(result: Result) -> list[dict[str, Any]]:
    """Ray's release metrics: name, value and type (LATENCY or THROUGHPUT)."""
    prefix = "_".join(filter(None, (result.measured.config, result.measured.target.replace("-", "_"))))
    kinds = {"latency_ms.": "LATENCY", "rows_per_s": "THROUGHPUT", "requests_per_s": "THROUGHPUT"}
    return [
        {
            "perf_metric_name": f"{prefix}_{name.replace('.', '_')}",
            "perf_metric_value": found.median,
            "perf_metric_type": kind,
        }
        for name, found in result.summary.items()
        for start, kind in kinds.items()
        if name.startswith(start)
    ]
