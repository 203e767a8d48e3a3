"""An HTTP request to a gateway, from either listener."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Request"]


@dataclass(eq=False, slots=True)
class Request:
    """An HTTP request.

    Attributes:
        method: in capitals.
        path: percent-decoded, without the query.
        headers: by name in lower case; the values of a repeated header are joined with ", ".
        body: all its bytes; empty until they have arrived.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
