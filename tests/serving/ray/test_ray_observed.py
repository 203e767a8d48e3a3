"""Metrics, spans, logs and the dashboard of a cascade on a real Ray Serve."""

import contextlib
import http.server
import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus import expressions, needs_prometheus, prometheus, until
from serving_process import free_port, serving_process

from cascade.calibration import Policy
from cascade.serving.telemetry.metrics import METRICS, exported_name

pytestmark = pytest.mark.serve

ROWS = [[row, 0] for row in range(20)]
UNLIKELY = 424242
"""A row that the stages fail on; their exception quotes it."""

# What others fill, and what nothing here makes happen.
NOT_HERE = ("audit", "alarm", "gear", "reloads", "degraded", "abstained", "reviewed")


class Collector(http.server.BaseHTTPRequestHandler):
    """Receives spans."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.spans += [
            span
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def collecting():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.spans = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def served(config_path, tmp_path_factory):
    """(client, spans, address of the metrics)."""
    folder = tmp_path_factory.mktemp("observed")
    config = yaml.safe_load(config_path.read_text())
    replace(Policy.load(config_path.parent / "policy.json"), cost=np.array([1.0, 10.0])).save(folder / "policy.json")
    config["serving"] |= {
        "metrics_port": free_port(),
        "traces": {"sample_share": 1.0, "most_per_s": 1000},
        "log_format": "json",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        with (
            serving_process(folder / "config.yaml", folder / "log") as url,
            httpx.Client(base_url=url, timeout=20) as client,
        ):
            ask(client)
            yield client, collector.spans, f"127.0.0.1:{config['serving']['metrics_port']}"


def ask(client):
    answers = client.post("/predict", json={"rows": ROWS})
    assert answers.json()["stage"].count("big") == 10
    assert client.post("/predict", json={"rows": [[UNLIKELY, 0]]}).status_code == 500
    assert client.post("/predict", json={"rows": []}).status_code == 400


def test_all_metrics_are_exported(served):
    _, _, metrics = served
    wanted = {exported_name(metric) for metric in METRICS if not any(part in metric.name for part in NOT_HERE)}

    def missing():
        text = httpx.get(f"http://{metrics}/metrics", timeout=10).text
        return {name for name in wanted if f"\n{name}{{" not in text}, text

    found, text = until(missing, lambda each: not each[0])
    assert found == set()
    lines = [line for line in text.splitlines() if line.startswith("ray_cascade_answered_rows_total")]
    assert {line.rpartition(" ")[2] for line in lines} == {"10.0"}
    assert all('application="fake"' in line and 'deployment="gateway"' in line for line in lines)
    (deferred,) = [line for line in text.splitlines() if 'outcome="deferred"' in line and "_stage_rows_" in line]
    assert 'stage="small"' in deferred
    assert deferred.endswith(" 10.0")


EXPECTED = {"CascadeStageFails", "CascadeDoesNotAnswer"}


def raised(rules):
    return {rule["name"] for rule in rules if rule["state"] != "inactive"}


@needs_prometheus
def test_a_real_prometheus_loads_the_rules_and_answers_every_query(served, tmp_path):
    client, _, metrics = served
    shown, _ = expressions()
    with prometheus([metrics], tmp_path) as asked:

        def unanswered():
            ask(client)
            found = {query: asked.get("/api/v1/query", params={"query": query}).json() for query in shown}
            assert all(each["status"] == "success" for each in found.values()), found
            return [
                query
                for query, each in found.items()
                if not each["data"]["result"] and not any(part in query for part in NOT_HERE)
            ]

        assert until(unanswered, lambda found: not found) == []
        rules = until(
            lambda: asked.get("/api/v1/rules").json()["data"]["groups"][0]["rules"],
            lambda rules: raised(rules) >= EXPECTED and "CascadeGone" not in raised(rules),
        )
    assert {rule["health"] for rule in rules} == {"ok"}
    assert raised(rules) >= EXPECTED
    assert raised(rules).isdisjoint({"CascadeGone", "CascadeAlarm", "CascadeSheds", "CascadePoliciesDiffer"})


def test_a_request_is_one_trace_through_both_processes(served):
    _, spans, _ = served

    def parts():
        """By trace, the stages that have spans in it."""
        found = {}
        for span in spans:
            stage = [each.value.string_value for each in span.attributes if each.key == "cascade.stage"]
            found.setdefault(span.trace_id, []).extend(stage or [span.name])
        return sorted(map(sorted, found.values()), key=len)

    found = until(parts, lambda found: found and len(found[-1]) == 3)
    assert found[-1] == ["big", "cascade.route", "small"]


def test_no_log_and_no_span_contains_data_of_a_client(served):
    _, spans, metrics = served
    session = re.search(r'SessionName="([^"]+)"', httpx.get(f"http://{metrics}/metrics", timeout=10).text)[1]
    logs = Path("/tmp/ray") / session / "logs"  # noqa: S108
    written = {path: path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()}
    ours = [line for text in written.values() for line in text.splitlines() if '"cascade.serving' in line]
    assert any(json.loads(line)["message"] == "a stage failed" for line in ours)
    assert all(json.loads(line)["application"] == "fake" for line in ours)
    assert [str(path) for path, text in written.items() if str(UNLIKELY) in text] == []
    assert not any(str(UNLIKELY) in str(span) for span in spans)


def test_the_page_shows_the_numbers_of_its_gateway(served):
    client, _, _ = served
    data = until(lambda: client.get("/dashboard/data").json(), lambda data: data["summary"]["requests"])
    assert data["summary"]["answered_rows"][0] == data["summary"]["answered_rows"][1] >= 10
    assert (data["gateway"]["rank"], data["gateway"]["of"]) == (0, 1)
    assert client.get("/dashboard").status_code == 200
