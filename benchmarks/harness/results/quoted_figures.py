"""Figures that pages quote from result files: a number, then a comment with the file and the figure.

    0.23 ms<!-- figure: serving/added_latency.json p50 added by the gateway, ms -->
    98 %<!-- figure: serving/ideal_share.json /found/rows_per_request/64/summary/together_share/median -->

The figure is a name among the ``figures`` of the file, or a JSON Pointer (RFC 6901,
https://www.rfc-editor.org/rfc/rfc6901) into the file. A percentage is compared with 100 times the value, and every
number with as many digits as the page has.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cascade.benchmarks.errors import ResultError
from cascade.benchmarks.harness.results.result_file import RESULTS

__all__ = ["Quote", "quotes"]

MARKED = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)([^\d\n<]{0,20})<!-- figure: (\S+\.json) (.+?) -->")
MARKER = re.compile(r"<!-- figure: ")


@dataclass(frozen=True)
class Quote:
    """A number of a page.

    Attributes:
        text: the number as the page has it, with its unit.
        shown: its value; a percentage divided by 100.
        digit: value of one unit of its last digit.
        file: path inside ``benchmarks/results``.
        figure: name or pointer.
    """

    text: str
    shown: float
    digit: float
    file: str
    figure: str

    def matches(self, results: Path = RESULTS) -> bool:
        """Whether the number is the file's, rounded.

        Raises:
            ResultError: the file has no such number.
        """
        return abs(self.shown - _value(results / self.file, self.figure)) <= 0.5001 * self.digit


def quotes(text: str) -> Iterator[Quote]:
    """All quotes of a page.

    Raises:
        ResultError: a marker does not follow a number.
    """
    found = list(MARKED.finditer(text))
    if len(found) != len(MARKER.findall(text)):
        raise ResultError("every <!-- figure: file.json name --> must follow a number on its line")
    for shown, unit, file, figure in (match.groups() for match in found):
        scale = 0.01 if unit.lstrip().startswith("%") else 1.0
        decimals = len(shown.partition(".")[2])
        value = float(shown.replace(",", ""))
        yield Quote((shown + unit).strip(" *"), scale * value, scale * 10.0**-decimals, file, figure)


@cache
def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{file} cannot be read: {error}") from error


def _value(file: Path, figure: str) -> float:
    pointer = figure[1:].split("/") if figure.startswith("/") else ["figures", figure, "value"]
    value = _content(file)
    for key in (part.replace("~1", "/").replace("~0", "~") for part in pointer):
        try:
            value = value[int(key) if isinstance(value, list) else key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ResultError(f"{file} has no {figure!r}: {error}") from error
    if not isinstance(value, int | float):
        raise ResultError(f"{file} {figure!r} must be a number; got {value!r}")
    return float(value)
