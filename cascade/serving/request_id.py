"""What a caller calls its request: kept beside the request, for what is written about it."""

from contextvars import ContextVar

__all__ = ["REQUEST_ID", "REQUEST_ID_HEADER", "note_request_id"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that the running task answers; ``None`` if its caller gave none."""

REQUEST_ID_HEADER = "x-request-id"
LONGEST = 200


def note_request_id(given: str | None) -> None:
    """Notes it for the running task; what is longer than 200 characters is cut."""
    if given:
        REQUEST_ID.set(given[:LONGEST])
