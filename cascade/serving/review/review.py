"""Review: the rows that a cascade abstained on go to a file, to a webhook, or to both, for a person to decide."""

import time
from collections.abc import Sequence

import numpy as np

from cascade.answers import Answers
from cascade.config import ReviewConfig
from cascade.serving.request_id import REQUEST_ID
from cascade.serving.review.abstentions import Abstentions
from cascade.serving.review.delivery_queue import Outbox
from cascade.serving.review.review_file import ReviewFile
from cascade.serving.review.review_webhook import ReviewWebhook

__all__ = ["Review"]

CLOSE_TIMEOUT_S = 2.0


class Review:
    """Takes abstained rows, off the way of the answers.

    Args:
        config: where they go.
        classes: names of the answers.

    Raises:
        ConfigError: an environment variable that the configuration names is not set.
    """

    def __init__(self, config: ReviewConfig, classes: Sequence[str] | None) -> None:
        self._include_rows = config.include_rows
        receivers: dict[str, ReviewFile | ReviewWebhook] = {}
        if config.file is not None:
            receivers["file"] = ReviewFile(config.file, config.max_file_bytes)
        if config.webhook is not None:
            receivers["webhook"] = ReviewWebhook(config.webhook, config.timeout_s, config.webhook_authorization_env)
        self._outboxes = {
            name: Outbox(name, receiver, classes, config.max_queue_rows) for name, receiver in receivers.items()
        }

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For "file" and "webhook", as configured: rows "written", "dropped" and "waiting", and "failures"."""
        return {name: outbox.counts for name, outbox in self._outboxes.items()}

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """Rows by receiver and by what became of them, "written" or "dropped"."""
        return {(name, what): counts[what] for name, counts in self.counts.items() for what in ("written", "dropped")}

    def add(self, rows: np.ndarray, answers: Answers, policy_version: str) -> None:
        """Takes the abstained rows of a request; never waits.

        Args:
            rows: (n, ...), all rows of the request.
            answers: n.
            policy_version: of the policy that routed them.
        """
        if answers.abstained is None:
            return
        place = np.flatnonzero(answers.abstained)
        abstentions = Abstentions(
            time.time(),
            policy_version,
            REQUEST_ID.get(),
            place,
            answers.answer[place],
            answers.confidence[place],
            rows[place] if self._include_rows else None,
        )
        for outbox in self._outboxes.values():
            outbox.put(abstentions)

    def close(self) -> None:
        """Ends; what cannot be written within 2 s is dropped."""
        for outbox in self._outboxes.values():
            outbox.close(CLOSE_TIMEOUT_S)
