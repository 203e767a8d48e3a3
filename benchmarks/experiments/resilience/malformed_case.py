"""A case: bytes to send to a cascade, and the answers that are right."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import orjson

__all__ = ["BROKEN", "Case", "Maker", "Site"]


@dataclass(frozen=True)
class Site:
    """The cascade under test.

    Attributes:
        name: of the cascade.
        shape: of a row.
        max_body_bytes: of a request.
        max_header_bytes: of a request.
    """

    name: str
    shape: tuple[int, ...]
    max_body_bytes: int
    max_header_bytes: int

    @property
    def body(self) -> bytes:
        """One good row as JSON."""
        row: object = 0
        for size in reversed(self.shape):
            row = [row] * size
        return orjson.dumps({"rows": [row]})


@dataclass(frozen=True)
class Case:
    """Bytes to send on a connection, and the answers that are right.

    Attributes:
        kind: of the case.
        sent: one request or several, or bytes that resemble them.
        statuses: the statuses that are right for each answer, in their order.
        heads: places of the answers that have no body.
        closes: whether the connection must be closed afterwards; else it must go on.
        may_close: whether it may be closed.
        most_answers: more answers than ``statuses`` may come, up to so many, each with one of the last statuses.
    """

    kind: str
    sent: bytes
    statuses: tuple[frozenset[int], ...]
    heads: frozenset[int] = frozenset()
    closes: bool = True
    may_close: bool = True
    most_answers: int = 0


Maker = Callable[[random.Random, Site], Case]

BROKEN = (frozenset({400}),)
