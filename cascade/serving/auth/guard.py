"""Access control by bearer keys."""

import ipaddress
from pathlib import Path

from cascade.config import ServingConfig
from cascade.errors import ConfigError
from cascade.serving.auth.keys import KeyRing
from cascade.serving.errors import Forbidden, Unauthorized
from cascade.serving.request import Request

__all__ = ["Guard", "check_exposure", "is_for_admins", "is_health_path", "is_open_path"]

ADMIN_PATHS = frozenset({"/policy", "/policy/rollback"})
"""Paths whose methods other than GET and HEAD change what is served."""


class Guard:
    """Checks the keys of requests.

    An admin key permits every request, a key all requests except admin requests. Without configured keys, all requests
    except admin requests are permitted; without configured admin keys, no admin request is.

    Args:
        keys: for predictions and reading; ``None`` if no key is required.
        admin_keys: for changes of what is served; ``None`` if no change is permitted.
    """

    def __init__(self, keys: KeyRing | None = None, admin_keys: KeyRing | None = None) -> None:
        self._keys = keys
        self._admin_keys = admin_keys

    @classmethod
    def from_config(cls, serving: ServingConfig) -> "Guard":
        """Reads the configured keys.

        Raises:
            ConfigError: the keys cannot be used.
        """
        return cls(
            _key_ring(serving.keys_env, serving.keys_file),
            _key_ring(serving.admin_keys_env, serving.admin_keys_file),
        )

    def allowed(self, authorization: str | None, admin: bool = False) -> bool:
        """Whether a request is permitted.

        Args:
            authorization: "Bearer KEY", from the header or gRPC's metadata; ``None`` if there is none.
            admin: whether the request changes what is served.
        """
        try:
            self.check(authorization, admin)
        except (Unauthorized, Forbidden):
            return False
        return True

    def admit(self, request: Request) -> None:
        """Checks a request over HTTP; health checks, and the dashboard without its data, need no key.

        Two headers with keys are refused, since a proxy may have checked the other one: they arrive joined, and match
        no key.

        Raises:
            Unauthorized: the key is missing or unknown.
            Forbidden: the request is for admins, and the key is not an admin key or no admin keys are configured.
        """
        if not is_open_path(request.path):
            self.check(request.headers.get("authorization"), is_for_admins(request.method, request.path))

    def check(self, authorization: str | None, admin: bool = False) -> None:
        """Like :meth:`allowed`, but raises an error with the reason.

        Raises:
            Unauthorized: the key is missing or unknown.
            Forbidden: the request is for admins, and the key is not an admin key or no admin keys are configured.
        """
        if not admin and self._keys is None:
            return
        if admin and self._admin_keys is None:
            raise Forbidden(
                "this request changes what is served, and no admin keys are configured; set serving.admin_keys_file"
            )
        key = _bearer_key(authorization)
        # Both are always checked, so that the time does not depend on the result.
        is_admin = self._admin_keys is not None and self._admin_keys.holds(key)
        is_known = self._keys is not None and self._keys.holds(key)
        if is_admin or (is_known and not admin):
            return
        if is_known:
            raise Forbidden("this request changes what is served, and needs an admin key")
        raise Unauthorized(f'send "Authorization: Bearer {"ADMIN_KEY" if admin else "KEY"}" with a valid key')


def is_health_path(path: str) -> bool:
    """Whether a path is a health check."""
    return path == "/health" or path.startswith("/v2/health/")


def is_for_admins(method: str, path: str) -> bool:
    """Whether a request changes what is served."""
    return path.rstrip("/") in ADMIN_PATHS and method not in ("GET", "HEAD")


def is_open_path(path: str) -> bool:
    """Whether a path needs no key: health checks, and the dashboard, whose page has no data and asks for a key."""
    return path == "/dashboard" or is_health_path(path)


def check_exposure(serving: ServingConfig) -> None:
    """Refuses to serve the network without keys, unless ``serving.open_to_network`` is set.

    Raises:
        ConfigError: the address is not loopback, there are no keys, and ``open_to_network`` is not set.
    """
    has_keys = serving.keys_env is not None or serving.keys_file is not None
    if not (has_keys or serving.open_to_network or _is_loopback(serving.host)):
        raise ConfigError(
            f"serving.host is {serving.host!r}, which other machines can reach, and there are no keys; set "
            "serving.keys_file or serving.keys_env, or set serving.open_to_network: true to serve without keys"
        )


def _key_ring(variable: str | None, file: Path | None) -> KeyRing | None:
    return None if variable is None and file is None else KeyRing(variable, file)


def _bearer_key(authorization: str | None) -> bytes:
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip().encode("utf-8") if scheme.lower() == "bearer" else b""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
