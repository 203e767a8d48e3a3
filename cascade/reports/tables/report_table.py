"""A table that is added to a report, such as measured throughput."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ReportTable"]

Cell = str | int | float | None


@dataclass(frozen=True)
class ReportTable:
    """A section of a report with one table in it.

    Attributes:
        title: heading of the section.
        header: names of the columns.
        rows: one cell per column each; numbers are formatted, ``None`` is a dash.
        note: a sentence below the table, such as the machine it was measured on.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
