"""Reports: what a policy does on a score table, as pictures and as one page of HTML.

The way of the data: a score table and a policy make a :class:`Replay`; every figure and the page are drawn from it.
"""

from cascade.reports.flow_figure import flow_figure
from cascade.reports.frontier_figure import frontier_figure
from cascade.reports.page import report_page, write_report
from cascade.reports.picture import inline_svg, save_picture
from cascade.reports.reliability import Reliability, reliability
from cascade.reports.reliability_figure import reliability_figure
from cascade.reports.replay import Replay
from cascade.reports.report_table import ReportTable

__all__ = [
    "Reliability",
    "Replay",
    "ReportTable",
    "flow_figure",
    "frontier_figure",
    "inline_svg",
    "reliability",
    "reliability_figure",
    "report_page",
    "save_picture",
    "write_report",
]
