"""An HTTP client for the command line: one server, one key, no redirects, bounded answers."""

import json
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from cascade.errors import InputError

__all__ = ["LONGEST_MESSAGE", "HttpClient"]

TIMEOUT_S = 10.0
LONGEST_MESSAGE = 300
MAX_ANSWER_BYTES = 64 << 20


class HttpClient:
    """Sends requests to one server, each over a connection of its own.

    Redirects are not followed, and neither proxies nor a ``.netrc`` file of the environment are used: the key goes to
    the given address only.

    Args:
        url: address of the server; paths are appended to it.
        key: sent as a bearer token; ``None`` for none.
        authority: PEM file of the authority that signed the server's certificate; ``None`` for those that the machine
            trusts.

    Raises:
        InputError: the file cannot be used, or the key has characters that a header cannot carry.
    """

    def __init__(self, url: str, key: str | None, authority: Path | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"accept-encoding": "identity"}
        if key is not None:
            # Checked here, since the HTTP library's message would quote the key.
            if not (key.isascii() and key.isprintable()):
                raise InputError("the key has characters that a header cannot carry; use printable ASCII characters")
            self._headers["authorization"] = f"Bearer {key}"
        try:
            self._tls = ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{authority} cannot be used as the file of an authority: {error}") from error

    def get(self, path: str) -> tuple[int, Any]:
        """Sends a GET request, see :meth:`request`."""
        return self.request("GET", path)

    def request(
        self, method: str, path: str, body: bytes | None = None, timeout_s: float = TIMEOUT_S
    ) -> tuple[int, Any]:
        """Sends a request.

        Args:
            method: of HTTP, in capitals.
            path: begins with "/".
            body: JSON to send, if any.
            timeout_s: seconds until the whole answer must be here.

        Returns:
            The status, and the parsed JSON; the beginning of the text where the answer is not JSON. Where there is no
            answer, 0 and the reason.
        """
        headers = self._headers | ({} if body is None else {"content-type": "application/json"})
        deadline = time.monotonic() + timeout_s
        try:
            with httpx.stream(
                method,
                self.url + path,
                content=body,
                headers=headers,
                timeout=timeout_s,
                verify=self._tls,
                trust_env=False,
            ) as response:
                return response.status_code, _content(_read(response, deadline))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return 0, str(error) or type(error).__name__


def _read(response: httpx.Response, deadline: float) -> bytes:
    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise httpx.ReadError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer took too long")
    return bytes(content)


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body[:LONGEST_MESSAGE].decode("utf-8", "replace")
