"""The log of policies: what all gateways of a cascade agree on."""

import json
from dataclasses import asdict, dataclass
from typing import Protocol

__all__ = ["Entry", "PolicyLog", "Presence", "Store"]

KEPT = 100
"""Entries; older ones are dropped."""


class Store(Protocol):
    """Strings by key, shared by all gateways; every method may block, and raises when the store cannot be reached."""

    def add(self, key: str, value: str) -> bool:
        """Writes a value, unless the key has one; returns whether it was written. One of several callers succeeds."""

    def put(self, key: str, value: str) -> None:
        """Writes a value."""

    def get(self, key: str) -> str | None:
        """The value of a key."""

    def keys(self, prefix: str) -> list[str]:
        """All keys with a prefix."""

    def delete(self, key: str) -> None:
        """Deletes a key, if it is there."""


@dataclass(frozen=True)
class Entry:
    """A policy that came into force.

    Attributes:
        revision: 0 for the one that the cascade was started with, then 1, 2, ...
        version: of the policy set.
        kind: "start", "reload" or "rollback".
        at_s: seconds since 1970, by the clock of the gateway that received it.
        policy: JSON of the policy set.
    """

    revision: int
    version: str
    kind: str
    at_s: float
    policy: str


@dataclass(frozen=True)
class Presence:
    """What a gateway reports.

    Attributes:
        node: host name of its node.
        pid: of its process.
        revision: of the policy that it has in force.
        beat: a number that changes while it lives.
    """

    node: str
    pid: int
    revision: int
    beat: int


class PolicyLog:
    """A log whose entries are written once and never changed, and the latest report of each gateway.

    Two gateways that receive a reload at the same time write the same revision; the store accepts one of them.

    Args:
        store: shared by the gateways of one cascade, and by no other program.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, entry: Entry) -> bool:
        """Writes an entry; returns whether it was written, which it is not if its revision exists."""
        if not self._store.add(_entry_key(entry.revision), json.dumps(asdict(entry))):
            return False
        if entry.revision >= KEPT:
            self._store.delete(_entry_key(entry.revision - KEPT))
        return True

    def latest(self) -> int | None:
        """The last revision; ``None`` if there is no entry."""
        return max((int(key.rpartition("/")[2]) for key in self._store.keys("entry/")), default=None)

    def read(self, revision: int) -> Entry | None:
        """An entry; ``None`` if there is none, or it has been dropped."""
        text = self._store.get(_entry_key(revision))
        return None if text is None else Entry(**json.loads(text))

    def entries(self) -> list[Entry]:
        """All that are kept, the oldest first."""
        found = (self._store.get(key) for key in sorted(self._store.keys("entry/")))
        return [Entry(**json.loads(text)) for text in found if text is not None]

    def report(self, gateway: str, presence: Presence) -> None:
        """Writes what a gateway has in force."""
        self._store.put(f"gateway/{gateway}", json.dumps(asdict(presence)))

    def forget(self, gateway: str) -> None:
        """Deletes the report of a gateway that is gone."""
        self._store.delete(f"gateway/{gateway}")

    def gateways(self) -> dict[str, Presence]:
        """The latest report of each gateway."""
        keys = self._store.keys("gateway/")
        found = {key.partition("/")[2]: self._store.get(key) for key in keys}
        return {name: Presence(**json.loads(text)) for name, text in sorted(found.items()) if text is not None}


def _entry_key(revision: int) -> str:
    return f"entry/{revision:09d}"
