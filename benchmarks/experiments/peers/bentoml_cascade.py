r"""The two busy stages on BentoML: a front that reads raw bytes, and a service whose calls BentoML batches.

    ROUNDS=60,600 PYTHONPATH=benchmarks/harness/stages PYTHON_WITH_BENTOML -m bentoml serve bentoml_cascade:Front \
        --working-dir benchmarks/experiments/peers --host 127.0.0.1 --port 8400

BentoML batches the calls between two services, so the front passes each row on and the other service runs both stages
on what it gets together. Its own form of a request is JSON, which for 3 kB of numbers would be slower than raw bytes.
"""

import os

import bentoml
import busy_stage
import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BATCH_ROWS = 64
MAX_LATENCY_MS = 1000
"""BentoML answers 503 where it expects to be slower."""
QUIET = {"access": {"enabled": False}}


@bentoml.service(workers=2, logging=QUIET)
class Stages:
    """Both stages, as many processes as processors."""

    def __init__(self) -> None:
        self.model = busy_stage.TwoStages([int(part) for part in os.environ["ROUNDS"].split(",")])

    @bentoml.api(batchable=True, max_batch_size=BATCH_ROWS, max_latency_ms=MAX_LATENCY_MS)  # type: ignore[untyped-decorator]
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n, 3) answer, stage and confidence of (n, bytes of a row)."""
        return np.array(list(self.model.predict(rows)), dtype=np.float64)


app = Starlette()


@bentoml.service(logging=QUIET)
@bentoml.asgi_app(app)
class Front:
    """``POST /predict`` with the bytes of a row."""

    stages = bentoml.depends(Stages)

    def __init__(self) -> None:
        app.router.routes.append(Route("/predict", self.predict, methods=["POST"]))

    async def predict(self, request: Request) -> Response:
        """Answers one row."""
        row = np.frombuffer(await request.body(), np.uint8)
        ((answer, stage, confidence),) = await self.stages.to_async.predict(row[None])
        columns = busy_stage.columns((int(answer), int(stage), float(confidence)))
        return Response(orjson.dumps(columns), media_type="application/json")
