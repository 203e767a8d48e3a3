"""Errors of a request; each class knows its HTTP status."""

from cascade.errors import CascadeError, RowsError

__all__ = [
    "BodyTooLarge",
    "DeadlineExceeded",
    "Forbidden",
    "HeaderTooLarge",
    "MalformedRequest",
    "MethodNotAllowed",
    "Overloaded",
    "RequestTooSlow",
    "StageFailed",
    "Unauthorized",
    "UnknownRoute",
    "UnsupportedBody",
    "http_status",
]


class RequestError(CascadeError):
    """A request that cannot be answered.

    Attributes:
        status: of the HTTP response.
    """

    status = 500


class MalformedRequest(RequestError):
    """What came is not HTTP/1.1."""

    status = 400


class Unauthorized(RequestError):
    """The request has no key, or one that is not known."""

    status = 401


class Forbidden(RequestError):
    """The key is known, but does not allow this."""

    status = 403


class UnknownRoute(RequestError):
    """No such path."""

    status = 404


class MethodNotAllowed(RequestError):
    """The path exists, but not with this method."""

    status = 405


class RequestTooSlow(RequestError):
    """The request took too long to arrive."""

    status = 408


class BodyTooLarge(RequestError):
    """More bytes, or more rows, than a request may have."""

    status = 413


class UnsupportedBody(RequestError):
    """The content type is not one that is read."""

    status = 415


class HeaderTooLarge(RequestError):
    """More or longer header fields than a request may have."""

    status = 431


class StageFailed(RequestError):
    """A stage raised on rows of the request."""

    status = 500


class Overloaded(RequestError):
    """The queue is full; the request may be sent again later."""

    status = 503


class DeadlineExceeded(RequestError):
    """The answer took too long."""

    status = 504


def http_status(error: CascadeError) -> int:
    """The HTTP status of an error: its own, 400 for rows that cannot be taken, else 500."""
    if isinstance(error, RequestError):
        return error.status
    return 400 if isinstance(error, RowsError) else 500
