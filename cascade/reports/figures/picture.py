"""Figures as files, and as parts of a page."""

import io
import math
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascade.errors import InputError
from cascade.theme import GRID, MUTED, PAPER, themed

__all__ = ["FONT_SIZE", "inline_svg", "new_figure", "panel_corners", "places_in_picture", "save_picture", "styled"]

FONT_SIZE = 10.0
PIXELS_PER_INCH = 200
# Text stays text, so that it is searchable and uses the page's font. The salt makes the output deterministic.
SVG_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "cascade"}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in points."""
    return Figure(figsize=(width / 72, height / 72))


def panel_corners(panels: int, columns: int, width: float, height: float) -> tuple[Figure, list[tuple[float, float]]]:
    """An empty figure for panels of one size, row by row.

    Args:
        panels: >= 0.
        columns: maximum number side by side.
        width: of a panel, in points.
        height: of a panel, in points.

    Returns:
        The figure, and the lower left corner of each panel, in points.
    """
    across = min(columns, max(panels, 1))
    down = max(math.ceil(panels / across), 1)
    corners = [(width * (panel % across), height * (down - 1 - panel // across)) for panel in range(panels)]
    return new_figure(width * across, height * down), corners


def styled(axes: Axes) -> Axes:
    """Axes with a light grid, without a box."""
    axes.set_facecolor("none")
    axes.grid(color=GRID.light, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED.light, labelsize=FONT_SIZE - 1, length=0, pad=5)
    axes.xaxis.label.set_color(MUTED.light)
    axes.yaxis.label.set_color(MUTED.light)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(MUTED.light)
    return axes


def places_in_picture(figure: Figure, data: np.ndarray) -> np.ndarray:
    """Places of points of a figure's first axes in its SVG.

    Args:
        figure: with axes whose limits are set.
        data: (m, 2) in the units of the axes.

    Returns:
        (m, 2) x to the right and y down, in the units of the ``viewBox``: points of 1/72 inch.
    """
    places = figure.axes[0].transData.transform(data) * 72 / figure.dpi
    return np.column_stack([places[:, 0], figure.get_figheight() * 72 - places[:, 1]])


def save_picture(figure: Figure, path: Path | str) -> None:
    """Writes a figure on white ground, as PNG or SVG by the ending of its name.

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise InputError(f"a picture must be named .png or .svg; got {path.name!r}")
    try:
        with mpl.rc_context(SVG_SETTINGS):
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(path, dpi=PIXELS_PER_INCH, facecolor=PAPER.light, metadata=metadata)
    except OSError as error:
        raise InputError(f"cannot write the picture {path}: {error}") from error


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an ``<svg>`` element with the colours, font and width of the page.

    Args:
        figure: drawn in the colours of the theme.
        name: unique in the page; put before every id, since pictures of one page share its ids.
        description: what the picture shows, for readers who cannot see it; plain text.
    """
    stream = io.StringIO()
    with mpl.rc_context(SVG_SETTINGS), warnings.catch_warnings():
        # The text uses the page's font, so glyphs that matplotlib's font lacks do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", stream.getvalue(), flags=re.DOTALL)
    head, body = re.fullmatch(r".*?<svg ([^>]*)>(.*)", svg, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    box = re.search(r'viewBox="[^"]*"', head)[0]  # type: ignore[index]
    # Only in tags: texts may hold anything but "<" and ">".
    body = re.sub(r"<[^>]*>", lambda tag: themed(re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", tag[0])), body)
    return f'<svg {box} role="img" aria-label="{escape(description)}">{body}'
