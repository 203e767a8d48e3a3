"""A store that outlives every replica: the key-value store of the Ray cluster."""

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

__all__ = ["RayStore", "cluster_address", "living_jobs"]

NAMESPACE = "idk-cascade"
COUNTS = "counts"


class RayStore:
    """A :class:`~cascade.serving.policy.log.Store` in Ray's internal key-value store.

    It lives as long as the cluster's head (with a fault-tolerant head, longer), and all nodes share it. Ray Serve keeps
    its own state there. Its functions are not part of Ray's stable interface, so only this file calls them;
    ``tests/serving/ray/test_ray_reload.py`` fails if they change.

    Args:
        name: of the application.
        run: id of this start of it.
    """

    def __init__(self, name: str, run: str) -> None:
        self._name = f"{name}/"
        self._prefix = f"{name}/{run}/"
        self._counts = f"{name}/{COUNTS}/"

    def drop_other_runs(self) -> None:
        """Deletes the values of earlier starts of the application; a cluster may outlive many."""
        for key in _internal_kv_list(self._name, namespace=NAMESPACE):
            if not str(key, "utf-8").startswith((self._prefix, self._counts)):
                _internal_kv_del(key, namespace=NAMESPACE)

    def next_number(self, what: str) -> int:
        """1, 2, 3 and so on: a number not returned before, in this start of the application or an earlier one."""
        prefix = f"{self._counts}{what}/"
        taken = (str(key, "utf-8").removeprefix(prefix) for key in _internal_kv_list(prefix, namespace=NAMESPACE))
        number = 1 + max(map(int, taken), default=0)
        while _internal_kv_put(f"{prefix}{number}", "", overwrite=False, namespace=NAMESPACE):
            number += 1
        return number

    def add(self, key: str, value: str) -> bool:
        """Writes a value, unless the key has one; returns whether it was written."""
        return not _internal_kv_put(self._prefix + key, value, overwrite=False, namespace=NAMESPACE)

    def put(self, key: str, value: str) -> None:
        """Writes a value."""
        _internal_kv_put(self._prefix + key, value, overwrite=True, namespace=NAMESPACE)

    def get(self, key: str) -> str | None:
        """The value of a key."""
        value = _internal_kv_get(self._prefix + key, namespace=NAMESPACE)
        return None if value is None else str(value, "utf-8")

    def keys(self, prefix: str) -> list[str]:
        """All keys with a prefix."""
        found = _internal_kv_list(self._prefix + prefix, namespace=NAMESPACE)
        return [str(key, "utf-8").removeprefix(self._prefix) for key in found]

    def delete(self, key: str) -> None:
        """Deletes a key, if it is there."""
        _internal_kv_del(self._prefix + key, namespace=NAMESPACE)


def living_jobs() -> set[str]:
    """Ids of the programs that are joined to the cluster now."""
    from ray._private.worker import global_worker

    jobs = global_worker.gcs_client.get_all_job_info()  # type: ignore[attr-defined]
    return {job.hex() for job, status in jobs.items() if not status.is_dead}


def cluster_address() -> str:
    """The address of the cluster that this process has joined, which identifies it."""
    import ray

    return str(ray.get_runtime_context().gcs_address)
