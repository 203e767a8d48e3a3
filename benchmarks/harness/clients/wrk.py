"""wrk, the load generator written in C: a Python client would be busier than the server it measures."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError

WRK_THREADS = 1

SCRIPT = """\
local lengths = {%(lengths)s}
local headers = {%(headers)s}
local requests = {}

function init(args)
  math.randomseed(os.time())
  local file = io.open("%(bodies)s", "rb")
  for i, length in ipairs(lengths) do
    requests[i] = wrk.format("POST", nil, headers, file:read(length))
  end
  file:close()
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %%d, "seconds": %%.6f, "p50": %%.4f, "p95": %%.4f, "p99": %%.4f, "max": %%.4f, ' ..
    '"non_2xx": %%d, "connect": %%d, "read": %%d, "write": %%d, "timeout": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, e.status, e.connect, e.read, e.write, e.timeout))
end
"""


class Wrk:
    """Posts bodies in random order over connections that are kept open.

    Args:
        bodies: at least one.
        headers: of every request.
        folder: for the generated script.

    Raises:
        CascadeError: wrk is not installed.
    """

    def __init__(self, bodies: Sequence[bytes], headers: dict[str, str], folder: Path) -> None:
        if shutil.which("wrk") is None:
            raise CascadeError("wrk is not installed; it is in the Debian package 'wrk'")
        (folder / "bodies.bin").write_bytes(b"".join(bodies))
        self.script = folder / "post.lua"
        self.script.write_text(
            SCRIPT
            % {
                "lengths": ", ".join(str(len(body)) for body in bodies),
                "headers": ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items()),
                "bodies": folder / "bodies.bin",
            }
        )

    def run(self, url: str, connections: int, seconds: int) -> dict[str, Any]:
        """Loads a server.

        Returns:
            "requests_per_s" (answered with a status below 400), "latency_ms", "errors" by kind, "seconds", "requests".
        """
        command = ["wrk", f"-t{WRK_THREADS}", f"-c{connections}", f"-d{seconds}s", "-s", str(self.script), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if done.returncode or not lines:
            raise CascadeError(f"wrk failed on {url}: {done.stderr or done.stdout}")
        seen = json.loads(lines[0].removeprefix("RESULT "))
        return {
            "seconds": seen["seconds"],
            "requests": seen["requests"],
            "requests_per_s": (seen["requests"] - seen["non_2xx"]) / seen["seconds"],
            "latency_ms": {name: seen[name] for name in ("p50", "p95", "p99", "max")},
            "errors": {name: seen[name] for name in ("non_2xx", "connect", "read", "write", "timeout")},
        }
