"""A Prometheus of the test's own, with the project's rules, and what its expressions name."""

import contextlib
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml
from serving_process import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus/alerts.yaml"
needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="Prometheus is not installed")


def alerts():
    """Every rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    """Every panel of the Grafana dashboard."""
    return json.loads((DEPLOY / "grafana/cascade.json").read_text())["panels"]


def expressions():
    """Every PromQL expression of the project, with what Grafana puts in for its variables."""
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    shown = [query.replace("$application", ".*").replace("$__rate_interval", "30s") for query in queries]
    return shown, [rule["expr"] for rule in alerts()]


def used_names(expression):
    """Metrics in an expression."""
    return set(re.findall(r"\bray_[a-z_]+", expression))


@contextlib.contextmanager
def prometheus(targets, folder):
    """Yields a client of a Prometheus that scrapes every second."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "cascade", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def until(ask, is_right, timeout_s=40):
    """What ``ask`` gives once it is right; the last one if it never is. An answer that does not come is none."""
    deadline = time.monotonic() + timeout_s
    found = None
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            found = ask()
            if is_right(found):
                break
        time.sleep(0.5)
    return found
