"""Detection: which rows are labelled with the positive class, and which stages answer it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import ScoreTableError

__all__ = ["Detection", "positive_class"]


@dataclass(frozen=True, eq=False)
class Detection:
    """The positive class on n rows and K stages.

    Attributes:
        is_positive: (n,) bool, the rows labelled with the positive class.
        answered: (n, K) bool, whether each stage answers the positive class.
    """

    is_positive: np.ndarray
    answered: np.ndarray

    @classmethod
    def of(cls, table: ScoreTable, positive: int) -> "Detection":
        """The positive class in a score table.

        Raises:
            ScoreTableError: the table has no labels.
        """
        if table.label is None:
            raise ScoreTableError(
                "the score table has no labels ('label'), so the recall of a class cannot be computed; collect with "
                "labelled rows"
            )
        return cls(table.label == positive, table.prediction == positive)

    @property
    def share(self) -> float:
        """Share of the rows that are positive, in [0, 1]."""
        return float(self.is_positive.mean())

    @property
    def gain(self) -> np.ndarray:
        """(n, K) float, 1 where a stage answers a positive row as positive, else 0."""
        return np.asarray(self.answered & self.is_positive[:, None], dtype=np.float64)

    def copy(self) -> "Detection":
        """A copy whose answers may be changed."""
        return Detection(self.is_positive, self.answered.copy())

    def take(self, rows: np.ndarray) -> "Detection":
        """Some of the rows: (m,) int indices, or (n,) bool."""
        return Detection(self.is_positive[rows], self.answered[rows])

    def select(self, columns: Sequence[int]) -> "Detection":
        """The same rows with some of the stages."""
        return Detection(self.is_positive, self.answered[:, list(columns)])


def positive_class(table: ScoreTable, positive: str | int | None) -> int:
    """The positive class, by its name or its number.

    Args:
        table: of K stages.
        positive: name or number from 0; by default, if there are two classes, the one that stages which only reject
            never answer.

    Raises:
        ValueError: it is not a class of the table, or there is no default.
    """
    names = None if table.classes is None else table.classes.tolist()
    if isinstance(positive, str) and names is not None and positive in names:
        return int(names.index(positive))
    count = _classes(table)
    if isinstance(positive, str) and names is None and positive.isdecimal():
        positive = int(positive)
    if isinstance(positive, int) and not isinstance(positive, bool) and 0 <= positive < count:
        return positive
    known = f"one of the classes {names}" if names is not None else f"a class from 0 to {count - 1}"
    if positive is not None:
        raise ValueError(f"positive must be {known}; got {positive!r}")
    rejected = {int(column[0]) for column in table.prediction[:, :-1].T if (column == column[0]).all()}
    if count == 2 and len(rejected) == 1:
        return 1 - rejected.pop()
    raise ValueError(f"positive must be given, {known}: it has a default only where stages reject one of two classes")


def _classes(table: ScoreTable) -> int:
    """Number of classes; without names or scores one more than the highest class in the table."""
    if table.classes is not None:
        return len(table.classes)
    if table.scores is not None:
        return int(table.scores.shape[2])
    return int(max(table.prediction.max(), 0 if table.label is None else table.label.max())) + 1
