"""The seam between a load and what it loads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cascade.benchmarks.errors import TargetError

__all__ = ["Reply", "Target"]


@dataclass(frozen=True, eq=False)
class Reply:
    """A target's answer to the n rows of a request.

    Attributes:
        answer: (n,) int64, the class.
        stage: (n,) int64, index of the stage that answered.
        cost: (n,) float64, in the unit of the policy.
        policy_version: of the policy that routed the rows.
        abstained: (n,) bool, the rows without an answer; ``None`` if there are none.
    """

    answer: np.ndarray
    stage: np.ndarray
    cost: np.ndarray
    policy_version: str
    abstained: np.ndarray | None = None

    @classmethod
    def from_columns(cls, columns: Any, stages: Sequence[str], rows: int) -> "Reply":
        """Reads the columns of a served cascade's answer.

        Args:
            columns: "answer", "stage" (names), "cost" and "policy_version"; "abstained", if rows may be.
            stages: names of the config's stages, in order.
            rows: number of rows that were sent.

        Raises:
            TargetError: a column is missing, has another length or holds no numbers, or a stage is
                not one of the config's.
        """
        if not isinstance(columns, Mapping):
            raise TargetError(f"the target must answer with columns; got {type(columns).__name__}")
        missing = [name for name in ("answer", "stage", "cost", "policy_version") if name not in columns]
        if missing:
            raise TargetError(f"the target's answer lacks the columns {', '.join(missing)}; is it 'cascade serve'?")
        abstains = "abstained" in columns
        for name in ("answer", "stage", "cost", *(["abstained"] if abstains else [])):
            if not isinstance(columns[name], list):
                raise TargetError(f"the target's {name} must be a list; got {type(columns[name]).__name__}")
            if len(columns[name]) != rows:
                raise TargetError(f"the target was sent {rows} rows but answered {len(columns[name])} of {name}")
        index = {name: k for k, name in enumerate(stages)}
        try:
            stage = np.array([index[name] for name in columns["stage"]], dtype=np.int64)
        except (KeyError, TypeError) as error:
            unknown = next(name for name in columns["stage"] if name not in stages)
            raise TargetError(
                f"the target answered at stage {unknown!r}, the config has {list(stages)}; "
                "give the config that is served"
            ) from error
        answer = _numbers("answer", columns["answer"], "i").astype(np.int64, copy=False)
        cost = _numbers("cost", columns["cost"], "if").astype(np.float64, copy=False)
        abstained = _numbers("abstained", columns["abstained"], "b") if abstains and any(columns["abstained"]) else None
        return cls(answer, stage, cost, str(columns["policy_version"]), abstained)


def _numbers(name: str, column: list[Any], kinds: str) -> np.ndarray:
    """(n,) array of a column of n numbers; ``None`` would become NaN without an error, and 0.5 the class 0."""
    try:
        array = np.asarray(column)
    except ValueError as error:
        raise TargetError(f"the target's {name} must be numbers: {error}") from error
    if array.ndim != 1 or array.dtype.kind not in kinds:
        what = "whole numbers" if kinds == "i" else "numbers"
        raise TargetError(f"the target's {name} must be {what}; got {column[:3]!r}...")
    return array


class Target(Protocol):
    """Something that answers rows."""

    async def open(self) -> None:
        """Connects.

        Raises:
            TargetError: it cannot be reached.
        """

    async def send(self, rows: np.ndarray) -> Reply:
        """Sends one request and waits for its answer.

        Args:
            rows: (n, ...), n >= 1, C-contiguous.

        Raises:
            RequestFailed: this request was refused or lost; others may succeed.
            TargetError: the answer is invalid.
        """

    async def close(self) -> None:
        """Closes the connection; may be called twice."""
