"""A bulk job: every part of the input becomes one Parquet file; a part that is there is not scored again."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cascade.bulk.rows_source import Part, input_files, parts
from cascade.cascade import Cascade
from cascade.config import CascadeConfig
from cascade.errors import DataError, InputError
from cascade.files.result_files import write_whole
from cascade.files.tables import need_package

__all__ = ["BulkJob"]

JOB, SUMMARY = "job.json", "summary.json"


class BulkJob:
    """Rows of files through a cascade, into a folder.

    Args:
        config: of the cascade, with whose classes labels are compared.
        cascade: loaded from it.
        source: a file or a folder.
        folder: of the result; is created. A folder of the same job is continued.
        part_rows: rows of a part, at least 1.

    Raises:
        DataError: the input is missing or has another format; or pyarrow is not installed.
        InputError: the folder is not empty and holds another job, or none.
    """

    def __init__(self, config: CascadeConfig, cascade: Cascade, source: Path, folder: Path, part_rows: int) -> None:
        need_package("pyarrow.parquet", "writing Parquet", DataError)
        self._config = config
        self._cascade = cascade
        self._folder = folder
        self._part_rows = part_rows
        self._files = input_files(source)
        self._begin(source)

    def run(self, on_part: Callable[[int, bool], None] = lambda rows, is_new: None) -> dict[str, Any]:
        """Scores the parts that are missing.

        Args:
            on_part: called after every part with its rows, and whether it was scored now.

        Returns:
            The summary, which ``summary.json`` holds too: rows, shares of the stages, mean cost and, with labels,
            accuracy.

        Raises:
            DataError: the input is damaged; all parts before the damaged place are written.
            CascadeError: rows are refused, or a model failed.
        """
        (self._folder / SUMMARY).unlink(missing_ok=True)
        written: list[Path] = []
        with self._kept(written):
            for part in parts(self._files, self._config.rows, self._config.classes, self._part_rows):
                path = self._folder / f"part-{part.number:06d}.parquet"
                is_new = not path.exists()
                if is_new:
                    self._score(part, path)
                written.append(path)
                on_part(len(part.rows), is_new)
            if not written:
                raise DataError("the input has no rows")
        summary = self._summary(written)
        write_whole(self._folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
        return summary

    def _begin(self, source: Path) -> None:
        """Notes what the job is, or compares it with what the folder holds."""
        facts = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in self._files]
        content = {
            "input": str(source.resolve()),
            "input_sha256": hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
            "policy": self._cascade.policy.version,
            "stages": [stage.name for stage in self._cascade.stages],
            "models": [stage.model for stage in self._cascade.stages],
            "part_rows": self._part_rows,
        }
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder} is not a folder")
        self._folder.mkdir(parents=True, exist_ok=True)
        job = self._folder / JOB
        if not job.exists():
            if any(self._folder.iterdir()):
                raise InputError(f"{self._folder} is not empty and holds no bulk job; choose another --output")
            write_whole(job, json.dumps(content, indent=1) + "\n")
            return
        try:
            before = json.loads(job.read_text(encoding="utf-8"))
            changed = [name for name, value in content.items() if before.get(name) != value]
        except (ValueError, AttributeError) as error:
            raise InputError(f"{job} is damaged; choose another --output") from error
        if changed:
            raise InputError(
                f"{self._folder} holds a job with other values of {', '.join(changed)}; its parts cannot be continued. "
                "Choose another --output"
            )

    @contextmanager
    def _kept(self, written: list[Path]) -> Iterator[None]:
        """Adds to an error what is kept."""
        try:
            yield
        except InputError as error:
            raise type(error)(
                f"{error}\n{len(written)} parts before it are in {self._folder}; the same command continues there, if "
                "the input is the same"
            ) from error

    def _score(self, part: Part, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            answers = self._cascade.predict(part.rows)
        except InputError as error:
            raise type(error)(f"{part.file}, part that starts at row {part.start}: {error}") from error
        names = np.array([stage.name for stage in self._cascade.stages], dtype=object)
        count = len(answers)
        columns: dict[str, Any] = {
            "file": pa.array([part.file.name] * count).dictionary_encode(),
            "row": np.arange(part.start, part.start + count),
            "answer": answers.answer,
            "stage": pa.array(names[answers.stage]).dictionary_encode(),
            "confidence": answers.confidence,
            "cost": answers.cost,
            "abstained": np.zeros(count, dtype=bool) if answers.abstained is None else answers.abstained,
        }
        if self._config.classes is not None:
            columns["label"] = pa.array(np.array(self._config.classes, dtype=object)[answers.answer])
        if part.label is not None:
            columns["correct"] = answers.answer == part.label
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            parquet.write_table(pa.table(columns), partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _summary(self, written: list[Path]) -> dict[str, Any]:
        from pyarrow import parquet

        names = [stage.name for stage in self._cascade.stages]
        rows, cost, correct, abstained = 0, 0.0, 0, 0
        labelled = 0
        answered = dict.fromkeys(names, 0)
        for path in written:
            file = parquet.ParquetFile(path)
            wanted = [name for name in ("stage", "cost", "abstained", "correct") if name in file.schema_arrow.names]
            table = file.read(columns=wanted)
            rows += table.num_rows
            cost += float(table["cost"].to_numpy().sum())
            abstained += int(table["abstained"].to_numpy(zero_copy_only=False).sum())
            for each in table["stage"].value_counts().to_pylist():
                answered[each["values"]] += each["counts"]
            if "correct" in wanted:
                kept = ~table["abstained"].to_numpy(zero_copy_only=False)
                labelled += int(kept.sum())
                correct += int(table["correct"].to_numpy(zero_copy_only=False)[kept].sum())
        return {
            "rows": rows,
            "parts": len(written),
            "stage_share": {name: count / rows for name, count in answered.items()},
            "mean_cost": cost / rows,
            "cost_unit": self._cascade.policy.cost_unit,
            "abstained": abstained / rows,
            "accuracy": correct / labelled if labelled else None,
            "policy": self._cascade.policy.version,
        }
