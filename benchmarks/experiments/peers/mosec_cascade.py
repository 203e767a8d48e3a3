r"""The two busy stages on mosec: a Rust front, a worker process a stage, dynamic batches in both.

    PYTHONPATH=benchmarks/harness/stages PYTHON_WITH_MOSEC \
        benchmarks/experiments/peers/mosec_cascade.py --rounds 60,600 --port 8200

Rows pass through every stage of a mosec pipeline, so the second worker passes on, at no cost, the answers of the first.
It is meant to be a good version: raw bytes instead of JSON as input, no pickle between the workers, and only the
deferred rows are sent on. With ``--fused`` every worker has both stages, and nothing is sent between workers.
"""

import argparse

import busy_stage
import numpy as np
import orjson
from mosec import Server, Worker

WAIT_MS = 1
DEFERRED = b"\0"  # an answer of the first worker begins with "{"


def options() -> argparse.Namespace:
    """Options of this script; mosec reads --address, --port and others itself."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=lambda text: [int(part) for part in text.split(",")], required=True)
    parser.add_argument("--batch", type=lambda text: [int(part) for part in text.split(",")], default=[64, 64])
    parser.add_argument("--fused", type=int, default=0, help="Number of workers that have both stages.")
    return parser.parse_known_args()[0]


class First(Worker):  # type: ignore[misc]
    """Rows in; an answer's bytes or the row's bytes out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = busy_stage.new_stages(options().rounds)[0]

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        rows = np.frombuffer(b"".join(data), np.uint8).reshape(len(data), -1)
        found = busy_stage.top(self.model.predict(rows), 0)
        return [
            orjson.dumps(busy_stage.columns(one)) if one[2] >= busy_stage.THRESHOLD else DEFERRED + row
            for one, row in zip(found, data)
        ]

    def serialize_ipc(self, data: bytes) -> bytes:
        return data


class Second(Worker):  # type: ignore[misc]
    """Answers the deferred rows, passes on the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.model = busy_stage.new_stages(options().rounds)[1]

    def deserialize_ipc(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        places = [place for place, one in enumerate(data) if one.startswith(DEFERRED)]
        if places:
            rows = np.frombuffer(b"".join(data[place][1:] for place in places), np.uint8).reshape(len(places), -1)
            for place, one in zip(places, busy_stage.top(self.model.predict(rows), 1)):
                data[place] = orjson.dumps(busy_stage.columns(one))
        return data

    def serialize(self, data: bytes) -> bytes:
        return data


class Both(Worker):  # type: ignore[misc]
    """Rows in, answers' bytes out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = busy_stage.TwoStages(options().rounds)

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        rows = np.frombuffer(b"".join(data), np.uint8).reshape(len(data), -1)
        return [orjson.dumps(busy_stage.columns(one)) for one in self.model.predict(rows)]

    def serialize(self, data: bytes) -> bytes:
        return data


def main() -> None:
    """Serves until it is stopped."""
    server = Server()
    asked = options()
    if asked.fused:
        server.append_worker(
            Both, num=asked.fused, max_batch_size=asked.batch[0], max_wait_time=WAIT_MS, route="/predict"
        )
    else:
        for worker, rows in zip((First, Second), asked.batch):
            server.append_worker(worker, max_batch_size=rows, max_wait_time=WAIT_MS, route="/predict")
    server.run()


if __name__ == "__main__":
    main()
