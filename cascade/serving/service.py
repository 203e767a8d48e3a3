"""What is behind the listeners: the gateway, or in a test something smaller."""

from typing import Any, Protocol

import numpy as np

from cascade.config import CascadeConfig
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.request_overrides import RequestOverrides

__all__ = ["Service"]


class Service(Protocol):
    """Answers rows.

    Attributes:
        config: of the cascade.
        policies: keeps the policy in force.
    """

    config: CascadeConfig
    policies: PolicyKeeper

    @property
    def is_ready(self) -> bool:
        """Whether every stage has loaded and can be reached; cheap, and a few seconds old at most."""

    async def answer_rows(self, rows: np.ndarray, overrides: RequestOverrides) -> dict[str, Any]:
        """Answers checked rows, as columns.

        Args:
            rows: (n, ...) as the configuration says.
            overrides: of the configuration, by this request.

        Raises:
            DeadlineExceeded: no answer in time.
            RowsError: there is no such stage.
            Overloaded: too many rows are waiting.
        """

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its "version"."""

    def describe_audit(self) -> dict[str, Any]:
        """What the audit has found so far."""

    def describe_traffic(self) -> dict[str, Any]:
        """The last minutes, see :func:`cascade.serving.http.dashboard.dashboard_data`."""
