"""The report: one self-contained HTML page, which needs no network and is readable without its script."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

import cascade
from cascade.calibration import Policy, ScoreTable
from cascade.errors import InputError
from cascade.reports.explorer import choices, start
from cascade.reports.figures.flow_figure import flow_figure
from cascade.reports.figures.frontier_figure import frontier_figure
from cascade.reports.figures.picture import inline_svg
from cascade.reports.figures.pictures import write_pictures
from cascade.reports.figures.reliability_figure import reliability_figure
from cascade.reports.figures.risk_coverage_figure import risk_coverage_figure
from cascade.reports.measures.certified_points import CertifiedFrontier, certified_frontier
from cascade.reports.measures.replay import Replay
from cascade.reports.tables import headline
from cascade.reports.tables.detail_tables import knowledge_table, slice_tables, value_table
from cascade.reports.tables.detection_table import detection_tables
from cascade.reports.tables.judgement_table import judgement_table
from cascade.reports.tables.report_table import ReportTable
from cascade.reports.text import cell
from cascade.theme import style_sheet

__all__ = ["report_page", "write_report"]


def write_report(
    table: ScoreTable,
    policy: Policy,
    path: Path | str,
    tables: Sequence[ReportTable] = (),
    *,
    calibration: ScoreTable | None = None,
    delta: float | None = None,
    slices: Mapping[str, np.ndarray] | None = None,
    pictures: Path | str | None = None,
) -> Replay:
    """Writes the report of a policy as one HTML file.

    Args:
        table: n rows to replay the policy on.
        policy: of the table's stages.
        path: the file to write.
        tables: further sections, such as measured throughput.
        calibration: table that certifies points of the frontier; without it, no point is certified.
        delta: risk of each certified point; by default the policy's, otherwise 0.05.
        slices: (n,) arrays of int, bool or str, on whose values the cascade is compared with its last stage.
        pictures: folder for the report's pictures as PNG files; created if missing.

    Returns:
        The figures of the report, for further use.

    Raises:
        PolicyError: the policy is for other stages than a table, its certificate cannot be read, or it cannot be
            certified again.
        ScoreTableError: the calibration table lacks the inputs of the policy's calibrators.
        ValueError: delta is not in (0, 1).
        InputError: a file cannot be written.
    """
    replay = Replay.of(table, policy)
    certified = None if calibration is None else certified_frontier(calibration, policy, table, delta)
    page = report_page(replay, tables, certified, slices)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error}") from error
    if pictures is not None:
        write_pictures(replay, pictures, certified)
    return replay


def report_page(
    replay: Replay,
    tables: Sequence[ReportTable] = (),
    certified: CertifiedFrontier | None = None,
    slices: Mapping[str, np.ndarray] | None = None,
) -> str:
    """The HTML of the page; deterministic.

    Args:
        replay: of a policy on n rows.
        tables: further sections.
        certified: points that a calibration table certifies.
        slices: (n,) arrays of int, bool or str.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    picture = frontier_figure(replay, certified)
    return environment.from_string(_resource("page.html.jinja")).render(
        replay=replay,
        version=cascade.__version__,
        colours=Markup(style_sheet()),  # noqa: S704 - of this package's constants alone
        script=Markup(_resource("explorer.js")),  # noqa: S704 - a constant
        tiles=headline.tiles(replay),
        comparison=headline.comparison(replay),
        stage_table=headline.stage_table(replay),
        judgement=replay.judgement,
        judgement_table=judgement_table(replay.judgement, replay.policy.cost_unit),
        sameness=headline.sameness(replay),
        certificate=headline.certificate_facts(replay),
        flow=_flow(replay),
        frontier=_frontier(replay, picture),
        start=start(replay, picture),
        kinds=choices(replay, picture, certified),
        certified=certified,
        value_table=value_table(replay),
        reliability=[_reliability(replay, stage) for stage in replay.judged_stages],
        risk=[_risk(replay, stage) for stage in replay.judged_stages],
        knowledge_table=knowledge_table(replay),
        slice_tables=slice_tables(replay, slices or {}),
        tables=[*detection_tables(replay.evaluation, replay.positive_name), *tables],
    )


def _resource(name: str) -> str:
    return resources.files("cascade.reports").joinpath(name).read_text(encoding="utf-8")


def _flow(replay: Replay) -> Markup:
    parts = zip(replay.policy.stages, replay.answered, strict=True)
    description = "Rows answered by " + ", ".join(f"{name}: {answered}" for name, answered in parts)
    return _inline(flow_figure(replay), "flow", description)


def _frontier(replay: Replay, picture: Figure) -> Markup:
    description = f"{replay.sought_name} over mean cost per row: the frontier, each stage alone and this policy"
    return _inline(picture, "frontier", description)


def _reliability(replay: Replay, stage: int) -> Markup:
    description = f"{replay.gain_name} over confidence of {replay.policy.stages[stage]}, before and after calibration"
    return _inline(reliability_figure(replay, [stage]), f"reliability-{stage}", description)


def _risk(replay: Replay, stage: int) -> Markup:
    description = f"risk over coverage of {replay.policy.stages[stage]}, and of the ideal order of its answers"
    return _inline(risk_coverage_figure(replay, [stage]), f"risk-{stage}", description)


def _inline(figure: Figure, name: str, description: str) -> Markup:
    return Markup(inline_svg(figure, name, description))  # noqa: S704 - escaped by matplotlib
