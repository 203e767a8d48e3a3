"""A target behind HTTP: a served cascade, on this machine or another."""

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.target import Reply
from cascade.errors import ConfigError

if TYPE_CHECKING:
    import aiohttp

__all__ = ["HttpTarget", "request_body"]


class HttpTarget:
    """``POST /predict`` with raw bytes, over connections that are kept open.

    Args:
        url: of the server, such as "http://127.0.0.1:8000".
        stages: names of the config's stages.
        connections: most connections at a time.
        timeout_s: a request without an answer by then counts as failed.
    """

    def __init__(self, url: str, stages: Sequence[str], connections: int = 8, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.stages = tuple(stages)
        self.connections = connections
        self.timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connects, and requests the server's health.

        Raises:
            ConfigError: aiohttp is not installed.
            TargetError: nothing listens there, or the server reports a problem.
        """
        try:
            import aiohttp
        except ImportError as error:
            raise ConfigError(
                "the target 'http' needs aiohttp; install the extra: pip install 'idk-cascade[bench]'"
            ) from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.connections),
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
        )
        try:
            await self._check_health(self._session)
        except TargetError:
            await self.close()
            raise

    async def _check_health(self, session: "aiohttp.ClientSession") -> None:
        import aiohttp

        try:
            async with session.get(f"{self.url}/health") as response:
                status, body = response.status, await response.read()
        except aiohttp.InvalidURL as error:
            raise TargetError(f"{self.url!r} is not an address; it looks like http://127.0.0.1:8000") from error
        except aiohttp.ClientConnectionError as error:
            raise TargetError(
                f"nothing answers at {self.url} ({_cause(error)}); start 'cascade serve CONFIG', or give another --url"
            ) from error
        except asyncio.TimeoutError as error:
            raise TargetError(f"{self.url}/health does not answer within {self.timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise TargetError(f"{self.url}/health cannot be read: {error}") from error
        if status != 200:
            raise TargetError(f"{self.url}/health answered {status}: {_message(body)}")

    async def send(self, rows: np.ndarray) -> Reply:
        """One request."""
        import aiohttp

        if self._session is None:
            raise TargetError("the target is not open")
        body, headers = request_body(rows)
        try:
            async with self._session.post(f"{self.url}/predict", data=body, headers=headers) as response:
                status, content = response.status, await response.read()
        except asyncio.TimeoutError as error:
            raise RequestFailed("timeout", f"no answer within {self.timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise RequestFailed("connection", str(error)) from error
        if status != 200:
            raise RequestFailed(str(status), _message(content))
        return Reply.from_columns(_json(content), self.stages, len(rows))

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def request_body(rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request: raw C-order bytes for numbers, JSON for texts.

    Args:
        rows: (n, ...).
    """
    if rows.dtype == object:
        return orjson.dumps({"rows": rows.tolist()}), {"Content-Type": "application/json"}
    headers = {
        "Content-Type": "application/octet-stream",
        "X-Dtype": rows.dtype.name,
        "X-Shape": ",".join(map(str, rows.shape)),
    }
    return rows.tobytes(), headers


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise TargetError(f"the server's answer is not JSON: {error}") from error


def _message(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return content[:200].decode(errors="replace") or "(nothing)"


def _cause(error: Exception) -> str:
    number = getattr(getattr(error, "os_error", None), "errno", None)
    return os.strerror(number).lower() if number else str(error) or type(error).__name__
