"""The review webhook: records as JSON, sent by POST."""

import http.client
import os
import ssl
import urllib.parse
from collections.abc import Sequence
from typing import Any

import orjson

import cascade
from cascade.errors import ConfigError
from cascade.serving.review.delivery_queue import Rejected

__all__ = ["ReviewWebhook"]

REJECTED = frozenset({400, 413, 422})
"""Statuses that refuse the batch for good; any other status except 2xx may pass."""


class ReviewWebhook:
    """Sends ``{"rows": [...]}`` by POST. Only the status of the response is read; redirects are not followed.

    Args:
        url: https, or http on loopback.
        timeout_s: seconds for the connection, and for each read or write after it.
        authorization_env: environment variable that holds the value of the header ``authorization``.

    Raises:
        ConfigError: the variable is not set.
    """

    def __init__(self, url: str, timeout_s: float, authorization_env: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = {"content-type": "application/json", "user-agent": f"idk-cascade/{cascade.__version__}"}
        if authorization_env is not None:
            value = os.environ.get(authorization_env)
            if not value:
                raise ConfigError(f"serving.review: the environment variable {authorization_env} is not set")
            self._headers["authorization"] = value

    def write(self, records: Sequence[dict[str, Any]]) -> None:
        """Sends records.

        Raises:
            OSError: the server cannot be reached, is too slow, or returns a status that may pass.
            Rejected: the server refuses the records for good.
        """
        connection = self._connect()
        try:
            connection.request("POST", self._target, orjson.dumps({"rows": list(records)}), self._headers)
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise OSError(f"the webhook's response is not HTTP: {type(error).__name__}") from error
        finally:
            connection.close()
        if status in REJECTED:
            raise Rejected(f"the webhook returned {status}")
        if not 200 <= status < 300:
            raise OSError(f"the webhook returned {status}")

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)
