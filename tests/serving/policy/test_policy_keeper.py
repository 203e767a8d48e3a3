"""The policy in force: reload, rollback, history; several gateways in step; faults of gateways and of the log."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from local_service import POLICY, LocalService, MemoryStore
from pydantic import TypeAdapter

from cascade.calibration import Policy, PolicySet
from cascade.calibration.policies.stage_entry import HeadEntry
from cascade.config import GearsConfig
from cascade.routers import Router
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import PolicyRefused, ReloadConflict, Unavailable, UnknownVersion
from cascade.serving.policy import gateway_presence
from cascade.serving.policy import keeper as policy_keeper
from cascade.serving.policy.log import KEPT, Entry, PolicyLog, Presence
from cascade.serving.policy.request_overrides import RequestOverrides

OTHER = Policy.from_thresholds(("small", "big"), np.array([0.5]))
THIRD = Policy.from_thresholds(("small", "big"), np.array([0.95]))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(policy_keeper, "POLL_S", 0.01)
    monkeypatch.setattr(gateway_presence, "CONFIRM_S", 0.5)
    monkeypatch.setattr(gateway_presence, "CONFIRM_POLL_S", 0.01)


def run(config, story, gateways=1, store=None):
    """Runs ``story(*keepers)`` with opened gateways on one store."""

    async def main():
        services = [LocalService(config, store) for _ in range(gateways)]
        for service in services:
            await service.policies.open()
        try:
            return await story(*services)
        finally:
            for service in services:
                await service.policies.close()
                service.batcher.close()

    store = MemoryStore() if store is None else store
    return asyncio.run(main())


def test_a_reload_is_in_force_everywhere_when_it_is_answered(config):
    async def story(*services):
        versions = []
        for policy in (OTHER, THIRD, OTHER):
            result = await services[0].policies.replace(policy.to_json())
            assert (result["version"], result["gateways"], result["behind"]) == (policy.version, 3, [])
            versions.append([service.policies.policy.version for service in services])
        assert result["revision"] == 3
        return versions

    assert run(config, story, gateways=3) == [[OTHER.version] * 3, [THIRD.version] * 3, [OTHER.version] * 3]


def test_a_restarted_gateway_has_the_policy_in_force(config):
    store = MemoryStore()

    async def story(service):
        await service.policies.replace(OTHER.to_json())
        late = LocalService(config, store)
        assert late.policies.policy.version == POLICY.version
        await late.policies.open()
        found = late.policies.policy.version, late.policies.revision
        await late.policies.close()
        return found

    assert run(config, story, store=store) == (OTHER.version, 1)


def with_digest(policy):
    return replace(policy, certificate={"model_sha256": {"small": "0" * 64}})


HEAD = {"type": "learned", "inputs": "probabilities", "history": False,
        "layers": [{"weights": [[0.1, 0.2, 0.3]], "biases": [0.0]}]}  # fmt: skip
REFUSED = {
    "other stages": (Policy.from_thresholds(("small", "huge"), np.array([0.5])).to_json(), "huge"),
    "another digest": (with_digest(OTHER).to_json(), "SHA-256"),
    "truncated": (OTHER.to_json()[:-30], "not JSON"),
    "empty": ("", "not JSON"),
    "newer": (json.dumps(OTHER.to_dict() | {"schema_version": 2}), "schema_version must be 1; got 2"),
    "a newer set": ('{"schema_version": 9, "gears": []}', "got 9"),
    "gears out of order": (
        json.dumps({"schema_version": 1, "gears": [OTHER.to_dict(), THIRD.to_dict()]}),
        "from the most accurate to the cheapest",
    ),
    "nonsense": ('{"schema_version": 1, "stages": [1]}', "stages.0: Input should be"),
    "deep": ("[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_policy_that_does_not_fit_is_refused_and_the_old_one_stays(config, case):
    text, message = REFUSED[case]

    async def story(one, other):
        with pytest.raises(PolicyRefused, match=message) as refused:
            await one.policies.replace(text)
        assert f"{POLICY.version} stays in force" in str(refused.value)
        answers = await one.answer_rows(np.array([[1, 0]]), RequestOverrides())
        assert answers["policy_version"] == POLICY.version
        assert [entry["kind"] for entry in await other.policies.history()] == ["start"]
        assert (await other.policies.replace(OTHER.to_json()))["revision"] == 1

    run(config, story, gateways=2)


def test_a_policy_below_the_floor_is_refused(config):
    serving = config.serving.model_copy(update={"gears": GearsConfig(floor_accuracy=0.9)})
    certified = {"guarantee": "certified", "delta": 0.05, "target": {"target_accuracy": 0.95}}
    good = replace(OTHER, certificate=certified)

    async def story():
        keeper = policy_keeper.PolicyKeeper(PolicySet((good,)), config.stages, serving.gears, PolicyLog(MemoryStore()))
        with pytest.raises(PolicyRefused, match="no certificate of target_accuracy"):
            await keeper.replace(THIRD.to_json())
        assert keeper.policy == good
        assert (await keeper.replace(replace(THIRD, certificate=certified).to_json()))["revision"] == 1

    asyncio.run(story())


def test_a_policy_that_the_stages_cannot_work_by_is_refused(config):
    router = Router(
        None, POLICY.routers[0].calibrator, TypeAdapter(HeadEntry).validate_python(HEAD | {"history": True}).head()
    )

    async def story(service):
        # The head of the second place wants to see six inputs more than there are.
        (step,) = service.batcher._steps(POLICY)
        service.batcher._steps = single_step(failing(step.run))
        with pytest.raises(PolicyRefused, match="cannot work by this policy"):
            await service.policies.replace(replace(OTHER, routers=(router, POLICY.routers[1])).to_json())
        assert service.policies.policy == POLICY
        assert (await service.policies.replace(OTHER.to_json()))["revision"] == 1

    def failing(work):
        def work_or_fail(rows, policy, evidence, last_stage):
            if policy.needs_evidence:
                raise ValueError("no probabilities here")
            return work(rows, policy, evidence, last_stage)

        return work_or_fail

    run(config, story)


def test_a_policy_by_which_the_first_stage_alone_fails_is_refused(config):
    async def story(service):
        (step,) = service.batcher._steps(POLICY)

        def work_or_fail(rows, policy, evidence, last_stage):
            if last_stage == 0 and policy.routers[0].score == "margin":
                raise ValueError("no probabilities here")
            return step.run(rows, policy, evidence, last_stage)

        service.batcher._steps = single_step(work_or_fail)
        router = Router("margin", POLICY.routers[0].calibrator)
        with pytest.raises(PolicyRefused, match="cannot work by this policy"):
            await service.policies.replace(replace(OTHER, routers=(router, POLICY.routers[1])).to_json())
        assert (await service.policies.replace(OTHER.to_json()))["revision"] == 1

    run(config, story)


def test_stages_that_fail_on_the_example_row_in_any_case_do_not_prevent_a_reload(config):
    async def story(service):
        def fail(*_):
            raise ValueError("zeros are not rows")

        service.batcher._steps = single_step(fail)
        assert (await service.policies.replace(OTHER.to_json()))["version"] == OTHER.version

    run(config, story)


def test_a_reload_while_another_is_under_way_is_refused(config):
    async def story(service):
        results = await asyncio.gather(
            *(service.policies.replace(policy.to_json()) for policy in (OTHER, THIRD)), return_exceptions=True
        )
        assert isinstance(results[1], ReloadConflict)
        assert service.policies.policy == OTHER
        assert (await service.policies.replace(THIRD.to_json()))["revision"] == 2

    run(config, story)


def test_concurrent_reloads_at_several_gateways_get_different_revisions_and_all_gateways_end_with_the_same(config):
    policies = [Policy.from_thresholds(("small", "big"), np.array([k / 20])) for k in range(12)]

    async def story(*services):
        calls = [services[k % 4].policies.replace(policy.to_json()) for k, policy in enumerate(policies)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        done = [result for result in results if isinstance(result, dict)]
        assert all(isinstance(result, dict | ReloadConflict) for result in results)
        assert done
        assert len({result["revision"] for result in done}) == len(done)
        history = await services[0].policies.history()
        assert [entry["revision"] for entry in history] == list(range(len(done) + 1))
        await asyncio.sleep(0.2)
        assert {service.policies.policy.version for service in services} == {history[-1]["version"]}

    run(config, story, gateways=4)


def test_rollback_goes_to_the_one_before_or_to_a_version(config):
    async def story(one, other):
        with pytest.raises(UnknownVersion, match="no other policy"):
            await one.policies.restore()
        for policy in (OTHER, THIRD):
            await one.policies.replace(policy.to_json())
        versions = [(await gateway.policies.restore())["version"] for gateway in (other, one)]
        assert versions == [OTHER.version, THIRD.version]
        assert (await one.policies.restore(POLICY.version))["version"] == POLICY.version
        with pytest.raises(UnknownVersion, match="no policy of version 'x'"):
            await one.policies.restore("x")
        history = await one.policies.history()
        assert [entry["kind"] for entry in history] == ["start", "reload", "reload", *["rollback"] * 3]
        assert history[-1]["version"] == history[0]["version"] == POLICY.version

    run(config, story, gateways=2)


def test_a_dead_gateway_does_not_delay_a_reload_for_long_and_one_that_hangs_is_named(config):
    store = MemoryStore()
    log = PolicyLog(store)

    async def hang():
        for beat in range(100):
            log.report("hung", Presence("node", 7, 0, beat))
            await asyncio.sleep(0.05)

    async def story(service):
        log.report("dead", Presence("node", 6, 0, 3))
        hung = asyncio.create_task(hang())
        result = await service.policies.replace(OTHER.to_json())
        hung.cancel()
        assert (result["gateways"], result["behind"]) == (1, [{"node": "node", "pid": 7, "revision": 0}])
        assert "dead" not in log.gateways()

    run(config, story, store=store)


class Broken(MemoryStore):
    down = False

    def keys(self, prefix):
        if self.down:
            raise ConnectionError("the head is gone")
        return super().keys(prefix)


def test_without_the_log_the_current_policy_stays_and_the_log_is_followed_again_when_it_is_back(config):
    store = Broken()

    async def story(one, other):
        store.down = True
        await asyncio.sleep(0.05)
        for call in (one.policies.replace(OTHER.to_json()), one.policies.restore(), one.policies.history()):
            with pytest.raises(Unavailable, match="cannot be reached: ConnectionError"):
                await call
        assert (await one.answer_rows(np.array([[1, 0]]), RequestOverrides()))["policy_version"] == POLICY.version
        store.down = False
        result = await one.policies.replace(OTHER.to_json())
        assert (result["gateways"], other.policies.policy) == (2, OTHER)

    run(config, story, gateways=2, store=store)


def test_a_log_that_was_lost_begins_again_with_the_policy_in_force(config):
    store = MemoryStore()

    async def story(service):
        await service.policies.replace(OTHER.to_json())
        store.values.clear()
        await asyncio.sleep(0.1)
        history = await service.policies.history()
        assert [(entry["revision"], entry["version"]) for entry in history] == [(1, OTHER.version)]

    run(config, story, store=store)


def test_the_history_is_bounded_and_a_gateway_that_missed_entries_takes_the_newest():
    log = PolicyLog(MemoryStore())
    for revision in range(KEPT + 20):
        assert log.append(Entry(revision, str(revision), "reload", 0.0, "{}"))
    assert not log.append(Entry(KEPT + 19, "late", "reload", 0.0, "{}"))
    assert [entry.revision for entry in log.entries()] == list(range(20, KEPT + 20))
    assert (log.latest(), log.read(3), log.read(KEPT).version) == (KEPT + 19, None, str(KEPT))


def test_every_answer_is_of_one_version_and_right_for_it(config):
    rows = np.array([[0, 0], [1, 0], [2, 0], [3, 0]])
    # Of the small stage's rows, even ones have a confidence of 0.9, odd ones of 0.6.
    stages = {POLICY.version: ["small", "big"] * 2, OTHER.version: ["small"] * 4, THIRD.version: ["big"] * 4}
    versions = set()

    async def ask(service):
        for _ in range(60):
            answers = await service.answer_rows(rows, RequestOverrides())
            assert answers["stage"] == stages[answers["policy_version"]]
            versions.add(answers["policy_version"])

    async def story(service):
        clients = [asyncio.create_task(ask(service)) for _ in range(8)]
        for policy in (OTHER, THIRD, POLICY) * 4:
            await service.policies.replace(policy.to_json())
        await asyncio.gather(*clients)

    run(config, story)
    assert versions >= {OTHER.version, THIRD.version}


def test_the_gear_is_described_and_survives_a_reload_under_load(config):
    def gear(threshold, cost):
        return replace(
            Policy.from_thresholds(("small", "big"), np.array([threshold])),
            certificate={"observed": {"mean_cost": cost}},
        )

    gears = PolicySet((gear(0.9, 3.0), gear(0.7, 2.0), gear(0.5, 1.0)))

    async def story():
        keeper = policy_keeper.PolicyKeeper(gears, config.stages, GearsConfig(), PolicyLog(MemoryStore()))
        assert keeper.describe()["gear"]["index"] == 0
        keeper.update_gear(1.0, 10)
        described = keeper.describe()
        assert described["version"] == gears.gears[1].version == keeper.policy.version
        assert described["gear"] == {
            "index": 1, "versions": [each.version for each in gears.gears], "usable": 3, "changes": 1,
        }  # fmt: skip
        await keeper.replace(PolicySet(gears.gears[1:]).to_json())
        assert (keeper.gear, keeper.policy) == (1, gears.gears[2])
        await keeper.replace(OTHER.to_json())
        assert (keeper.gear, keeper.policy) == (0, OTHER)
        keeper.update_gear(9.0, 20)
        assert keeper.policy == OTHER

    asyncio.run(story())
