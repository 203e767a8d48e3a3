"""A server that is asked over HTTP, with a key that goes nowhere else."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cascade.errors import InputError

__all__ = ["LONGEST_MESSAGE", "Site"]

TIMEOUT_S = 10.0
LONGEST_MESSAGE = 300


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is for the address that was given, not for where that one points."""

    def redirect_request(self, *_: Any) -> None:
        """Never."""


class Site:
    """Answers of a server.

    Args:
        url: that paths are appended to.
        key: sent as a bearer; ``None`` for none.
        authority: PEM file of the authority of its certificate; ``None`` for those that the machine knows.

    Raises:
        InputError: the file cannot be used.
    """

    def __init__(self, url: str, key: str | None, authority: Path | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        try:
            tls = ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{authority} cannot be used as the file of an authority: {error}") from error
        # Not through a proxy: it is asked what is there, not what a proxy says.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), _NoRedirect(), urllib.request.HTTPSHandler(context=tls)
        )

    def get(self, path: str) -> tuple[int, Any]:
        """Status and content; 0 and a sentence where there is no answer."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: bytes | None = None, timeout_s: float = TIMEOUT_S) -> tuple[int, Any]:
        """Like :meth:`get`, with JSON to send."""
        headers = self._headers | ({} if body is None else {"content-type": "application/json"})
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                return response.status, _content(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _content(error.read())
        except (OSError, ValueError) as error:  # refused, late, no TLS, no HTTP
            return 0, str(getattr(error, "reason", error))


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body[:LONGEST_MESSAGE].decode("utf-8", "replace")
