"""The claim of a run of ``cascade serve`` on the name of its application on a cluster."""

import json
import os
import socket
from collections.abc import Callable

from cascade.errors import ConfigError
from cascade.serving.policy.log import Store
from cascade.serving.policy.ray_store import RayStore, living_jobs

__all__ = ["NameClaim", "new_name_claim"]


class NameClaim:
    """A claim that is valid as long as the program that took it runs.

    Without it, Ray Serve replaces an application by another one of the same name, and drops requests under way.

    Args:
        store: of all claims of a cluster.
        name: of the application.
        run: id of this start of the cascade.
        living_jobs: returns ids of the programs that are joined to the cluster.
    """

    def __init__(self, store: Store, name: str, run: str, living_jobs: Callable[[], set[str]]) -> None:
        self._store, self._name, self._run, self._living_jobs = store, name, run, living_jobs

    def take(self, job: str) -> bool:
        """Claims the name; a claim of a dead program does not count.

        Args:
            job: id of the program that claims it.

        Returns:
            Whether a dead program had it: its application may still be running.

        Raises:
            ConfigError: another running program has it.
        """
        value = json.dumps({"run": self._run, "job": job, "host": socket.gethostname(), "pid": os.getpid()})
        was_stale = False
        while not self._store.add(self._name, value):
            self.check()
            self._store.delete(self._name)
            was_stale = True
        return was_stale

    def check(self) -> None:
        """Checks that no other start of a cascade has the name.

        Raises:
            ConfigError: one has it, and runs.
        """
        text = self._store.get(self._name)
        owner = {} if text is None else json.loads(text)
        if owner and owner["run"] != self._run and owner["job"] in self._living_jobs():
            raise ConfigError(
                f"the cluster serves a cascade of the name {self._name!r} already, started by process {owner['pid']} "
                f"on {owner['host']}; give this one another 'name', or stop that one"
            )

    def release(self) -> None:
        """Releases the name."""
        self._store.delete(self._name)


def new_name_claim(name: str, run: str) -> NameClaim:
    """The claim of a start of a cascade on the name of its application."""
    # An application's own name has no colon, so its store is another one.
    return NameClaim(RayStore(":claims", "names"), name, run, living_jobs)
