"""Errors of a request, each class with its HTTP status; and the error of a replica that cannot start."""

from typing import TypeGuard

from cascade.errors import CascadeError, InputError, RowsError, StageError

__all__ = [
    "BodyTooLarge",
    "DeadlineExceeded",
    "Forbidden",
    "HeaderTooLarge",
    "MalformedRequest",
    "MethodNotAllowed",
    "Overloaded",
    "PolicyRefused",
    "ReloadConflict",
    "RequestError",
    "RequestTooSlow",
    "StageFailed",
    "StartFailed",
    "Unauthorized",
    "Unavailable",
    "UnknownModel",
    "UnknownRoute",
    "UnknownVersion",
    "UnsupportedBody",
    "UnsupportedEncoding",
    "http_headers",
    "http_status",
    "is_of_the_rows",
    "request_error",
]


class StartFailed(InputError):
    """A replica cannot start; in Ray Serve's traceback the message follows the name of this class."""


class RequestError(CascadeError):
    """A request that cannot be answered.

    Attributes:
        status: of the HTTP response.
        headers: (name, value) pairs of that response, names in lower case.
    """

    status = 500
    headers: tuple[tuple[str, str], ...] = ()


class MalformedRequest(RequestError):
    """The bytes are not a valid HTTP/1.1 request."""

    status = 400


class PolicyRefused(RequestError):
    """The policy does not fit the served cascade; the one in force stays."""

    status = 400


class Unauthorized(RequestError):
    """The request has no key, or an unknown one."""

    status = 401
    headers = (("www-authenticate", "Bearer"),)


class Forbidden(RequestError):
    """The key does not permit the request."""

    status = 403


class UnknownRoute(RequestError):
    """There is no such path."""

    status = 404


class UnknownModel(RequestError):
    """The name or version is not the served cascade's."""

    status = 404


class UnknownVersion(RequestError):
    """The history has no policy of this version."""

    status = 404


class MethodNotAllowed(RequestError):
    """The path exists, but not with this method.

    Args:
        message: one sentence.
        allowed: methods of the path, separated by commas.
    """

    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message, allowed)
        self.headers = (("allow", allowed),)

    def __str__(self) -> str:
        return str(self.args[0])


class RequestTooSlow(RequestError):
    """The request took too long to arrive."""

    status = 408


class ReloadConflict(RequestError):
    """Another policy change is in progress; the request can be sent again later."""

    status = 409
    headers = (("retry-after", "1"),)


class BodyTooLarge(RequestError):
    """The request has more bytes or rows than allowed."""

    status = 413


class UnsupportedBody(RequestError):
    """The content type is not supported."""

    status = 415


class UnsupportedEncoding(RequestError):
    """The body is compressed."""

    status = 415
    headers = (("accept-encoding", "identity"),)


class HeaderTooLarge(RequestError):
    """The request has more or longer header fields than allowed."""

    status = 431


class StageFailed(RequestError):
    """A stage's model raised, or violated the stage contract, on rows of the request; the log has the details."""

    status = 500


class Overloaded(RequestError):
    """The queue is full; the request can be sent again later."""

    status = 503
    headers = (("retry-after", "1"),)


class Unavailable(RequestError):
    """A later segment has stopped or cannot be reached; the request can be sent again later."""

    status = 503
    headers = (("retry-after", "1"),)


class DeadlineExceeded(RequestError):
    """The answer took too long."""

    status = 504


def http_status(error: CascadeError) -> int:
    """The HTTP status of an error: its own, 400 for invalid rows, else 500."""
    if isinstance(error, RequestError):
        return error.status
    return 400 if isinstance(error, RowsError) else 500


def http_headers(error: CascadeError) -> tuple[tuple[str, str], ...]:
    """The headers of an error's HTTP response."""
    return error.headers if isinstance(error, RequestError) else ()


def request_error(error: Exception) -> CascadeError:
    """The error that a caller gets for an error in a stage; the latter becomes its cause.

    The message has no details of the model: no class, no file, no text of its exception.
    """
    # A RowsError is the caller's fault; every other error here is the server's.
    if isinstance(error, RowsError) or (_is_of_the_server(error) and not isinstance(error, StageError)):
        return error
    which = f"stage {error.stage!r}" if isinstance(error, StageError) else "a stage"
    failure = StageFailed(f"{which} failed on these rows")
    failure.__cause__ = error
    return failure


def _is_of_the_server(error: Exception) -> TypeGuard[CascadeError]:
    return isinstance(error, CascadeError) and http_status(error) >= 500


def is_of_the_rows(error: CascadeError) -> bool:
    """Whether the error depends on the rows, so that a failed batch is tried again in halves."""
    return isinstance(error, StageFailed | RowsError)
