"""What is behind the listeners: the gateway, or in a test something smaller."""

from typing import Any, Protocol

import numpy as np

from cascade.config import CascadeConfig

__all__ = ["Service"]


class Service(Protocol):
    """Answers rows.

    Attributes:
        config: of the cascade.
    """

    config: CascadeConfig

    async def answer_rows(self, rows: np.ndarray, timeout_s: float | None = None) -> dict[str, Any]:
        """Answers checked rows, as columns.

        Args:
            rows: (n, ...) as the configuration says.
            timeout_s: seconds that the caller waits; never more than ``serving.request_timeout_s``.

        Raises:
            DeadlineExceeded: no answer in time.
            Overloaded: too many rows are waiting.
        """

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its "version"."""

    def describe_traffic(self) -> dict[str, Any]:
        """The last minutes, see :func:`cascade.serving.dashboard.dashboard_data`."""
