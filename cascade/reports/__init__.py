"""Reports: a policy on a score table, as pictures and as one HTML page.

A :class:`Replay` is computed from a score table and a policy; all figures and the page are made from it.
"""

from cascade.reports.figures.flow_figure import flow_figure
from cascade.reports.figures.frontier_figure import frontier_figure
from cascade.reports.figures.picture import inline_svg, save_picture
from cascade.reports.figures.pictures import write_pictures
from cascade.reports.figures.reliability_figure import reliability_figure
from cascade.reports.figures.risk_coverage_figure import risk_coverage_figure
from cascade.reports.measures.certified_points import CertifiedFrontier, certified_frontier
from cascade.reports.measures.frontier_points import FrontierPoint, frontier_points
from cascade.reports.measures.paired_difference import paired_difference_interval
from cascade.reports.measures.reliability import Reliability, reliability
from cascade.reports.measures.replay import Replay
from cascade.reports.measures.risk_coverage import RiskCoverage, risk_coverage
from cascade.reports.measures.slice_file import load_slices
from cascade.reports.measures.slices import Slice, compare_slices
from cascade.reports.measures.stage_value import StageValues, stage_values
from cascade.reports.page import report_page, write_report
from cascade.reports.tables.report_table import ReportTable

__all__ = [
    "CertifiedFrontier",
    "FrontierPoint",
    "Reliability",
    "Replay",
    "ReportTable",
    "RiskCoverage",
    "Slice",
    "StageValues",
    "certified_frontier",
    "compare_slices",
    "flow_figure",
    "frontier_figure",
    "frontier_points",
    "inline_svg",
    "load_slices",
    "paired_difference_interval",
    "reliability",
    "reliability_figure",
    "report_page",
    "risk_coverage",
    "risk_coverage_figure",
    "save_picture",
    "stage_values",
    "write_pictures",
    "write_report",
]
