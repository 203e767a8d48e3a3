"""A gateway as a replica of Ray Serve."""

from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

from cascade.config import CascadeConfig
from cascade.serving.replica.garbage import freeze_loaded_objects
from cascade.serving.replica.gateway import Gateway
from cascade.serving.replica.gateway_factory import new_gateway_parts
from cascade.serving.replica.loopback import keep_replica_on_loopback
from cascade.serving.replica.segment_deployment import start_errors

__all__ = ["GatewayReplica"]


class GatewayReplica(Gateway):
    """A gateway that has its parts built where it runs; arguments as of :func:`new_gateway_parts`."""

    # Ray Serve awaits the constructor, and the listeners must start in the replica's event loop.
    async def __init__(  # type: ignore[misc]
        self,
        config: CascadeConfig,
        folder: Path,
        policies_json: str,
        run: str,
        next_segment: DeploymentHandle[Any] | None = None,
    ) -> None:
        with start_errors(config, 0):
            keep_replica_on_loopback()
            super().__init__(new_gateway_parts(config, folder, policies_json, run, next_segment))
            await self.start()
            freeze_loaded_objects()

    async def __del__(self) -> None:
        if hasattr(self, "_listeners"):
            await self.close()
