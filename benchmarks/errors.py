"""Errors between a benchmark and its target, and of result files."""

from cascade.errors import InputError

__all__ = ["RequestFailed", "ResultError", "TargetError"]


class TargetError(InputError):
    """The target of a benchmark cannot be reached, or its answers are invalid."""


class ResultError(InputError):
    """A result file cannot be read."""


class RequestFailed(Exception):
    """One request was not answered; the load goes on and counts it.

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
