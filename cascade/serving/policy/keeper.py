"""The policy in force in a gateway, the same as in all other gateways."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from cascade.backends.config import BackendConfig
from cascade.backends.digest import remembered_digest
from cascade.calibration import Policy, PolicySet
from cascade.cascade import check_models
from cascade.config import GearsConfig, StageConfig
from cascade.errors import CascadeError, PolicyError
from cascade.serving.batching.batcher import Batcher
from cascade.serving.errors import PolicyRefused, ReloadConflict, UnknownVersion
from cascade.serving.policy.gateway_presence import GatewayPresence, call_log
from cascade.serving.policy.gears import GearShift, usable_gears
from cascade.serving.policy.log import Entry, PolicyLog

__all__ = ["PolicyKeeper", "check_policies"]

POLL_S = 1.0
"""A gateway that is not called polls the log for a new policy this often, and reports its own."""
GEAR_POLL_S = 0.02
"""The waiting time of the rows is read this often, to change gears."""

logger = logging.getLogger(__name__)

TryOut = Callable[[Policy, Policy], Awaitable[None]]
"""Takes a new policy, and the one in force."""
Announce = Callable[[], Awaitable[None]]
"""Makes all gateways call :meth:`PolicyKeeper.follow`."""


def check_policies(
    policies: PolicySet,
    stages: Sequence[StageConfig],
    gears: GearsConfig | None,
    digest: Callable[[BackendConfig], str] | None = None,
) -> PolicySet:
    """Checks that a policy set can be served: its stages, their models, the operator's floor.

    Args:
        policies: to be checked.
        stages: of the configuration.
        gears: with the floor.
        digest: of a backend; by default it reads the files of each one once.

    Raises:
        PolicyError: it cannot.
    """
    digest = digest or remembered_digest()
    for gear in policies.gears:
        check_models(gear, stages, digest)
    usable_gears(policies, gears)
    return policies


class PolicyKeeper:
    """Keeps the policy in force: changes it, follows changes that other gateways made, and shifts gears.

    A new policy is an entry of a log that all gateways read (``docs/decisions/0013-policy-reload.md``). The gateway
    that receives it checks it, appends it, and waits until every gateway that lives has it in force. No request waits
    for any of this: it takes the :attr:`policy` that is in force when it comes, and keeps it.

    Args:
        start: the policies that the cascade is started with, in force if the log is empty.
        stages: of the configuration.
        gears: when to change gears; ``None`` to stay in the best one.
        log: shared with the other gateways.
        try_out: raises where the stages cannot work by a policy; by default no policy is tried.
        announce: called when a new policy is in the log; by default the other gateways find it when they poll, at most
            a second later.

    Attributes:
        policy: for rows that come now.
        gear_changes: how often the gear was changed, reloads not counted.
    """

    def __init__(
        self,
        start: PolicySet,
        stages: Sequence[StageConfig],
        gears: GearsConfig | None,
        log: PolicyLog,
        try_out: TryOut | None = None,
        announce: Announce | None = None,
    ) -> None:
        self._stages = stages
        self._settings = gears
        self._digest = remembered_digest()
        self._log = log
        self._try_out = try_out
        self._announce = announce
        self._presence = GatewayPresence(log)
        self._is_changing = False
        self._following: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._logged_error = ""
        self.gear_changes = 0
        self.policy: Policy
        self._entry = Entry(0, start.version, "start", time.time(), start.to_json())
        self._use(self._entry, start)

    @property
    def revision(self) -> int:
        """Number of the policy set in force: 0 at the start, one more after each reload or rollback."""
        return self._entry.revision

    @property
    def gear(self) -> int:
        """Place of :attr:`policy` in the policy set; 0 is the best."""
        return self._shift.gear

    async def open(self) -> None:
        """Takes the policy that is in force elsewhere, or begins the log, and follows it from then on.

        Raises:
            Unavailable: the log cannot be reached.
        """
        # In this order: a reload that does not wait for this gateway has been written before the log is read here.
        await self._presence.report(self.revision)
        await self._catch_up()
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def follow(self) -> None:
        """Takes the newest policy of the log, and reports that it is in force here.

        Raises:
            Unavailable: the log cannot be reached.
        """
        await self._catch_up()
        await self._presence.report(self.revision)

    async def close(self) -> None:
        """Stops following the log."""
        if self._announcing is not None:
            self._announcing.cancel()
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            with contextlib.suppress(CascadeError):
                await self._presence.remove()

    def update_gear(self, waited_s: float, offered_rows: int) -> None:
        """Changes the gear, if it is time to.

        Args:
            waited_s: how long the oldest rows of the gateway have waited.
            offered_rows: all that ever arrived.
        """
        before = self._shift.gear
        gear = self._shift.update(asyncio.get_running_loop().time(), waited_s, offered_rows)
        if gear != before:
            self.gear_changes += 1
            self.policy = self._gears[gear]
            logger.info("gear %d instead of %d: rows waited %.0f ms", gear, before, 1e3 * waited_s)

    async def watch(self, batcher: Batcher) -> None:
        """Updates the gear from the rows that wait in a batcher, until it is cancelled."""
        while True:
            self.update_gear(batcher.longest_wait_s(), batcher.offered_rows)
            await asyncio.sleep(GEAR_POLL_S)

    def describe(self) -> dict[str, Any]:
        """The policy in force, its version, revision and gear."""
        gears = {
            "index": self.gear,
            "versions": [gear.version for gear in self._policies.gears],
            "usable": len(self._gears),
            "changes": self.gear_changes,
        }
        return self.policy.to_dict() | {"version": self.policy.version, "revision": self.revision, "gear": gears}

    async def replace(self, text: str) -> dict[str, Any]:
        """Puts a policy, or a policy set, into force in all gateways.

        Args:
            text: its JSON.

        Returns:
            Its "version", "revision" and "gears"; how many "gateways" have it; and those that live but are "behind".

        Raises:
            PolicyRefused: it cannot be served here; the old one stays.
            ReloadConflict: another change is under way.
            Unavailable: the log cannot be reached. The old one stays, unless the new one had been written before; the
                history shows which.
        """
        with self._change():
            return await self._put("reload", text)

    async def restore(self, version: str | None = None) -> dict[str, Any]:
        """Puts a policy of the history back into force, by default the one before the current one.

        Args:
            version: of the policy set.

        Returns:
            Like :meth:`replace`.

        Raises:
            UnknownVersion: it is not in the history.
            PolicyRefused, ReloadConflict, Unavailable: as for :meth:`replace`.
        """
        with self._change():
            await self._catch_up()
            entries = await call_log(self._log.entries)
            wanted = [
                entry
                for entry in entries
                if (entry.version != self._entry.version if version is None else entry.version == version)
            ]
            if not wanted:
                which = "no other policy" if version is None else f"no policy of version {version[:60]!r}"
                raise UnknownVersion(f"{which} is in the history; GET /policy/history lists it")
            return await self._put("rollback", wanted[-1].policy)

    async def history(self) -> list[dict[str, Any]]:
        """The policies that were in force, the current one last.

        Raises:
            Unavailable: the log cannot be reached.
        """
        return [
            {
                "revision": entry.revision,
                "version": entry.version,
                "kind": entry.kind,
                "at": datetime.fromtimestamp(entry.at_s, timezone.utc).isoformat(timespec="milliseconds"),
            }
            for entry in await call_log(self._log.entries)
        ]

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        if self._is_changing:
            raise ReloadConflict("another policy is coming into force at the moment; try again later")
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False

    async def _put(self, kind: str, text: str) -> dict[str, Any]:
        policies = await self._checked(text)
        await self._catch_up()
        entry = Entry(self.revision + 1, policies.version, kind, time.time(), policies.to_json())
        if not await call_log(self._log.append, entry):
            raise ReloadConflict("another gateway has put a policy into force at the same moment; try again later")
        self._use(entry, policies, self.gear)
        logger.info("%s: policy %s is in force, revision %d", kind, entry.version, entry.revision)
        if self._announce is not None:
            # A gateway that hangs must not delay the response: which gateways have the policy is read from the log.
            self._announcing = asyncio.get_running_loop().create_task(self._announce_change(self._announce))
        ready, behind = await self._presence.confirmed(entry.revision)
        return {
            "version": policies.version,
            "revision": entry.revision,
            "gears": [gear.version for gear in policies.gears],
            "gateways": ready,
            "behind": behind,
        }

    async def _checked(self, text: str) -> PolicySet:
        try:
            policies = await asyncio.to_thread(self._parse, text)
            if self._try_out is not None:
                for gear in policies.gears:
                    await self._try_out(gear, self.policy)
        except PolicyError as error:
            raise PolicyRefused(f"{error}; policy {self._entry.version} stays in force") from error
        return policies

    def _parse(self, text: str) -> PolicySet:
        return check_policies(PolicySet.from_json(text), self._stages, self._settings, self._digest)

    def _use(self, entry: Entry, policies: PolicySet, gear: int = 0) -> None:
        """Puts a policy set into force here, in a gear, or in the cheapest one if it has fewer gears."""
        self._entry, self._policies = entry, policies
        self._gears = usable_gears(policies, self._settings)
        self._shift = GearShift(len(self._gears), self._settings or GearsConfig(), min(gear, len(self._gears) - 1))
        self.policy = self._gears[self._shift.gear]

    async def _catch_up(self) -> None:
        """Takes the newest policy of the log."""
        found = await call_log(self._newer, self.revision)
        if found is not None and found[0].revision > self.revision:
            self._use(*found, self.gear)  # the load has not changed
            logger.info("policy %s is in force, revision %d", found[0].version, found[0].revision)

    def _newer(self, revision: int) -> tuple[Entry, PolicySet] | None:
        latest = self._log.latest()
        if latest is None or latest < revision:
            # At the start, or where the store came back empty; of several gateways one writes the entry.
            self._log.append(self._entry)
        entry = None if latest is None or latest <= revision else self._log.read(latest)
        return None if entry is None else (entry, PolicySet.from_json(entry.policy))

    async def _announce_change(self, announce: Announce) -> None:
        try:
            await announce()
        except Exception as error:
            logger.warning("the other gateways cannot be called, and find the policy when they poll: %s", error)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.follow()
                self._logged_error = ""
            except Exception as error:
                if str(error) != self._logged_error:  # once, not every second
                    self._logged_error = str(error)
                    logger.warning("the log of policies cannot be read, the current policy stays in force: %s", error)
