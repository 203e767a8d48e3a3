"""A Ray Serve application that does nothing: two replicas, Ray Serve's listener off, Ray as ``ray.init`` starts it."""

import http.server
import sys
import threading

import ray
from ray import serve

REPLICAS = 2


@serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0.1})
class Nothing:
    """Answers a call."""

    def __call__(self) -> None:
        """Returns."""


class Up(http.server.BaseHTTPRequestHandler):
    """Answers the probe of the experiment."""

    def do_POST(self) -> None:
        """200."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def main(port: int) -> None:
    """Serves until it is interrupted."""
    ray.init(include_dashboard=False, object_store_memory=256 * 1024 * 1024, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    serve.run(Nothing.bind(), route_prefix=None)
    server = http.server.HTTPServer(("127.0.0.1", port), Up)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
