"""``cascade audit``: the sum over several gateways, exit codes, and answers that are not audits."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from local_gateway import STAGES, new_policy
from server_thread import serving

from cascade.answers import Answers
from cascade.calibration.monitoring.confidence_sequence import rate_interval
from cascade.calibration.policies.reference import Reference
from cascade.config import AuditConfig
from cascade.serving.audit.auditor import Auditor

POLICY = new_policy({"reference": Reference(800, (400, 200, 200), 780, (100, 150)).to_dict()})


def report(stages, agreed=0, audited=0):
    """The report of one of two gateways; ``stages`` are the stages that answered its rows."""
    auditor = Auditor(AuditConfig(share=0.5), 3, 3, gateways=2)
    auditor.draw(np.zeros(1), POLICY)
    stage = np.array(stages)
    auditor.decided(POLICY, Answers(stage, stage, np.ones(len(stage)), np.ones(len(stage))))
    audit = auditor._audit_of(POLICY)
    audit.monitor.add_audited(np.zeros(audited, int), np.arange(audited) < agreed)
    return auditor.describe(POLICY)


@contextmanager
def answering(*answers):
    """Yields the address of a server that gives these answers in turn, (status, body), and the requests it got."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers[len(requests) % len(answers)]
            requests.append((self.path, self.headers.get("authorization")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    with serving(Handler) as address:
        yield address, requests


def test_the_reports_of_all_gateways_are_added_up(run):
    one, other = report([0, 0, 1, 2], 9, 10), report([0, 1, 2, 0] * 2, 20, 20)
    with answering((200, one), (200, one), (200, other)) as (url, requests):
        found = run("audit", url, "--json")
    assert (found.code, len(requests)) == (0, 3)
    assert (found.json["gateways"], found.json["gateways_seen"], found.json["audited_rows"]) == (2, 2, 0)
    assert found.json["answered_rows"] == dict(zip(STAGES, (6, 3, 3), strict=True))
    low, high = rate_interval(29, 30, 0.05)
    assert found.json["accepted_agreement"] == {"rows": 30, "agreed": 29, "rate": 29 / 30, "low": low, "high": high}
    rates = {each["name"]: each["rate"] for each in found.json["watched"]}
    assert rates["forward rate of stage small"] == 0.5
    assert rates["agreement"] == 29 / 30


def test_an_alarm_in_any_gateway_exits_with_5(run):
    fine, drifted = report([0, 0, 1, 2]), report([2] * 500)
    with answering((200, fine), (200, drifted)) as (url, _):
        found = run("audit", url)
    assert found.code == 5
    assert "forward rate of stage small of policy" in found.err
    assert drifted["gateway"] in found.err
    assert "ALARM" in found.out
    assert "no rows audited yet" in found.out


def test_a_gateway_that_is_never_reached_does_not_block(run):
    with answering((200, report([0]))) as (url, requests):
        found = run("audit", url, "--json")
    assert (found.code, found.json["gateways_seen"]) == (0, 1)
    assert 2 <= len(requests) <= 20


def test_the_key_is_sent(run, monkeypatch):
    monkeypatch.setenv("AUDIT_KEY", "secret\n")
    with answering((200, report([0]))) as (url, requests):
        assert run("audit", url, "--key-env", "AUDIT_KEY").code == 0
        assert run("audit", url, "--key-env", "NO_SUCH_KEY").code == 3
    assert set(requests) == {("/audit", "Bearer secret")}


@pytest.mark.parametrize("answer", [(401, {"error": "send a key"}), (200, b"<html>"), (200, {"status": "ok"})])
def test_an_answer_that_is_not_an_audit_is_refused(run, answer):
    with answering(answer) as (url, _):
        found = run("audit", url)
    assert (found.code, "/audit" in found.err) == (3, True)


def test_a_wrong_address_is_refused(run):
    for url in ("file:///etc/hosts", "nonsense", "http://127.0.0.1:1"):
        found = run("audit", url)
        assert (found.code, url in found.err) == (3, True), found.err
