"""The audit, without Ray: which rows are drawn, how they are audited, and that requests are not delayed."""

import asyncio
import logging
import time

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_gateway import STAGES, local_gateway, new_config, new_policy

from cascade.answers import PENDING, Answers
from cascade.backends.fake_backend import FakeBackend
from cascade.calibration.policies.reference import Reference
from cascade.config import AuditConfig
from cascade.errors import CascadeError
from cascade.serving.audit.auditor import Auditor
from cascade.serving.http.openapi import openapi_document
from cascade.serving.telemetry.observations import Observations

pytestmark = [
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SEGMENTS = {
    "one process": [list(STAGES)],
    "last apart": [["small", "middle"], ["big"]],
    "each apart": [["small"], ["middle"], ["big"]],
}
# Of each 8 rows: 4, 2 and 2 are answered by the stages; the audit finds rows 0 wrong, of small.
REFERENCE = Reference(800, (400, 200, 200), 700, (100, 100))
CERTIFICATE = {"reference": REFERENCE.to_dict()}
AGREEMENT_GUARANTEED = {"guarantee": "certified", "target": {"target_agreement": 0.8}}


def new_auditor(**audit):
    return Auditor(AuditConfig(**audit), 3, 3, seed=1)


def answers(stage, answer=0):
    n = len(stage)
    return Answers(np.full(n, answer), np.array(stage), np.full(n, 0.5), np.zeros(n))


async def until(condition, seconds=5.0):
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.sampled_from([1.0, 0.5, 0.03]))
def test_each_row_is_drawn_independently_however_the_rows_are_split_into_requests(sizes, share):
    auditor, policy, found, seen = new_auditor(share=share, max_queue_rows=10_000), new_policy(), [], 0
    for size in sizes:
        draw = auditor.draw(np.arange(seen, seen + size), policy)
        found += [] if draw is None else [int(row.row[0]) for row in draw.rows]
        seen += size
    rng, place, expected = np.random.default_rng(1), -1, []
    while (place := place + int(rng.geometric(share))) < seen:
        expected.append(place)
    assert found == expected


def test_the_drawn_share_is_the_one_that_was_asked_for():
    auditor, policy, rows = new_auditor(share=0.01, max_queue_rows=10_000), new_policy(), np.zeros(7)
    for _ in range(20_000):
        auditor.draw(rows, policy)
    drawn = auditor.describe(policy)["waiting_rows"]
    assert abs(drawn - 1400) < 4 * np.sqrt(1400)
    assert new_auditor(share=0.0).draw(np.zeros(10_000), policy) is None


def test_a_full_queue_drops_and_counts():
    auditor, policy = new_auditor(share=1.0, max_queue_rows=3), new_policy()
    assert auditor.draw(np.zeros(2), policy) is not None
    assert auditor.draw(np.zeros(2), policy) is None
    assert auditor.draw(np.zeros(1), policy) is not None
    state, stats = auditor.describe(policy), Observations(STAGES)
    assert (state["waiting_rows"], state["policies"][policy.version]["dropped_rows"]) == (3, 2)
    auditor.export(policy, stats)
    assert stats.dropped_audit_rows == 2


def run_auditor(auditor, ask, is_idle, scenario):
    """Runs a scenario beside a running auditor."""

    async def main():
        auditor.start(ask, is_idle)
        await scenario()
        auditor.stop()

    asyncio.run(main())


def test_rows_are_audited_in_their_order_and_lost_ones_are_counted():
    auditor, policy, asked = new_auditor(share=1.0), new_policy(), []

    async def ask(rows, policy, evidence, timeout_s):
        asked.append(rows.tolist())
        return answers([2] * len(rows))

    async def scenario():
        first, second, third, fourth = (auditor.draw(np.array([row, row]), policy) for row in range(4))
        second.settle(answers([0, 2]))
        third.lose()
        degraded = answers([1, 1])
        fourth.settle(
            Answers(degraded.answer, degraded.stage, degraded.confidence, degraded.cost, None, np.ones(2, bool))
        )
        await asyncio.sleep(0.25)
        assert asked == []  # the first request is not answered yet
        first.settle(answers([1, 0], answer=7))
        await until(lambda: not auditor.describe(policy)["waiting_rows"])

    run_auditor(auditor, ask, lambda: True, scenario)
    assert asked == [[0, 0, 1]]  # the last stage answered the other one itself
    seen = auditor.describe(policy)["policies"][policy.version]
    assert [seen[f"{name}_rows"] for name in ("drawn", "audited", "dropped", "lost")] == [8, 4, 0, 4]
    assert (seen["agreement"]["agreed"], seen["accepted_agreement"]["agreed"]) == (2, 1)


def test_a_last_stage_that_fails_loses_rows_and_nothing_else():
    auditor, policy = new_auditor(share=1.0), new_policy()

    async def ask(rows, policy, evidence, timeout_s):
        raise CascadeError("the last stage is gone")

    async def scenario():
        auditor.draw(np.zeros(3), policy).settle(answers([0, 1, 2]))
        await until(lambda: not auditor.describe(policy)["waiting_rows"])
        auditor.draw(np.zeros(1), policy).settle(answers([2]))
        await until(lambda: not auditor.describe(policy)["waiting_rows"])

    run_auditor(auditor, ask, lambda: True, scenario)
    seen = auditor.describe(policy)["policies"][policy.version]
    assert (seen["lost_rows"], seen["audited_rows"], seen["agreement"]["rows"]) == (3, 1, 1)


@pytest.mark.parametrize(("busy_time_share", "least", "most"), [(0.0, 0, 0), (0.05, 1, 4), (1.0, 8, 20)])
def test_while_requests_wait_only_a_share_of_the_time_is_spent(busy_time_share, least, most):
    auditor = new_auditor(share=1.0, busy_time_share=busy_time_share, max_batch_rows=2)
    policy, calls = new_policy(), 0

    async def ask(rows, policy, evidence, timeout_s):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        return answers([2] * len(rows))

    async def scenario():
        auditor.draw(np.zeros(40), policy).settle(answers([0] * 40))
        await asyncio.sleep(0.7)

    run_auditor(auditor, ask, lambda: False, scenario)
    assert least <= calls <= most


@pytest.mark.parametrize("arrangement", SEGMENTS)
def test_a_gateway_audits_accepted_rows_and_no_stage_between_runs(arrangement, tmp_path, monkeypatch):
    policy = new_policy(CERTIFICATE)
    seen_rows = {}
    predict = FakeBackend.predict

    def counted(self, rows):
        seen_rows[id(self)] = seen_rows.get(id(self), 0) + len(rows)
        return predict(self, rows)

    monkeypatch.setattr(FakeBackend, "predict", counted)
    config = new_config(SEGMENTS[arrangement], share=1.0, max_queue_rows=10_000)

    async def main():
        async with local_gateway(config, policy, tmp_path) as gateway:
            requests = [gateway.predict(np.arange(start, start + 8)) for start in range(0, 64, 8)]
            columns = await asyncio.gather(*requests)
            await until(lambda: gateway.service.describe_audit()["policies"][policy.version]["audited_rows"] == 64)
            return columns, gateway.service.describe_audit()

    columns, report = asyncio.run(main())
    jsonschema.validate(report, schema_of("Audit", config))
    assert columns[0]["stage"] == ["small", "small", "middle", "big"] * 2
    # Every stage saw what came to it, and the last one all other rows as well.
    assert sorted(seen_rows.values()) == [32, 64, 64]
    assert (report["alarm"], report["gateways"], report["policy_version"]) == (False, 1, policy.version)
    seen = report["policies"][policy.version]
    assert seen["answered_rows"] == {"small": 32, "middle": 16, "big": 16}
    assert (seen["agreement"]["rows"], seen["agreement"]["agreed"]) == (64, 56)
    assert (seen["accepted_agreement"]["rows"], seen["accepted_agreement"]["agreed"]) == (48, 40)
    assert seen["stage_agreement"]["small"]["rate"] == 0.75
    rates = {(each["name"], each["stage"]): (each["rows"], each["rate"]) for each in seen["watched"]}
    expected = {
        ("agreement", None): (64, 0.875),
        ("forward_rate", "small"): (64, 0.5),
        ("forward_rate", "middle"): (32, 0.5),
    }
    if arrangement != "one process":
        expected["repeat_rate", config.segments[0][-1].name] = (16, 0.5)
    assert rates == expected


def schema_of(name, config):
    return {"$ref": f"#/components/schemas/{name}", "components": openapi_document(config)["components"]}


def test_an_alarm_is_logged_once_without_payload_and_stays(tmp_path, caplog):
    config, policy = new_config(SEGMENTS["one process"], delta=0.05), new_policy(CERTIFICATE)

    async def main():
        async with local_gateway(config, policy, tmp_path) as gateway:
            for _ in range(40):
                await gateway.predict(np.array([3, 7] * 8))
            await until(lambda: gateway.service.describe_audit()["alarm"])
            for _ in range(5):
                await gateway.predict(np.array([0, 2] * 8))
            await asyncio.sleep(0.15)
            return gateway.service.describe_audit()

    with caplog.at_level(logging.WARNING):
        report = asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "cascade.serving.audit.policy_audit"]
    alarmed = [each for each in report["policies"][policy.version]["watched"] if each["alarm"]]
    assert [(each["name"], each["stage"]) for each in alarmed] == [
        ("forward_rate", "small"),
        ("forward_rate", "middle"),
    ]
    assert len(lines) == 2
    assert lines[0].startswith("audit alarm: forward rate of stage small of policy ")
    assert report["alarm"]


def test_several_policies_are_monitored_separately_and_old_ones_dropped():
    auditor = new_auditor()
    policies = [new_policy({"number": number}) for number in range(20)]
    for number, policy in enumerate(policies):
        auditor.draw(np.zeros(1), policy)
        auditor.decided(policy, answers([0] * (number + 1)))
        auditor.decided(policies[0], answers([PENDING]))
    seen = auditor.describe(policies[-1])["policies"]
    assert [entry["answered_rows"]["small"] for entry in seen.values()] == list(range(5, 21))


def test_gears_gateways_and_restarts_share_one_risk():
    policies = [new_policy({"number": number}) for number in range(40)]

    def alarm_levels(gateways, start):
        auditor = Auditor(AuditConfig(delta=0.1, least_agreement=0.9), 3, 3, gateways, start=start)
        for policy in policies:
            auditor.draw(np.zeros(1), policy)
            watched = auditor.describe(policy)["policies"][policy.version]["watched"]
            yield 1 / watched[0]["alarm_at"]

    levels = np.array([list(alarm_levels(3, start)) for start in range(1, 61)])
    assert levels[0, 0] == pytest.approx(0.1 / 3 / 4)
    assert np.all(np.diff(levels, axis=0) <= 0)
    assert np.all(np.diff(levels, axis=1) < 0)
    assert 0.09 < levels.sum() < 0.1


def test_eight_gears_and_five_restarts_raise_a_false_alarm_with_probability_delta_at_most():
    delta, runs, agreement = 0.2, 100, 0.9
    gears = [new_policy({"gear": gear}) for gear in range(8)]
    rng = np.random.default_rng(0)

    def is_alarmed():
        for start in range(1, 6):
            auditor = Auditor(AuditConfig(delta=delta, least_agreement=agreement), 3, 3, start=start)
            for gear in gears:
                monitor = auditor._audit_of(gear).monitor
                for _ in range(20):
                    monitor.add_audited(np.zeros(50, int), rng.random(50) < agreement)
            if auditor.describe(gears[0])["alarm"]:
                return True
        return False

    alarms = sum(is_alarmed() for _ in range(runs))
    assert alarms <= delta * runs + 3 * np.sqrt(delta * (1 - delta) * runs)


def test_the_least_agreement_is_exported_with_its_source():
    for certificate, source in ((CERTIFICATE, "calibration"), ({**CERTIFICATE, **AGREEMENT_GUARANTEED}, "guarantee")):
        auditor, policy, seen = new_auditor(share=1.0), new_policy(certificate), Observations(STAGES)
        auditor._audit_of(policy).monitor.add_audited(np.zeros(10, int), np.ones(10, bool))
        auditor.export(policy, seen)
        assert seen.audit.source == source
        assert (seen.audit.least == 0.8) == (source == "guarantee")


def test_an_audit_costs_a_request_little_time():
    auditor, policy, row = new_auditor(share=0.01, max_queue_rows=1), new_policy(CERTIFICATE), np.zeros((1, 8))
    said = answers([0])

    def seconds(calls):
        begin = time.perf_counter()
        for _ in range(calls):
            auditor.draw(row, policy)
            auditor.decided(policy, said)
        return (time.perf_counter() - begin) / calls

    seconds(100)
    assert min(seconds(2000) for _ in range(5)) < 10e-6  # measured: 0.5 microseconds


def test_settings_out_of_range_are_refused():
    for wrong in ({"share": 1.5}, {"delta": 0}, {"max_batch_rows": 0}, {"shares": 0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AuditConfig(**wrong)
