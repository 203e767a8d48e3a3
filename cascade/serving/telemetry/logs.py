"""Logs of the replicas: one line per event, without anything that a client has sent.

The text of a model's exception may quote the rows that it failed on, so of an exception only its type and its lines of
code are logged.
"""

import json
import logging
import traceback
from datetime import datetime, timezone
from typing import Any, Literal

__all__ = ["LogFormatter", "set_up_logs"]

LOGGER = "cascade"

# What every record has; all other attributes come from ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormatter(logging.Formatter):
    """Records as lines: JSON objects, or text.

    Args:
        kind: "json" or "text".
        context: fields of every line, such as the deployment.
    """

    def __init__(self, kind: Literal["json", "text"], context: dict[str, str]) -> None:
        super().__init__()
        self._kind = kind
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._context,
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = _described(record.exc_info[1])
        if self._kind == "json":
            return json.dumps(fields, default=str)
        head = " ".join(str(fields.pop(name)) for name in ("time", "level", "logger", "message"))
        return " ".join([head, *(f"{name}={_one_line(value)}" for name, value in fields.items())])


def _described(error: BaseException | None) -> list[dict[str, Any]]:
    """Types and lines of code of an exception and its causes, without their texts."""
    described = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        described.append({"type": f"{type(error).__module__}.{type(error).__qualname__}", "at": places})
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return described


def set_up_logs(kind: Literal["json", "text"], context: dict[str, str]) -> None:
    """Logs of this project go to standard error, which Ray writes to a file of the process.

    Args:
        kind: of the lines.
        context: fields of every line.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter(kind, context))
    logger = logging.getLogger(LOGGER)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    # Ray's handlers would write the texts of exceptions.
    logger.propagate = False


def _one_line(value: object) -> str:
    text = (
        value if isinstance(value, str) and value.isprintable() and " " not in value else json.dumps(value, default=str)
    )
    return str(text)
