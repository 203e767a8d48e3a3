"""Scoring in this process: one part after the other."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cascade.answers import Answers
from cascade.bulk.part import Damage, Part, PartKey, PartSource, read_unit
from cascade.bulk.sources import units_of
from cascade.cascade import Cascade
from cascade.errors import InputError

__all__ = ["LocalRun", "Scored"]


@dataclass(frozen=True, eq=False)
class Scored:
    """A part and the answers for its m rows that can be read."""

    part: Part
    answers: Answers


class LocalRun:
    """Scores parts with a loaded cascade.

    Args:
        cascade: that answers.
    """

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade

    def scored(
        self, sources: Sequence[PartSource], part_rows: int, done: Collection[PartKey]
    ) -> Iterator[Scored | Damage]:
        """Scores all parts that are not done.

        Args:
            sources: of the rows.
            part_rows: rows of a part.
            done: parts that are left out.

        Raises:
            CascadeError: rows are refused, or a model failed.
        """
        for unit in units_of(sources, part_rows):
            for item in read_unit(sources[unit.source], unit, part_rows, done):
                yield item if isinstance(item, Damage) else Scored(item, self._answers(item))

    def _answers(self, part: Part) -> Answers:
        if not part.count:
            return Answers.empty(0)
        try:
            return self._cascade.predict(part.rows)
        except InputError as error:
            raise type(error)(f"{part.place}: {error}") from error
