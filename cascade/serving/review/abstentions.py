"""Rows of one request that a cascade abstained on, as they wait to be written for review."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

__all__ = ["Abstentions"]


@dataclass(frozen=True, eq=False)
class Abstentions:
    """What is known of m rows.

    Attributes:
        time_s: when, in seconds since 1970.
        policy_version: of the policy that routed the rows.
        request_id: as the caller gave it, if it did.
        place: (m,) int, where in the request each row was.
        answer: (m,) int, the best guess.
        confidence: (m,) float in [0, 1], of the guess.
        rows: (m, ...), or ``None`` where rows are not to be written.
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
        """A record of plain values for each row.

        Args:
            classes: names of the answers.
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
