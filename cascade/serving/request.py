"""A request to a gateway, however it came."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Request"]


@dataclass(eq=False, slots=True)
class Request:
    """What is asked.

    Attributes:
        method: of HTTP, in capitals.
        path: percent-decoded, without the query.
        headers: by names in lower case; values of one name that came several times are joined with ", ".
        body: whole.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
