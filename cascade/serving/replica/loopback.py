"""Keeps a port of Ray Serve on this machine, which it would open to the network."""

import logging
from typing import Any

import ray

__all__ = ["keep_replica_on_loopback"]

LOOPBACK = "127.0.0.1"
BIND_FUNCTION = "add_port_to_grpc_server"

logger = logging.getLogger(__name__)


def keep_replica_on_loopback() -> None:
    """Binds the port of this replica to loopback, where its node has no other address.

    Ray Serve 2.60 binds the gRPC server by which segments call each other to all addresses, without an option for it.
    It does so after the constructor of the replica, which calls this. ``tests/serving/ray/test_ray_serve.py`` fails if
    that changes.
    """
    if not ray.is_initialized() or ray.util.get_node_ip_address() != LOOPBACK:  # type: ignore[no-untyped-call]
        return
    from ray.serve._private import replica

    add = getattr(replica, BIND_FUNCTION, None)
    if add is None:
        logger.warning("this version of Ray Serve binds the port of a replica in an unknown way; see docs/security.md")
        return

    def add_on_loopback(server: Any, address: str) -> Any:
        return add(server, address.replace("[::]", LOOPBACK))

    setattr(replica, BIND_FUNCTION, add_on_loopback)
