"""A Ray Serve application that does nothing: two replicas, no listener of Ray Serve, Ray as ``ray.init`` starts it.

python -m cascade.benchmarks.experiments.serving.bare_serve --port 8100
"""

import http.server
import threading
from typing import Annotated

import ray
import typer
from ray import serve

REPLICAS = 2


class Nothing:
    """Returns at once."""

    def __call__(self) -> None:
        """Returns."""


class Up(http.server.BaseHTTPRequestHandler):
    """Answers the experiment's probe."""

    def do_POST(self) -> None:
        """200."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Writes nothing."""


def main(port: Annotated[int, typer.Option(min=1, max=65535)]) -> None:
    """Serve until the process is interrupted."""
    ray.init(include_dashboard=False, object_store_memory=256 * 1024 * 1024, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    nothing = serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0.1})(Nothing)
    serve.run(nothing.bind(), route_prefix=None)
    server = http.server.HTTPServer(("127.0.0.1", port), Up)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
