"""Review: abstained rows go to a file, a webhook or both, so that a person can decide."""

import time
from collections.abc import Sequence

import numpy as np

from cascade.answers import Answers
from cascade.config import ReviewConfig
from cascade.serving.request_id import REQUEST_ID
from cascade.serving.review.abstentions import Abstentions
from cascade.serving.review.delivery_queue import DeliveryQueue
from cascade.serving.review.review_file import ReviewFile
from cascade.serving.review.review_webhook import ReviewWebhook

__all__ = ["Review"]

CLOSE_TIMEOUT_S = 2.0


class Review:
    """Delivers abstained rows without delaying the answers.

    Args:
        config: the file and the webhook.
        classes: names of the classes, if any.

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
        self._queues = {
            name: DeliveryQueue(name, receiver, classes, config.max_queue_rows) for name, receiver in receivers.items()
        }

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For "file" and "webhook", as configured: rows "written", "dropped" and "waiting", and "failures"."""
        return {name: queue.counts for name, queue in self._queues.items()}

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """Number of rows by (receiver, outcome); the outcome is "written" or "dropped"."""
        return {
            (name, outcome): counts[outcome]
            for name, counts in self.counts.items()
            for outcome in ("written", "dropped")
        }

    def add(self, rows: np.ndarray, answers: Answers, policy_version: str) -> None:
        """Queues the abstained rows of a request; never waits.

        Args:
            rows: (n, *shape), all rows of the request.
            answers: of the n rows.
            policy_version: version of the policy that routed them.
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
        for queue in self._queues.values():
            queue.put(abstentions)

    def close(self) -> None:
        """Stops; rows that cannot be delivered within 2 s are dropped."""
        for queue in self._queues.values():
            queue.close(CLOSE_TIMEOUT_S)
