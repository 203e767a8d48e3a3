"""A load over the lean client, from a process that does nothing else meanwhile."""

from collections.abc import Sequence
from typing import Any

import uvloop

from cascade.benchmarks.harness.clients.lean_http import LeanHttpTarget
from cascade.benchmarks.load import Load
from cascade.benchmarks.workload import Workload

__all__ = ["run_load"]


def run_load(load: Load, address: str, workload: Workload, stages: Sequence[str], connections: int) -> dict[str, Any]:
    """The numbers of one load over HTTP, as a ``Measurement`` has them.

    Args:
        load: closed or open loop.
        address: of the server, such as "http://127.0.0.1:8000".
        workload: rows to send.
        stages: names of the cascade's stages.
        connections: most at a time.
    """

    async def run() -> dict[str, Any]:
        target = LeanHttpTarget(address, stages, connections)
        try:
            return (await load.run(target, workload, tuple(stages))).to_dict()
        finally:
            await target.close()

    return uvloop.run(run())
