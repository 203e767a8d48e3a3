"""Asks a served cascade for what only admins may ask."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError, ConfigError, PolicyError

__all__ = ["AdminClient"]

TIMEOUT_S = 60.0


class AdminClient:
    """A client of one served cascade; it connects directly, whatever proxies the environment names.

    Args:
        url: such as "http://127.0.0.1:8000".
        key: an admin key.
        authorities: PEM file with those that vouch for the server's certificate, beside the system's.

    Raises:
        ConfigError: the file cannot be used, or the URL is none of HTTP.
    """

    def __init__(self, url: str, key: str, authorities: Path | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"the URL must begin with http:// or https://; got {url!r}")
        self._url = url.rstrip("/")
        self._key = key
        context = ssl.create_default_context()
        if authorities is not None:
            try:
                context.load_verify_locations(authorities)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{authorities} cannot be used as a file of authorities: {error}") from error
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def ask(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """Sends a request; returns the JSON object of the answer.

        Raises:
            PolicyError: the server refuses what was sent.
            ConfigError: it cannot be reached, or does not take the key.
            CascadeError: it cannot do it now.
        """
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._url + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error.code, _sentence(error.read()), self._url) from error
        except (OSError, ValueError) as error:  # no connection, no TLS; or no JSON
            raise ConfigError(f"no cascade answers at {self._url}: {error}") from error
        if not isinstance(answer, dict):
            raise ConfigError(f"what answers at {self._url} is no cascade")
        return answer


def _sentence(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _refusal(status: int, sentence: str, url: str) -> CascadeError:
    if status in (401, 403):
        return ConfigError(f"{url} does not take the admin key: {sentence}")
    if status in (400, 404, 405, 413):
        return PolicyError(f"{url} refuses: {sentence}")
    return CascadeError(f"{url} cannot do it now (status {status}): {sentence}")
