"""Services without Ray, behind the real application."""

import asyncio
import functools
import threading
import time

import httpx
import numpy as np

from cascade.calibration import Policy, PolicySet
from cascade.cascade import load_stages
from cascade.engine import Segment
from cascade.errors import CascadeError
from cascade.rows.checks import example_row
from cascade.serving.audit.auditor import Auditor
from cascade.serving.auth.guard import Guard
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.bodies.wire import answer_columns
from cascade.serving.http.dashboard import dashboard_data
from cascade.serving.http.http_app import HttpApp
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.log import PolicyLog
from cascade.serving.policy.trial import try_out
from cascade.serving.request import Request
from cascade.serving.telemetry.history import History
from cascade.serving.telemetry.observations import Observations

POLICY = Policy.from_thresholds(("small", "big"), np.array([0.8]))


class LocalService:
    """The gateway's logic in this process, all stages in one segment."""

    is_ready = True

    def __init__(self, config, store=None):
        self.config = config
        self.stats = Observations(("small", "big"))
        self.history = History(self.stats)
        segment = Segment(load_stages(config.stages, None, config.classes), watch=self.stats.stage_ran)
        self.batcher = Batcher(single_step(segment.run), None, BatcherOptions(8, 100), stats=self.stats)
        self.policies = PolicyKeeper(
            PolicySet((POLICY,)),
            config.stages,
            config.serving.gears,
            PolicyLog(MemoryStore() if store is None else store),
            functools.partial(try_out, self.batcher, example_row(config.rows)),
        )

    async def answer_rows(self, rows, overrides):
        policy, started = self.policies.policy, time.perf_counter()
        timeout_s, last_stage = overrides.limited_timeout_s(self.config), overrides.last_stage(self.config)
        answers = await self.batcher.answer(rows, policy, timeout_s=timeout_s, last_stage=last_stage)
        self.stats.answered(time.perf_counter() - started, answers)
        return answer_columns(answers, ("small", "big"), self.config.classes) | {"policy_version": policy.version}

    def describe_policy(self):
        return self.policies.describe()

    def describe_audit(self):
        return Auditor(self.config.serving.audit, 2, 2).describe(self.policies.policy)

    def describe_traffic(self):
        self.history.tick()
        return dashboard_data(self.config, self.policies.policy, self.history, {"rank": 0, "of": 1, "replica": "local"})


class MemoryStore:
    """A store in this process."""

    def __init__(self):
        self.values, self.lock = {}, threading.Lock()

    def add(self, key, value):
        with self.lock:
            return self.values.setdefault(key, value) is value

    def put(self, key, value):
        self.values[key] = value

    def get(self, key):
        return self.values.get(key)

    def keys(self, prefix):
        return [key for key in tuple(self.values) if key.startswith(prefix)]

    def delete(self, key):
        self.values.pop(key, None)


async def respond(app, request):
    """The reply to a request with its body."""
    try:
        app.admit(request)
    except CascadeError as error:
        return app.error_reply(error)
    return await app.answer(request)


class AppTransport(httpx.AsyncBaseTransport):
    """Passes requests of httpx directly to an application."""

    def __init__(self, app):
        self.app = app

    async def handle_async_request(self, request):
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await respond(self.app, Request(request.method, request.url.path, headers, await request.aread()))
        headers = [("content-type", reply.kind), ("content-length", str(len(reply.body))), *reply.headers]
        return httpx.Response(reply.status, headers=headers, content=reply.body)


def ask(service, *requests, guard=None):
    """Sends requests concurrently; returns the responses in order."""

    async def main():
        async with httpx.AsyncClient(
            transport=AppTransport(HttpApp(service, guard or Guard(), getattr(service, "stats", None))),
            base_url="http://test",
        ) as client:
            return await asyncio.gather(*(client.request(**request) for request in requests))

    return asyncio.run(main())


class ConstantService:
    """Accepts all checked rows, and always gives the same answer."""

    is_ready = True

    def __init__(self, config):
        self.config = config

    async def answer_rows(self, rows, overrides):
        assert rows.dtype == np.int64
        assert rows.shape[1:] == (2,)
        n = len(rows)
        columns = {"answer": [0] * n, "stage": ["small"] * n, "confidence": [0.5] * n, "cost": [1.0] * n}
        columns |= {"degraded": [False] * n, "abstained": [False] * n, "label": ["zero"] * n}
        return columns | {"policy_version": POLICY.version}

    def describe_policy(self):
        return {"version": POLICY.version}
