"""The cascade written as the Ray Serve guide suggests, to compare the gateway with.

    python -m cascade.benchmarks.experiments.peers.guide_cascade CONFIG [--policy policy.json] [--port 8100]

An ingress deployment holds a handle to a deployment for each stage ("model composition"); every stage gathers single
rows with ``@serve.batch`` ("dynamic request batching"); the ingress calls stage after stage, once per row, until one
accepts. It is meant to be a good version of that: raw bytes instead of JSON, no pydantic or FastAPI,
``max_ongoing_requests`` far above the batch, the models, scores and thresholds of the cascade itself, the `deployment`
keys of each stage, and batches as large as the gateway's.
"""

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.calibration import Policy
from cascade.cascade import check_models, load_stages
from cascade.config import CascadeConfig, RowsConfig, StageConfig
from cascade.routers import accepted

OBJECT_STORE_BYTES = 150_000_000
MAX_ONGOING_REQUESTS = 1000
BATCH_WAIT_S = 0.002


class GuideStage:
    """A stage: single rows in, (answer, confidence, sure) out."""

    def __init__(
        self,
        config: StageConfig,
        folder: Path,
        policy: Policy,
        index: int,
        batch_rows: int,
        classes: Sequence[str] | None = None,
    ) -> None:
        from ray import serve

        self.stage = load_stages([config], folder, classes)[0]
        self.router, self.threshold = policy.routers[index], policy.threshold(index)
        self.cost = float(policy.cost[index])
        # Decorated here, and not in the class, since the size is an argument.
        self.classify = serve.batch(max_batch_size=batch_rows, batch_wait_timeout_s=BATCH_WAIT_S)(self._classify)

    async def _classify(self, rows: list[Any]) -> list[tuple[int, float, float, bool]]:
        prediction = self.stage.predict(np.stack(rows) if isinstance(rows[0], np.ndarray) else np.array(rows, object))
        confidence = self.stage.confidence(prediction, self.router)
        sure = np.ones(len(rows), bool) if self.threshold is None else accepted(confidence, self.threshold)
        cost = np.broadcast_to(self.cost if prediction.cost is None else prediction.cost, len(rows))
        return list(zip(prediction.answer.tolist(), confidence.tolist(), cost.tolist(), sure.tolist()))

    async def __call__(self, row: Any) -> tuple[int, float, float, bool]:
        return await self.classify(row)


class GuideIngress:
    """HTTP in front of the stages."""

    def __init__(self, rows: RowsConfig, names: list[str], version: str, *handles: Any) -> None:
        self.rows, self.names, self.version, self.handles = rows, names, version, handles

    async def __call__(self, request: Any) -> dict[str, Any]:
        row = await self._row(request)
        total = 0.0
        for stage, handle in enumerate(self.handles):  # noqa: B007 - the stage that answered
            answer, confidence, cost, sure = await handle.remote(row)
            total += cost
            if sure:
                break
        return {
            "answer": [answer],
            "stage": [self.names[stage]],
            "confidence": [confidence],
            "cost": [total],
            "policy_version": self.version,
        }

    async def _row(self, request: Any) -> Any:
        if self.rows.dtype == "text":
            return (await request.json())["rows"][0]
        return np.frombuffer(await request.body(), self.rows.numpy_dtype).reshape(self.rows.shape)


def guide_application(config: CascadeConfig, policy: Policy, folder: Path) -> Any:
    """Binds the deployments, a stage each, into the ingress."""
    from ray import serve

    names = check_models(policy, config.stages).stages
    # A fraction of a logical processor each, as all replicas share one machine.
    options: dict[str, Any] = {"max_ongoing_requests": MAX_ONGOING_REQUESTS, "ray_actor_options": {"num_cpus": 0.1}}
    stages = [
        serve.deployment(name=stage.name)(GuideStage)
        .options(**(options | stage.deployment))
        .bind(stage, folder, policy, index, config.serving.max_batch_rows, config.classes)
        for index, stage in enumerate(config.stages)
    ]
    ingress = serve.deployment(name="ingress")(GuideIngress).options(**options)
    return ingress.bind(config.rows, list(names), policy.version, *stages)


def main(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG")],
    policy_path: Annotated[Path | None, typer.Option("--policy")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8100,
    tuned: Annotated[bool, typer.Option(help="Ray Serve's throughput mode, behind HAProxy.")] = False,
) -> None:
    """Serve a cascade on http://127.0.0.1:PORT/predict as the guide suggests, until Ctrl-C."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if tuned:  # read when Ray is imported
        os.environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}
    import ray
    from ray import serve

    config = CascadeConfig.load(config_path)
    application = guide_application(config, Policy.load(policy_path or config.policy), config_path.resolve().parent)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
        serve.run(application, name="guide", route_prefix="/predict", logging_config={"enable_access_log": False})
        typer.echo(f"serving on http://127.0.0.1:{port}/predict")
        stop.wait()
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
