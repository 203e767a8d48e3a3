"""The raw log: a line for each request, written while the load runs."""

import csv
import json
import math
from pathlib import Path
from types import TracebackType
from typing import IO

from typing_extensions import Self

from cascade.benchmarks.clients.lane import ANSWERED, name_of
from cascade.benchmarks.generator.slices import Slice
from cascade.errors import InputError
from cascade.files.result_files import check_output

__all__ = ["LOG_SUFFIXES", "RequestLog"]

LOG_SUFFIXES = (".jsonl", ".csv")
COLUMNS = ("repeat", "due_s", "lag_ms", "sent_s", "done_s", "latency_ms", "request", "status")


class RequestLog:
    """Writes requests as JSONL or CSV, by the suffix of the file.

    Args:
        path: of the file; an older one is replaced.

    Attributes:
        problem: why it is not whole; ``None`` if it is.

    Raises:
        InputError: the suffix is another one, or the path is not that of a file.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in LOG_SUFFIXES:
            raise InputError(f"a log of requests must end in {' or '.join(LOG_SUFFIXES)}; got {path.name!r}")
        self.path = check_output(path)
        self.repeat = 0
        self.problem: OSError | None = None

    def __enter__(self) -> Self:
        self._file: IO[str] = self.path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file) if self.path.suffix == ".csv" else None
        if self._csv is not None:
            self._csv.writerow(COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as problem:
            self.problem = problem

    def add(self, part: Slice) -> None:
        """Writes the requests of a slice; after a failure, such as a full disk, none any more."""
        if self.problem is not None:
            return
        lines = []
        for due, handled, sent, done, request, _, status in part.records.tolist():
            word = "answered" if status == ANSWERED else name_of(status)
            line = (self.repeat, due, (handled - due) * 1e3, sent, done, (done - due) * 1e3, request, word)
            lines.append([_rounded(value) for value in line])
        try:
            if self._csv is not None:
                self._csv.writerows(lines)
            else:
                self._file.writelines(json.dumps(dict(zip(COLUMNS, line))) + "\n" for line in lines)
            self._file.flush()
        except OSError as problem:
            self.problem = problem


def _rounded(value: float | int | str) -> float | int | str | None:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
