"""Files of named columns: CSV, Parquet, Arrow and JSON lines, read in batches by pyarrow (extra ``tables``)."""

import bisect
import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from cascade.errors import InputError

__all__ = ["FORMATS", "ColumnKind", "TableFile", "is_table_file", "need_package", "row_group_starts"]

ColumnKind = Literal["number", "integer", "boolean", "text", "any"]
"""Forced type of a column, for formats without types: float64, int64, bool, text, or the one that all values have."""

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
BATCH_ROWS = 65_536
JSON_BATCH_ROWS = 8_192


def is_table_file(path: Path | str) -> bool:
    """Whether the name of a file ends as that of a CSV, Parquet, Arrow or JSON lines file."""
    return Path(path).suffix.lower() in FORMATS


def need_package(name: str, purpose: str, error_type: type[InputError]) -> Any:
    """Imports a package of the extra ``tables``.

    Raises:
        InputError: of ``error_type``: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise error_type(
            f"{purpose} needs {error.name}; install the extra: pip install 'idk-cascade[tables]'"
        ) from error


@dataclass(frozen=True)
class TableFile:
    """A file of named columns.

    Attributes:
        path: of the file.
        names: of its columns, in order.
        error_type: raised if the file cannot be used.
    """

    path: Path
    names: tuple[str, ...]
    error_type: type[InputError]

    @classmethod
    def open(cls, path: Path | str, error_type: type[InputError]) -> "TableFile":
        """Reads the names of the columns.

        Raises:
            FileNotFoundError: there is no such file.
            InputError: of ``error_type``: the file is damaged or empty, or names are missing or repeated.
        """
        path = Path(path)
        need_package("pyarrow", f"reading {path}", error_type)
        if path.is_dir():
            raise error_type(f"{path} is a folder, not a file")
        if not path.exists():
            raise FileNotFoundError(path)
        with _readable(path, error_type):
            names = _NAMES[_format(path)](path, error_type)
        if not names:
            raise error_type(f"{path} has no columns")
        unnamed = [place for place, name in enumerate(names, 1) if not name.strip()]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if unnamed or repeated:
            wrong = f"column {unnamed[0]} has no name" if unnamed else f"several columns are called {repeated[0]!r}"
            raise error_type(f"{path}: {wrong}; every column needs a name of its own in the header")
        return cls(path, tuple(names), error_type)

    def place(self, row: int) -> str:
        """Where a row is, for messages: its number from 0, and the line of a text file."""
        first = {"csv": 2, "jsonl": 1}.get(_format(self.path))
        return f"row {row}" if first is None else f"row {row} (line {row + first})"

    def batches(self, columns: Mapping[str, ColumnKind], start: int = 0) -> Iterator[Any]:
        """Reads some columns, a batch of rows at a time.

        Args:
            columns: names, with the types that columns of CSV and JSON lines must have. Where one of a CSV file is
                "any", its type depends on all rows, and the columns are read at once.
            start: index of the first row; the row groups of a Parquet file before it are not read.

        Yields:
            Record batches of pyarrow, with the columns in this order.

        Raises:
            InputError: the file is damaged, or a value has another type.
        """
        with _readable(self.path, self.error_type):
            if start and _format(self.path) == "parquet":
                batches, start = _parquet_from(self, columns, start)
            else:
                batches = _BATCHES[_format(self.path)](self, columns)
            for batch in batches:
                if not start or start < batch.num_rows:
                    yield batch.slice(start)
                start = max(0, start - batch.num_rows)


def _format(path: Path) -> str:
    return FORMATS[path.suffix.lower()]


@contextmanager
def _readable(path: Path, error_type: type[InputError]) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise error_type(f"{path} cannot be read as {_format(path)}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _csv_names(path: Path, _: type[InputError]) -> list[str]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, delimiter=_delimiter(path)), [])


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _csv_batches(file: TableFile, columns: Mapping[str, ColumnKind]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    types = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string()}
    convert = csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: types[kind] for name, kind in columns.items() if kind in types},
        null_values=["", "NA", "NaN", "nan", "null", "None"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = csv.ParseOptions(delimiter=_delimiter(file.path), newlines_in_values=True)
    read = csv.ReadOptions(use_threads=False, column_names=list(file.names), skip_rows_after_names=1)
    if "any" in columns.values():
        yield from csv.read_csv(file.path, read, parse, convert).to_batches(BATCH_ROWS)
        return
    with csv.open_csv(file.path, read, parse, convert) as reader:
        yield from reader


def _parquet_names(path: Path, _: type[InputError]) -> list[str]:
    from pyarrow import parquet

    return list(parquet.read_schema(path).names)


def _parquet_batches(file: TableFile, columns: Mapping[str, ColumnKind], first: int = 0) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(file.path) as source:
        for group in range(first, source.num_row_groups):  # one after the other, so that damage is met late
            for batch in source.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(columns)):
                yield batch.select(list(columns))


def _parquet_from(file: TableFile, columns: Mapping[str, ColumnKind], start: int) -> tuple[Iterator[Any], int]:
    """The batches from the row group that holds a row on, and the number of rows in it before that row."""
    starts = row_group_starts(file.path, file.error_type)
    group = bisect.bisect_right(starts, start) - 1
    return _parquet_batches(file, columns, group), start - starts[group]


@contextmanager
def _arrow_source(path: Path) -> Iterator[Any]:
    """The batches of an Arrow file, in the file or the stream format."""
    import pyarrow as pa
    from pyarrow import ipc

    with pa.memory_map(str(path)) as source:
        try:
            reader = ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            reader = ipc.open_stream(source)
        yield reader


def _arrow_names(path: Path, _: type[InputError]) -> list[str]:
    with _arrow_source(path) as reader:
        return list(reader.schema.names)


def _arrow_batches(file: TableFile, columns: Mapping[str, ColumnKind]) -> Iterator[Any]:
    with _arrow_source(file.path) as reader:
        count = getattr(reader, "num_record_batches", None)
        batches = reader if count is None else map(reader.get_batch, range(count))
        for batch in batches:
            yield batch.select(list(columns))


def _json_rows(path: Path, error_type: type[InputError]) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise error_type(
                    f"{path}, line {number}, is not JSON: {error}; each line must be one object"
                ) from error
            if not isinstance(row, dict):
                raise error_type(f"{path}, line {number}, must be a JSON object; got {type(row).__name__}")
            yield row


def _json_names(path: Path, error_type: type[InputError]) -> list[str]:
    """The keys of the first rows, since a missing value may be left out."""
    first = itertools.islice(_json_rows(path, error_type), 1000)
    return list(dict.fromkeys(itertools.chain.from_iterable(first)))


def _json_batches(file: TableFile, columns: Mapping[str, ColumnKind]) -> Iterator[Any]:
    import pyarrow as pa

    rows = _json_rows(file.path, file.error_type)
    types: dict[str, Any] = {}
    known, done = set(file.names), 0
    while batch := list(itertools.islice(rows, JSON_BATCH_ROWS)):
        for place, row in enumerate(batch, done):
            if not known >= row.keys():
                other = next(name for name in row if name not in known)
                raise file.error_type(
                    f"{file.path}: {file.place(place)} has the key {other!r}, which no row before has"
                )
        arrays = []
        for name, kind in columns.items():
            values = [row.get(name) for row in batch]
            try:
                array = _json_column(values, kind, types.get(name))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise file.error_type(
                    f"{file.path}: column {name!r} must have one type; {_first_line(error)} "
                    f"(from {file.place(done)} on)"
                ) from error
            if not pa.types.is_null(array.type):
                types[name] = array.type
            arrays.append(array)
        yield pa.record_batch(arrays, names=list(columns))
        done += len(batch)


def _json_column(values: Sequence[Any], kind: ColumnKind, wanted: Any) -> Any:
    import pyarrow as pa

    if kind == "text":
        values = [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
        return pa.array(values, pa.string())
    if kind == "number":
        return pa.array(values, pa.float64())
    array = pa.array(values)
    return array.cast(wanted) if wanted is not None and pa.types.is_null(array.type) else array


_NAMES: dict[str, Callable[[Path, type[InputError]], list[str]]] = {
    "csv": _csv_names,
    "parquet": _parquet_names,
    "arrow": _arrow_names,
    "jsonl": _json_names,
}
_BATCHES: dict[str, Callable[[TableFile, Mapping[str, ColumnKind]], Iterator[Any]]] = {
    "csv": _csv_batches,
    "parquet": _parquet_batches,
    "arrow": _arrow_batches,
    "jsonl": _json_batches,
}


def row_group_starts(path: Path, error_type: type[InputError]) -> list[int]:
    """Index of the first row of each row group of a Parquet file, and at the end the number of its rows.

    Raises:
        InputError: of ``error_type``: the file is damaged, or is no Parquet file.
    """
    from pyarrow import parquet

    if FORMATS.get(path.suffix.lower()) != "parquet":
        raise error_type(f"{path} has no row groups")
    with _readable(path, error_type), parquet.ParquetFile(path) as source:
        rows = [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]
    return [0, *itertools.accumulate(rows)]
