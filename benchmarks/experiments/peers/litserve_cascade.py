r"""The two busy stages on LitServe: batches in one place, both stages in a worker, as many workers as processors.

    PYTHONPATH=benchmarks/harness/stages PYTHON_WITH_LITSERVE \
        benchmarks/experiments/peers/litserve_cascade.py --rounds 60,600 --port 8300

LitServe has no stages, so a worker runs the whole cascade on its batch. Raw bytes in, no pydantic model, its fast
queue.
"""

import argparse
from typing import Annotated, Any

import busy_stage
import litserve
import numpy as np
import orjson
from fastapi import Depends, Request, Response

BATCH_WAIT_S = 0.002


async def raw_body(request: Request) -> bytes:
    """The body; LitServe by default reads JSON."""
    return await request.body()


class CascadeApi(litserve.LitAPI):  # type: ignore[misc]
    """Rows in, answers out."""

    def __init__(self, rounds: list[int], batch_rows: int) -> None:
        super().__init__(max_batch_size=batch_rows, batch_timeout=BATCH_WAIT_S, api_path="/predict")
        self.rounds = rounds

    def setup(self, device: str) -> None:  # noqa: ARG002 (LitServe's signature)
        self.model = busy_stage.TwoStages(self.rounds)

    def decode_request(self, request: Annotated[bytes, Depends(raw_body)]) -> np.ndarray:
        return np.frombuffer(request, np.uint8)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, rows: np.ndarray) -> list[tuple[int, int, float]]:
        return list(self.model.predict(rows))

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: tuple[int, int, float]) -> Response:
        return Response(orjson.dumps(busy_stage.columns(output)), media_type="application/json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=lambda text: [int(part) for part in text.split(",")], required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = litserve.LitServer(
        CascadeApi(options.rounds, options.batch),
        accelerator="cpu",
        workers_per_device=options.workers,
        fast_queue=True,
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")
