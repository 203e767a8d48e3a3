"""The pictures of a report as separate files."""

from pathlib import Path

from cascade.errors import InputError
from cascade.reports.figures.flow_figure import flow_figure
from cascade.reports.figures.frontier_figure import frontier_figure
from cascade.reports.figures.picture import save_picture
from cascade.reports.figures.reliability_figure import reliability_figure
from cascade.reports.figures.risk_coverage_figure import risk_coverage_figure
from cascade.reports.measures.certified_points import CertifiedFrontier
from cascade.reports.measures.replay import Replay

__all__ = ["write_pictures"]


def write_pictures(replay: Replay, folder: Path | str, certified: CertifiedFrontier | None = None) -> list[Path]:
    """Writes ``frontier.png``, ``flow.png``, ``reliability.png`` and ``risk_coverage.png``.

    Of one stage without labels nothing can be judged, so the last two are left out.

    Args:
        replay: of a policy.
        folder: created if missing.
        certified: points that a calibration table certifies.

    Returns:
        The files.

    Raises:
        InputError: one cannot be written.
    """
    figures = {"frontier": frontier_figure(replay, certified), "flow": flow_figure(replay)}
    if replay.judged_stages:
        figures |= {"reliability": reliability_figure(replay), "risk_coverage": risk_coverage_figure(replay)}
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error}") from error
    for name, figure in figures.items():
        save_picture(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]
