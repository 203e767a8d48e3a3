"""Errors between a benchmark and its target, and of result files."""

from cascade.errors import CascadeError, InputError

__all__ = ["InvalidMeasurement", "RequestFailed", "ResultError", "TargetError"]


class TargetError(InputError):
    """The target of a benchmark cannot be reached, or stopped to answer."""


class ResultError(InputError):
    """A result file cannot be read, or not be written."""


class InvalidMeasurement(CascadeError):
    """The client, and not the target, was the limit of a measurement."""

    exit_code = 6


class RequestFailed(Exception):
    """One request was not answered.

    Args:
        status: under which it is counted, such as "503" or "timeout".
        message: of the target.
    """

    def __init__(self, status: str, message: str = "") -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.status}: {self.message}" if self.message else self.status
