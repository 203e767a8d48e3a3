"""The caller's id of a request, for records about it."""

from contextvars import ContextVar

__all__ = ["REQUEST_ID", "REQUEST_ID_HEADER", "set_request_id"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that the running task answers; ``None`` if the caller gave none."""

REQUEST_ID_HEADER = "x-request-id"
MAX_LENGTH = 200


def set_request_id(request_id: str | None) -> None:
    """Sets the id for the running task, cut to 200 characters; ``None`` and "" leave it unset."""
    if request_id:
        REQUEST_ID.set(request_id[:MAX_LENGTH])
