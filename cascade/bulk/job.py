"""A bulk job: every part of the input becomes one Parquet file; a part that is there is not scored again."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from cascade.bulk.answer_files import count_rows, summarised, write_answers
from cascade.bulk.job_folder import JobFolder
from cascade.bulk.local_run import Scored
from cascade.bulk.part import Damage, PartKey, PartSource
from cascade.calibration import Policy
from cascade.errors import CascadeError, DataError, StageError
from cascade.files.result_files import write_whole

__all__ = ["BulkJob", "PartScorer"]

MOST_LISTED = 5


class PartScorer(Protocol):
    """What scores parts: :class:`~cascade.bulk.local_run.LocalRun`, :class:`~cascade.bulk.ray_run.RayRun`."""

    def scored(
        self, sources: Sequence[PartSource], part_rows: int, done: Collection[PartKey]
    ) -> Iterator[Scored | Damage]:
        """Scores all parts that are not done."""


class BulkJob:
    """Rows of files through a cascade, into a folder.

    Args:
        sources: of the rows.
        folder: of the answers, opened.
        policy: of the cascade.
        classes: names of the classes; ``None`` if there are none.
        part_rows: rows of a part, at least 1.
    """

    def __init__(
        self,
        sources: Sequence[PartSource],
        folder: JobFolder,
        policy: Policy,
        classes: Sequence[str] | None,
        part_rows: int,
    ) -> None:
        self._sources = sources
        self._folder = folder
        self._policy = policy
        self._classes = classes
        self._part_rows = part_rows
        self.total = _sum([source.count() for source in sources])
        """Rows of the input; ``None`` if they are not known before it is read."""

    def run(
        self, scorer: PartScorer, on_part: Callable[[int, bool], None] = lambda rows, is_new: None
    ) -> dict[str, Any]:
        """Scores the parts that are missing.

        A damaged source does not stop the job: what can be read is scored, and the error comes at the end.

        Args:
            scorer: of the parts.
            on_part: called after every part with its rows, and whether it was scored now.

        Returns:
            The summary, which ``summary.json`` holds too: rows, shares of the stages, mean cost and, with labels,
            accuracy.

        Raises:
            DataError: the input is damaged; all parts outside the damaged places are written.
            CascadeError: rows are refused, or a model failed.
        """
        self._folder.summary.unlink(missing_ok=True)
        done = self._folder.written()
        for path in done.values():
            on_part(count_rows(path), False)
        damages: list[Damage] = []
        with self._kept():
            for item in scorer.scored(self._sources, self._part_rows, done.keys()):
                if isinstance(item, Damage):
                    damages.append(item)
                    continue
                path = self._folder.path / item.part.key.file_name
                write_answers(path, item.part, item.answers, self._policy.stages, self._classes)
                on_part(len(item.part), True)
            written = self._folder.written()
            if not written and not damages:
                raise DataError("the input has no rows")
            found = self._summary(list(written.values()), damages)
            write_whole(self._folder.summary, json.dumps(found, indent=1) + "\n")
            if damages:
                raise DataError(_listed(damages))
        return found

    def _summary(self, paths: Sequence[Any], damages: Sequence[Damage]) -> dict[str, Any]:
        found = summarised(paths, self._policy.stages)
        found |= {"cost_unit": self._policy.cost_unit, "policy": self._policy.version, "complete": not damages}
        return found | ({"damaged": [damage.problem for damage in damages]} if damages else {})

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Adds to an error what is kept."""
        try:
            yield
        except OSError as error:
            raise DataError(f"the answers cannot be written: {error}\n{self._there()}") from error
        except StageError as error:
            raise StageError(error.stage, f"{error.problem}\n{self._there()}") from error
        except CascadeError as error:
            raise type(error)(f"{error}\n{self._there()}") from error

    def _there(self) -> str:
        return (
            f"{len(self._folder.written())} parts are in {self._folder.path}; the same command continues there, and "
            "scores again only what is missing and the parts of files that have changed"
        )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _listed(damages: Sequence[Damage]) -> str:
    more = f"\n(and {len(damages) - MOST_LISTED} more, all in summary.json)" if len(damages) > MOST_LISTED else ""
    return "\n".join(damage.problem for damage in damages[:MOST_LISTED]) + more
