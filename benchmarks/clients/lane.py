"""The seam between the load generator and a target: a lane sends one request at a time."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = [
    "ANSWERED",
    "CONNECTION",
    "INVALID",
    "NOT_SENT",
    "REFUSED",
    "TIMEOUT",
    "Done",
    "Lane",
    "OpenLanes",
    "name_of",
]

ANSWERED = 0
TIMEOUT = -1
CONNECTION = -2
INVALID = -3
NOT_SENT = -4
REFUSED = -5
_NAMES = {
    TIMEOUT: "timeout",
    CONNECTION: "connection",
    INVALID: "invalid answer",
    NOT_SENT: "not sent",
    REFUSED: "refused",
}
GRPC = 1000
"""Codes of gRPC are counted from here on."""

Done = Callable[[int, Any], None]
"""Called with :data:`ANSWERED` and the columns of the answer, or with another status and a message."""


class Lane(Protocol):
    """A connection, or whatever carries one request at a time."""

    def send(self, request: int, done: Done, timeout_s: float | None = None) -> None:
        """Sends a request; ``done`` is called once, later or at once.

        Args:
            request: index in the workload.
            done: see :data:`Done`.
            timeout_s: seconds until the caller gives up, sent with the request; ``None`` for no limit.
        """

    def abort(self) -> None:
        """Gives up on the request under way; its ``done`` is not called any more."""

    async def close(self) -> None:
        """Ends the lane."""


class OpenLanes(Protocol):
    """Opens the lanes of a target; picklable, since lanes are opened in the process that uses them."""

    async def __call__(self, count: int) -> Sequence[Lane]:
        """Opens lanes.

        Raises:
            TargetError: the target cannot be reached.
        """


def name_of(status: int) -> str:
    """Name of a status: that of HTTP as a number, or a word."""
    if status >= GRPC:
        return f"grpc {status - GRPC}"
    return _NAMES.get(status, str(status))
