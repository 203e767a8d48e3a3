"""The answer of a target: what is read from it, and what makes it invalid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

__all__ = ["AnswerReader", "InvalidAnswer"]


KINDS: dict[str, set[type]] = {
    "answer": {int},
    "stage": {str},
    "cost": {int, float},
    "abstained": {bool},
    "degraded": {bool},
}
"""Types of the values of each column."""


class InvalidAnswer(ValueError):
    """An answer that does not fit its request; the request counts as failed."""


@dataclass(frozen=True)
class AnswerReader:
    """Reads answers and checks them.

    Attributes:
        protocol: "cascade" for the columns of ``cascade serve``, "oip" for the Open Inference Protocol.
        stages: names of the cascade's stages; ``None`` if they are not known.
        classes: number of classes; ``None`` if it is not known.
        output: with the protocol "oip", the output that is the answer; ``None`` for "answer", else the first one.
    """

    protocol: str = "cascade"
    stages: frozenset[str] | None = None
    classes: int | None = None
    output: str | None = None

    def read(self, body: bytes, rows: int) -> dict[str, Any]:
        """The columns of a body.

        Args:
            body: JSON.
            rows: that were sent.

        Raises:
            InvalidAnswer: the body is not JSON, or see :meth:`check`.
        """
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidAnswer(f"the answer is not JSON: {error}") from error
        return self.check(self.columns_of(content.get("outputs")) if self._is_oip(content) else content, rows)

    def _is_oip(self, content: Any) -> bool:
        return self.protocol == "oip" and isinstance(content, dict)

    def columns_of(self, outputs: Any) -> dict[str, Any]:
        """The columns of an answer in the Open Inference Protocol.

        Args:
            outputs: with "name", "shape" and "data" (a list, flat or nested).

        Raises:
            InvalidAnswer: there is no output that can be an answer.
        """
        if not isinstance(outputs, list) or not all(isinstance(one, dict) and "name" in one for one in outputs):
            raise InvalidAnswer("the answer has no list of outputs")
        by_name = {str(one["name"]): one.get("data") for one in outputs}
        name = self.output or ("answer" if "answer" in by_name else next(iter(by_name), ""))
        if not isinstance(by_name.get(name), list):
            raise InvalidAnswer(f"the answer has no data of the output {name!r}; it has {sorted(by_name)}")
        known = {key: by_name[key] for key in KINDS if key != "answer" and isinstance(by_name.get(key), list)}
        shape = next(one.get("shape") for one in outputs if one["name"] == name)
        return {**known, "answer": _classes(by_name[name], shape)}

    def check(self, columns: Any, rows: int) -> dict[str, Any]:
        """Checks columns.

        Args:
            columns: "answer"; "stage", "cost", "abstained", "degraded", "policy_version" where the target has them.
            rows: that were sent.

        Returns:
            The columns.

        Raises:
            InvalidAnswer: a column is missing or has another length, an answer is not one of the classes, or a stage is
                not one of the cascade's.
        """
        if not isinstance(columns, dict) or not isinstance(columns.get("answer"), list):
            raise InvalidAnswer("the answer has no column 'answer'")
        answer = columns["answer"]
        for name in KINDS:
            column = columns.get(name)
            if column is not None and (not isinstance(column, list) or len(column) != rows):
                raise InvalidAnswer(f"{rows} rows were sent; the answer's column {name!r} does not have as many values")
        for name, kinds in KINDS.items():
            column = columns.get(name)
            if column is None or set(map(type, column)) <= kinds:
                continue
            if name != "answer" or self.protocol == "cascade":
                raise InvalidAnswer(f"the answer's column {name!r} has values of a wrong kind: {column[:3]!r}")
        if self.classes is not None and not (min(answer) >= 0 and max(answer) < self.classes):
            raise InvalidAnswer(f"the answers must be classes from 0 to {self.classes - 1}; got {answer[:3]!r}")
        if self.stages is not None and "stage" in columns and not self.stages.issuperset(columns["stage"]):
            unknown = next(name for name in columns["stage"] if name not in self.stages)
            raise InvalidAnswer(
                f"stage {unknown!r} answered, which the config does not have; give the config that is served"
            )
        return columns


def _classes(data: Sequence[Any], shape: Any) -> list[Any]:
    """Classes from the data of an output: as they are, or the best of scores of shape (n, C)."""
    values = list(data)
    if isinstance(shape, list) and len(shape) == 2 and shape[1] != 1:
        try:
            return list(np.asarray(values, dtype=float).reshape(shape).argmax(axis=1).tolist())
        except (TypeError, ValueError) as error:
            raise InvalidAnswer(f"the output of shape {shape} has no scores: {error}") from error
    return [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]


def message_of(content: bytes) -> str:
    """The message of an answer that is an error."""
    try:
        found = orjson.loads(content)
        return str(found["error"]) if isinstance(found, Mapping) and "error" in found else str(found)[:300]
    except orjson.JSONDecodeError:
        return content[:200].decode(errors="replace") or "(nothing)"
