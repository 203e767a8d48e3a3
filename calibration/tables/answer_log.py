"""Logs of answers: a row for each input, with the prediction and the confidence of each model, and the right label."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import ScoreTableError
from cascade.files.tables import ColumnKind, TableFile

__all__ = ["AnswerLog", "read_answer_log"]

WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
PARTS: dict[str, ColumnKind] = {"prediction": "text", "confidence": "number", "cost": "number"}
"""Columns of a stage: ``small.prediction`` and so on."""


@dataclass(frozen=True)
class AnswerLog:
    """What was read.

    Attributes:
        arrays: of a score table, by name.
        ignored: columns that were not read.
    """

    arrays: dict[str, Any]
    ignored: tuple[str, ...]


@dataclass
class _Names:
    """Ids of names, in the order in which they come."""

    ids: dict[str, int] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self.ids.setdefault(name, len(self.ids)) for name in names], dtype=np.int64)


def read_answer_log(
    path: Path | str,
    columns: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
    stages: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    ignore_others: bool = False,
) -> AnswerLog:
    """Reads a CSV, Parquet, Arrow or JSON lines file, in batches.

    The columns are ``label`` (optional) and, for each stage, ``STAGE.prediction``, ``STAGE.confidence`` and, unless
    ``costs`` has it, ``STAGE.cost``. Predictions and labels that are all whole numbers >= 0 are ids of classes; else
    they are names, and the classes are the sorted names.

    Args:
        path: of the file.
        columns: other names of columns, such as ``{"small.prediction": "pred_a", "label": "truth"}``.
        costs: constant cost per row of stages.
        stages: names, cheapest first; by default all in the file, in its order.
        classes: (C,) names of the classes 0 to C - 1.
        ignore_others: whether the file may have other columns. Those that begin with the name of a stage and a dot
            are refused in any case.

    Raises:
        ScoreTableError: the file is missing or damaged; a column is missing or unknown; or a value is missing or is
            neither a number nor a class.
    """
    try:
        file = TableFile.open(path, ScoreTableError)
    except FileNotFoundError as error:
        raise ScoreTableError(f"{path} does not exist") from error
    named = dict(columns or {})
    constant = dict(costs or {})
    source = _sources(file, named)
    found = _stages(source, stages, constant)
    wanted = [f"{stage}.{part}" for stage in found for part in PARTS if part != "cost" or stage not in constant]
    _check_columns(file, source, wanted, found)
    wanted += [name for name in ("label",) if name in source]
    ignored = tuple(name for name in file.names if name not in {source[each] for each in wanted})
    if ignored and (not ignore_others or any(name.startswith(tuple(f"{s}." for s in found)) for name in ignored)):
        raise ScoreTableError(
            f"{path} has other columns: {', '.join(map(repr, ignored))}. A score table has 'label' and, for each "
            f"stage, {', '.join(f'STAGE.{part}' for part in PARTS)}; the stages here are {', '.join(found)}. Name a "
            "column with 'cascade import --column small.prediction=NAME', or leave all others out with --ignore-others"
        )
    return AnswerLog(_arrays(file, {name: source[name] for name in wanted}, found, constant, classes), ignored)


def _sources(file: TableFile, named: Mapping[str, str]) -> dict[str, str]:
    """Column of the file for each name of a score table's column."""
    unknown = [column for column in named.values() if column not in file.names]
    if unknown:
        raise ScoreTableError(f"{file.path} has no column {unknown[0]!r}; its columns are {', '.join(file.names)}")
    wrong = [name for name in named if name != "label" and name.rpartition(".")[2] not in PARTS]
    if wrong or any(not name.rpartition(".")[0] for name in named if name != "label"):
        raise ScoreTableError(
            f"columns are named 'label' or STAGE.{{{','.join(PARTS)}}}; got {(wrong or list(named))[0]!r}"
        )
    renamed = {column: name for name, column in named.items()}
    return {renamed.get(column, column): column for column in file.names}


def _stages(source: Mapping[str, str], stages: Sequence[str] | None, costs: Mapping[str, float]) -> list[str]:
    pairs = [(stage, part) for stage, dot, part in (name.rpartition(".") for name in source) if dot and stage]
    found = list(dict.fromkeys(stage for stage, part in pairs if part in ("prediction", "confidence")))
    if not found:
        raise ScoreTableError(
            "there is no column such as 'small.prediction'; name the columns of each stage with "
            "'cascade import --column small.prediction=NAME --column small.confidence=NAME'. "
            f"The columns are {', '.join(source.values())}"
        )
    unknown = [stage for stage in [*(stages or ()), *costs] if stage not in found]
    if unknown:
        raise ScoreTableError(f"there is no stage {unknown[0]!r}; the columns have the stages {', '.join(found)}")
    return found if stages is None else list(stages)


def _check_columns(file: TableFile, source: Mapping[str, str], wanted: Sequence[str], stages: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in source]
    if not missing:
        return
    hint = ""
    if all(name.endswith(".cost") for name in missing):
        hint = "; where a stage costs the same for every row, give it with 'cascade import --cost small=0.2'"
    raise ScoreTableError(
        f"{file.path} lacks the columns {', '.join(map(repr, missing))} of the stages {', '.join(stages)}{hint}"
    )


def _arrays(
    file: TableFile,
    source: Mapping[str, str],
    stages: Sequence[str],
    costs: Mapping[str, float],
    classes: Sequence[str] | None,
) -> dict[str, Any]:
    kinds: dict[str, ColumnKind] = {
        column: PARTS.get(name.rpartition(".")[2], "text") for name, column in source.items()
    }
    parts: dict[str, list[np.ndarray]] = {name: [] for name in source}
    names, row = _Names(), 0
    for batch in file.batches(kinds):
        for name, column in source.items():
            read = _numbers if kinds[column] == "number" else _classes
            parts[name].append(read(file, column, batch.column(column), row, names))
        row += batch.num_rows
    if not row:
        raise ScoreTableError(f"{file.path} has no rows")
    whole = {name: np.concatenate(pieces) for name, pieces in parts.items()}
    ids, known = _class_ids(file, names, classes)
    cost = [whole.get(f"{stage}.cost", np.full(row, costs.get(stage, 0.0))) for stage in stages]
    is_constant = not any(f"{stage}.cost" in whole for stage in stages)
    arrays: dict[str, Any] = {
        "prediction": ids[np.stack([whole[f"{stage}.prediction"] for stage in stages], axis=1)],
        "confidence": np.stack([whole[f"{stage}.confidence"] for stage in stages], axis=1),
        "cost": np.array([each[0] for each in cost]) if is_constant else np.stack(cost, axis=1),
        "stage": np.array(stages),
    }
    if "label" in whole:
        arrays["label"] = ids[whole["label"]]
    return arrays | ({} if known is None else {"classes": np.array(known)})


def _numbers(file: TableFile, column: str, values: Any, row: int, _: _Names) -> np.ndarray:
    import pyarrow as pa

    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise ScoreTableError(f"{file.path}: column {column!r} must be numbers; got {kind}")
    _refuse_missing(file, column, values, row)
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _classes(file: TableFile, column: str, values: Any, row: int, names: _Names) -> np.ndarray:
    """Places of the values in ``names``."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        hint = "; if they are ids, store them as integers" if pa.types.is_floating(kind) else ""
        raise ScoreTableError(f"{file.path}: column {column!r} must be classes, as integers or texts; got {kind}{hint}")
    _refuse_missing(file, column, values, row)
    encoded = values.cast(pa.string()).dictionary_encode()
    places = names.of(encoded.dictionary.to_pylist())
    return np.asarray(places[encoded.indices.to_numpy(zero_copy_only=False)])


def _refuse_missing(file: TableFile, column: str, values: Any, row: int) -> None:
    if values.null_count:
        first = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise ScoreTableError(
            f"{file.path}: {file.place(row + first)} has no value in column {column!r}; every model must have answered "
            "every row, so leave incomplete rows out"
        )


def _class_ids(file: TableFile, names: _Names, classes: Sequence[str] | None) -> tuple[np.ndarray, list[str] | None]:
    """The class id of each name, and the names of the classes; ``None`` if the names are ids."""
    found = list(names.ids)
    if classes is None and all(WHOLE_NUMBER.fullmatch(name) for name in found):
        return np.array([int(name) for name in found], dtype=np.int64), None
    known = sorted(found) if classes is None else list(classes)
    place = {name: number for number, name in enumerate(known)}
    other = [name for name in found if name not in place]
    if other:
        raise ScoreTableError(f"{file.path} has predictions or labels that are not classes: {', '.join(other[:5])}")
    return np.array([place[name] for name in found], dtype=np.int64), known
