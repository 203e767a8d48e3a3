"""Errors of a request; each class knows its HTTP status. And the one error of a replica that cannot start."""

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
    """A replica cannot start; Ray Serve hands its text on as a part of a traceback, after the name of this class."""


class RequestError(CascadeError):
    """A request that cannot be answered.

    Attributes:
        status: of the HTTP response.
        headers: (name, value) pairs that go with it, names in lower case.
    """

    status = 500
    headers: tuple[tuple[str, str], ...] = ()


class MalformedRequest(RequestError):
    """What came is not HTTP/1.1."""

    status = 400


class PolicyRefused(RequestError):
    """The policy cannot be served here; the one in force stays."""

    status = 400


class Unauthorized(RequestError):
    """The request has no key, or one that is not known."""

    status = 401
    headers = (("www-authenticate", "Bearer"),)


class Forbidden(RequestError):
    """The key is known, but does not allow this."""

    status = 403


class UnknownRoute(RequestError):
    """No such path."""

    status = 404


class UnknownModel(RequestError):
    """No model of this name or version is served."""

    status = 404


class UnknownVersion(RequestError):
    """No policy of this version is in the history."""

    status = 404


class MethodNotAllowed(RequestError):
    """The path exists, but not with this method.

    Args:
        message: what was asked.
        allowed: the methods that the path has, with commas.
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
    """Another policy is coming into force at the moment; the request may be sent again later."""

    status = 409
    headers = (("retry-after", "1"),)


class BodyTooLarge(RequestError):
    """More bytes, or more rows, than a request may have."""

    status = 413


class UnsupportedBody(RequestError):
    """The content type is not one that is read."""

    status = 415


class UnsupportedEncoding(RequestError):
    """The body is compressed."""

    status = 415
    headers = (("accept-encoding", "identity"),)


class HeaderTooLarge(RequestError):
    """More or longer header fields than a request may have."""

    status = 431


class StageFailed(RequestError):
    """The model of a stage failed, or broke the stage contract, on rows of the request; the log has what came."""

    status = 500


class Overloaded(RequestError):
    """The queue is full; the request may be sent again later."""

    status = 503
    headers = (("retry-after", "1"),)


class Unavailable(RequestError):
    """A later segment is gone, or cannot be reached; the request may be sent again later."""

    status = 503
    headers = (("retry-after", "1"),)


class DeadlineExceeded(RequestError):
    """The answer took too long."""

    status = 504


def http_status(error: CascadeError) -> int:
    """The HTTP status of an error: its own, 400 for rows that cannot be taken, else 500."""
    if isinstance(error, RequestError):
        return error.status
    return 400 if isinstance(error, RowsError) else 500


def http_headers(error: CascadeError) -> tuple[tuple[str, str], ...]:
    """The headers that go with an error."""
    return error.headers if isinstance(error, RequestError) else ()


def request_error(error: Exception) -> CascadeError:
    """The error that a caller gets for an error in a stage, which is its cause.

    Nothing of the model leaves: neither the name of its class or file, nor what it raised.
    """
    # Only a model's own refusal of rows is the caller's fault; whatever else is raised here is the server's.
    if isinstance(error, RowsError) or (_is_of_the_server(error) and not isinstance(error, StageError)):
        return error
    which = f"stage {error.stage!r}" if isinstance(error, StageError) else "a stage"
    failure = StageFailed(f"{which} failed on these rows")
    failure.__cause__ = error
    return failure


def _is_of_the_server(error: Exception) -> TypeGuard[CascadeError]:
    return isinstance(error, CascadeError) and http_status(error) >= 500


def is_of_the_rows(error: CascadeError) -> bool:
    """Whether other rows may do better, so that a batch is worth halving."""
    return isinstance(error, StageFailed | RowsError)
