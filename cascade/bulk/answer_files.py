"""The answers of a bulk job as Parquet files, and their summary."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.answers import Answers
from cascade.bulk.part import Part
from cascade.errors import DataError

__all__ = ["count_rows", "summarised", "write_answers"]


def write_answers(
    path: Path, part: Part, answers: Answers, stages: Sequence[str], classes: Sequence[str] | None
) -> None:
    """Writes the answers of a part; the file appears when it is whole.

    Args:
        path: of the file.
        part: n rows, of which m can be read; the others have no answer.
        answers: m.
        stages: names.
        classes: names; ``None`` if there are none.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    import pyarrow as pa
    from pyarrow import parquet

    count = len(part)
    # Parquet has no rows of two kinds, so a row without an answer takes a null in every column of answers.
    place = np.full(count, -1)
    place[[each for each in range(count) if each not in part.broken]] = np.arange(len(answers))
    indices = pa.array(place, mask=place < 0) if part.broken else None

    def column(values: Any, kind: Any = None) -> Any:
        array = pa.array(values, kind)
        return array if indices is None else array.take(indices)

    file = [part.file] * count if isinstance(part.file, str) else list(part.file)
    abstained = np.zeros(len(answers), dtype=bool) if answers.abstained is None else answers.abstained
    columns: dict[str, Any] = {
        "file": pa.array(file, pa.string()).dictionary_encode(),
        "row": np.arange(part.start, part.start + count),
        "answer": column(answers.answer, pa.int64()),
        "stage": column(_names(stages, answers.stage)).dictionary_encode(),
        "confidence": column(answers.confidence, pa.float64()),
        "cost": column(answers.cost, pa.float64()),
        "abstained": column(abstained, pa.bool_()),
    }
    if classes is not None:
        columns["label"] = column(_names(classes, answers.answer))
    if part.label is not None:
        columns["correct"] = column(answers.answer == part.label, pa.bool_())
    if part.broken:
        columns["error"] = pa.array([part.broken.get(each) for each in range(count)], pa.string())
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file_:
            parquet.write_table(pa.table(columns), file_)
            file_.flush()
            os.fsync(file_.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _names(names: Sequence[str], index: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), pa.array(names, pa.string())).dictionary_decode()


def count_rows(path: Path) -> int:
    """Rows of a file of answers.

    Raises:
        DataError: it is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}, a file of answers, is damaged ({error}); remove it, and it is scored again"
        ) from error


def summarised(paths: Sequence[Path], stages: Sequence[str]) -> dict[str, Any]:
    """What the answers have in common.

    Args:
        paths: of the files of answers.
        stages: names.

    Returns:
        Rows, parts, share of the answers of each stage, mean cost, share of abstained rows, accuracy of the answers
        that were not abstained from (``None`` without labels), and the number of rows that could not be read.
    """
    from pyarrow import parquet

    answered = dict.fromkeys(stages, 0)
    rows = broken = abstained = labelled = correct = 0
    cost = 0.0
    for path in paths:
        file = parquet.ParquetFile(path)
        wanted = [name for name in ("stage", "cost", "abstained", "correct") if name in file.schema_arrow.names]
        table = file.read(columns=wanted)
        whole = table.num_rows
        table = table.drop_null()
        rows, broken = rows + table.num_rows, broken + whole - table.num_rows
        cost += float(table["cost"].to_numpy().sum())
        withheld = table["abstained"].to_numpy()
        abstained += int(withheld.sum())
        for each in table["stage"].value_counts().to_pylist():
            answered[each["values"]] += each["counts"]
        if "correct" in wanted:
            labelled += int((~withheld).sum())
            correct += int(table["correct"].to_numpy()[~withheld].sum())
    return {
        "rows": rows + broken,
        "parts": len(paths),
        "stage_share": {name: count / rows if rows else 0.0 for name, count in answered.items()},
        "mean_cost": cost / rows if rows else None,
        "abstained": abstained / rows if rows else None,
        "accuracy": correct / labelled if labelled else None,
        "unreadable_rows": broken,
    }
