"""The interface between the listeners and the gateway, which tests implement too."""

from typing import Any, Protocol

import numpy as np

from cascade.config import CascadeConfig
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.request_overrides import RequestOverrides

__all__ = ["Service"]


class Service(Protocol):
    """Answers rows.

    Attributes:
        config: configuration of the cascade.
        policies: holds the policy in force.
    """

    config: CascadeConfig
    policies: PolicyKeeper

    @property
    def is_ready(self) -> bool:
        """Whether every stage has loaded and can be reached; at most a few seconds old."""

    async def answer_rows(self, rows: np.ndarray, overrides: RequestOverrides) -> dict[str, Any]:
        """Answers checked rows.

        Args:
            rows: (n, *shape), of the configured shape and dtype.
            overrides: the request's own timeout and last stage.

        Returns:
            The columns of :func:`cascade.serving.bodies.wire.answer_columns`, and "policy_version".

        Raises:
            DeadlineExceeded: the answer took too long.
            RowsError: there is no such stage.
            Overloaded: the queue is full.
        """

    async def detect(self, content: bytes, overrides: RequestOverrides) -> dict[str, Any]:
        """Finds the objects in an image; called only if the configuration has a section ``detection``.

        Args:
            content: of a JPEG, PNG or WebP file.
            overrides: the request's own timeout and last stage.

        Returns:
            See :meth:`cascade.detection.detections.Detections.to_dict`.

        Raises:
            DeadlineExceeded: the answer took too long.
            RowsError: the image cannot be used, or there is no such stage.
            Overloaded: the queue is full.
        """

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its "version"."""

    def describe_audit(self) -> dict[str, Any]:
        """The audit's results so far."""

    def describe_traffic(self) -> dict[str, Any]:
        """The last minutes, see :func:`cascade.serving.http.dashboard.dashboard_data`."""
