"""Gateways and later segments in this process, without Ray."""

import asyncio
from contextlib import asynccontextmanager
from unittest.mock import patch

import numpy as np
from local_service import MemoryStore
from serving_process import free_port

from cascade.calibration import Policy
from cascade.config import CascadeConfig

ROWS = 64
STAGES = ("small", "middle", "big")
FAKE = "cascade.backends.fake_backend:FakeBackend"
ONE_CLASS = {"type": "custom", "object": FAKE, "arguments": {"probabilities": [[1]]}}


class LocalHandle:
    """The part of a Ray Serve handle that a gateway uses, in front of a segment in this process."""

    def __init__(self, replica, method="run"):
        self.replica, self.method = replica, method

    def options(self, method_name="run", **_):
        return LocalHandle(self.replica, method_name)

    def remote(self, *arguments, **named):
        return asyncio.get_running_loop().create_task(getattr(self.replica, self.method)(*arguments, **named))


class LocalStore(MemoryStore):
    """In place of Ray's."""

    def __init__(self, *_):
        super().__init__()

    def drop_other_runs(self):
        pass

    def next_number(self, what):
        number = 1
        while not self.add(f"counts/{what}/{number}", ""):
            number += 1
        return number


def probabilities(answer, confidence):
    """(64, 4) predictions of a stage for rows 0, 1, ..., from functions of the row."""
    table = np.empty((ROWS, 4))
    for row in range(ROWS):
        table[row] = (1 - confidence(row)) / 3
        table[row, answer(row)] = confidence(row)
    return table.tolist()


def new_config(segments, **audit):
    """Three stages: small is sure of rows 0 and 1 of each 4, middle of row 2; big disagrees on rows 0 and 3 of 8."""
    said = {
        "small": probabilities(lambda row: row % 4, lambda row: 0.9 if row % 4 < 2 else 0.5),
        "middle": probabilities(lambda row: row % 4, lambda row: 0.9 if row % 4 < 3 else 0.5),
        "big": probabilities(lambda row: (row + (row % 8 in (0, 3))) % 4, lambda row: 0.97),
    }
    stages = [
        {
            "name": name,
            "backend": {"type": "custom", "object": FAKE, "arguments": {"probabilities": table}},
            "router": {"calibrator": "identity"},
        }
        for name, table in said.items()
    ]
    serving = {"port": free_port(), "segments": segments, "max_batch_rows": 16, "audit": audit, "metrics": False}
    return CascadeConfig.model_validate(
        {"name": "local", "rows": {"dtype": "int64"}, "stages": stages, "serving": serving}
    )


def new_policy(certificate=None):
    """Each stage answers what it is sure of."""
    plain = Policy.from_thresholds(STAGES, np.array([0.8, 0.8]))
    return Policy(STAGES, plain.routers, plain.thresholds, certificate=certificate or {})


@asynccontextmanager
async def local_gateway(config, policy, folder):
    """Yields a gateway with its later segments behind it, all in the running event loop."""
    # Here, since they import Ray, with its warnings.
    from cascade.serving.replica import gateway_factory, name_claim, telemetry
    from cascade.serving.replica.gateway import Gateway
    from cascade.serving.replica.segment_replica import SegmentReplica

    with (
        patch.object(gateway_factory, "RayStore", LocalStore),
        patch.object(gateway_factory, "cluster_address", lambda: "local"),
        patch.object(name_claim, "RayStore", LocalStore),
        patch.object(telemetry, "_replica", lambda: ({"replica": "local"}, 0)),
        patch.object(telemetry, "set_up_logs", lambda *_: None),
    ):
        following = None
        for index in reversed(range(1, len(config.segments))):
            following = LocalHandle(await new_replica(SegmentReplica, config, folder, index, following))
        gateway = Gateway(gateway_factory.new_gateway_parts(config, folder, policy.to_json(), "run", following))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()


async def new_replica(replica, *arguments):
    """A replica whose constructor has been awaited, as Ray Serve does."""

    class Local(replica):
        def __del__(self):
            """Ray Serve awaits the inherited one; Python would not."""

    found = Local.__new__(Local)
    await found.__init__(*arguments)
    return found
