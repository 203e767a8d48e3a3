"""The rows of one request on which the cascade abstained, for review."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

__all__ = ["Abstentions"]


@dataclass(frozen=True, eq=False)
class Abstentions:
    """m abstained rows of a request.

    Attributes:
        time_s: time of the answer, in seconds since 1970.
        policy_version: version of the policy that routed the rows.
        request_id: the caller's id of the request, if any.
        place: (m,) int, index of each row in the request.
        answer: (m,) int, the last stage's answer.
        confidence: (m,) float in [0, 1], of that answer.
        rows: (m, *shape), or ``None`` where ``serving.review.include_rows`` is off.
    """

    time_s: float
    policy_version: str
    request_id: str | None
    place: np.ndarray
    answer: np.ndarray
    confidence: np.ndarray
    rows: np.ndarray | None

    def __len__(self) -> int:
        return len(self.place)

    def records(self, classes: Sequence[str] | None) -> Iterator[dict[str, Any]]:
        """One record of plain values per row.

        Args:
            classes: names of the classes, if any.
        """
        time = datetime.fromtimestamp(self.time_s, timezone.utc).isoformat(timespec="milliseconds")
        common = {"time": time, "policy_version": self.policy_version, "request_id": self.request_id}
        for i in range(len(self)):
            answer = int(self.answer[i])
            record = common | {"place": int(self.place[i]), "answer": answer, "confidence": float(self.confidence[i])}
            if classes is not None:
                record["label"] = classes[answer]
            if self.rows is not None:
                row = self.rows[i]
                record["row"] = row.tolist() if isinstance(row, np.ndarray | np.generic) else row
            yield record
