"""Services without Ray, behind the real application."""

import asyncio

import httpx
import numpy as np

from cascade.calibration import Policy
from cascade.cascade import load_stages
from cascade.engine import Segment
from cascade.errors import CascadeError
from cascade.serving.batcher import Batcher
from cascade.serving.guard import Guard
from cascade.serving.http import HttpApp
from cascade.serving.reply import refusal
from cascade.serving.request import Request
from cascade.serving.wire import answer_columns

POLICY = Policy.from_thresholds(("small", "big"), np.array([0.8]))


class LocalService:
    """The gateway's logic in this process, all stages in one segment."""

    def __init__(self, config):
        self.config = config
        self.batcher = Batcher(Segment(load_stages(config.stages)).run, None, 8, 100)

    async def answer_rows(self, rows, timeout_s=None):
        most = self.config.serving.request_timeout_s
        answers = await self.batcher.answer(rows, POLICY, timeout_s=min(timeout_s or most, most))
        return answer_columns(answers, ("small", "big"), self.config.classes) | {"policy_version": POLICY.version}

    def describe_policy(self):
        return POLICY.to_dict() | {"version": POLICY.version}


async def respond(app, request):
    """The reply to a whole request."""
    try:
        app.admit(request)
    except CascadeError as error:
        return refusal(error)
    return await app.answer(request)


class AppTransport(httpx.AsyncBaseTransport):
    """Brings requests of httpx straight to an application."""

    def __init__(self, app):
        self.app = app

    async def handle_async_request(self, request):
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await respond(self.app, Request(request.method, request.url.path, headers, await request.aread()))
        headers = [("content-type", reply.kind), ("content-length", str(len(reply.body))), *reply.headers]
        return httpx.Response(reply.status, headers=headers, content=reply.body)


def ask(service, *requests):
    """Sends requests at the same time; returns the responses in their order."""

    async def main():
        async with httpx.AsyncClient(
            transport=AppTransport(HttpApp(service, Guard())), base_url="http://test"
        ) as client:
            return await asyncio.gather(*(client.request(**request) for request in requests))

    return asyncio.run(main())


class ConstantService:
    """Takes whatever passed the checks, and always says the same."""

    def __init__(self, config):
        self.config = config

    async def answer_rows(self, rows, timeout_s=None):
        assert rows.dtype == np.int64
        assert rows.shape[1:] == (2,)
        n = len(rows)
        columns = {"answer": [0] * n, "stage": ["small"] * n, "confidence": [0.5] * n, "cost": [1.0] * n}
        columns |= {"degraded": [False] * n, "abstained": [False] * n, "label": ["zero"] * n}
        return columns | {"policy_version": POLICY.version}

    def describe_policy(self):
        return {"version": POLICY.version}
