"""Keeps to this machine what Ray Serve would show to its network."""

import logging
from typing import Any

import ray

__all__ = ["keep_replica_on_loopback"]

LOOPBACK = "127.0.0.1"
HELPER = "add_port_to_grpc_server"

logger = logging.getLogger(__name__)


def keep_replica_on_loopback() -> None:
    """Binds the port of this replica to loopback, where its node is of this machine only.

    Ray Serve 2.60 binds the gRPC server by which segments call each other to all addresses, without an option for it.
    It does so after the constructor of the replica, which calls this. ``tests/serving/test_ray_serve.py`` sees it if
    that changes.
    """
    if not ray.is_initialized() or ray.util.get_node_ip_address() != LOOPBACK:  # type: ignore[no-untyped-call]
        return
    from ray.serve._private import replica

    add = getattr(replica, HELPER, None)
    if add is None:
        logger.warning("this version of Ray Serve binds the port of a replica in an unknown way; see docs/security.md")
        return

    def add_on_loopback(server: Any, address: str) -> Any:
        return add(server, address.replace("[::]", LOOPBACK))

    setattr(replica, HELPER, add_on_loopback)
