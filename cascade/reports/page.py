"""The report: one HTML page that needs nothing else, no network, no script."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import cascade
from cascade.calibration import Policy, ScoreTable
from cascade.errors import InputError
from cascade.reports import headline
from cascade.reports.flow_figure import flow_figure
from cascade.reports.frontier_figure import frontier_figure
from cascade.reports.picture import inline_svg
from cascade.reports.reliability_figure import diagram_stages, reliability_figure
from cascade.reports.replay import Replay
from cascade.reports.report_table import ReportTable
from cascade.reports.text import cell
from cascade.reports.theme import style_sheet

__all__ = ["report_page", "write_report"]


def write_report(table: ScoreTable, policy: Policy, path: Path | str, tables: Sequence[ReportTable] = ()) -> Replay:
    """Writes the report of a policy as one HTML file.

    Args:
        table: the rows to replay the policy on.
        policy: of the table's stages.
        path: the file to write.
        tables: further sections, such as measured throughput.

    Returns:
        What the report shows, for figures and numbers of one's own.

    Raises:
        PolicyError: the policy is of other stages than the table.
        InputError: the file cannot be written.
    """
    replay = Replay.of(table, policy)
    page = report_page(replay, tables)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error}") from error
    return replay


def report_page(replay: Replay, tables: Sequence[ReportTable] = ()) -> str:
    """The text of the page; the same replay gives the same text.

    Args:
        replay: of a policy.
        tables: further sections.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    source = resources.files("cascade.reports").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        replay=replay,
        version=cascade.__version__,
        colours=Markup(style_sheet()),  # noqa: S704 - of this package's constants alone
        tiles=headline.tiles(replay),
        comparison=headline.comparison(replay),
        stage_table=headline.stage_table(replay),
        promise=headline.promise(replay),
        sameness=headline.sameness(replay),
        certificate=headline.certificate_facts(replay),
        flow=_flow(replay),
        frontier=_frontier(replay),
        reliability=[_reliability(replay, stage) for stage in diagram_stages(replay)],
        tables=tables,
    )


def _flow(replay: Replay) -> Markup:
    parts = zip(replay.policy.stages, replay.answered, strict=True)
    description = "Rows answered by " + ", ".join(f"{name}: {answered}" for name, answered in parts)
    return Markup(inline_svg(flow_figure(replay), "flow", description))  # noqa: S704 - escaped by matplotlib


def _frontier(replay: Replay) -> Markup:
    description = f"{replay.gain_name} over mean cost of a row: the frontier, each stage alone and this policy"
    return Markup(inline_svg(frontier_figure(replay), "frontier", description))  # noqa: S704 - escaped by matplotlib


def _reliability(replay: Replay, stage: int) -> Markup:
    description = f"{replay.gain_name} over confidence of {replay.policy.stages[stage]}, before and after calibration"
    figure = reliability_figure(replay, [stage])
    return Markup(inline_svg(figure, f"reliability-{stage}", description))  # noqa: S704 - escaped by matplotlib
