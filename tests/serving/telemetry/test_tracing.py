"""Spans: which requests have them, whose children they are, what is in them."""

import asyncio
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.config import TracesConfig
from cascade.engine import Segment
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import StageFailed
from cascade.serving.telemetry.tracing import Tracing, current_traceparent

POLICY = Policy.from_thresholds(("small", "big"), np.array([0.5]))
CALLER = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Stage:
    """Odd rows are unsure in the first stage; row 13 fails."""

    def __init__(self, sure):
        self.sure = sure

    def predict(self, rows):
        if (rows == 13).any():
            raise ValueError("unlucky 13")
        return Answers(rows, rows, rows, np.ones(len(rows)))

    def confidence(self, prediction, router, evidence):
        return np.where((prediction.answer % 2 == 0) | self.sure, 0.9, 0.1)


class Pair:
    """A gateway and a later segment in one process, which pass on what Ray would."""

    def __init__(self, **settings):
        self.exported = InMemorySpanExporter()
        self.tracing = Tracing(TracesConfig(**{"most_per_s": 1e9} | settings), ("small", "big"), "test", self.exported)
        watch = self.tracing.stage_ran
        self.later = Batcher(
            single_step(Segment([Stage(True)], 1, watch).run), None, BatcherOptions(8, 100), tracing=self.tracing
        )
        self.first = Batcher(
            single_step(Segment([Stage(False)], 0, watch).run),
            self.forward,
            BatcherOptions(8, 100),
            tracing=self.tracing,
        )
        self.handed_on = []

    async def forward(self, rows, policy, evidence, timeout_s, last_stage=None):
        self.handed_on.append(current_traceparent.get())
        current_traceparent.set(self.handed_on[-1])
        return await self.later.answer(rows, policy, evidence, timeout_s, last_stage)

    async def ask(self, *numbers, traceparent=None):
        self.tracing.accept_caller(traceparent)
        rows = np.array(numbers)
        return await self.tracing.route(self.first.answer(rows, POLICY), len(rows), POLICY)

    def run(self, *requests):
        """Runs requests in tasks of their own, as a listener does; returns the results and the spans."""

        async def main():
            tasks = [asyncio.create_task(request) for request in requests]
            return await asyncio.gather(*tasks, return_exceptions=True)

        answers = asyncio.run(main())
        self.first.close()
        self.later.close()
        self.tracing.close()
        return answers, self.exported.get_finished_spans()


def test_a_request_has_a_span_and_each_of_its_stages_one_inside():
    pair = Pair(sample_share=1)
    (answers,), spans = pair.run(pair.ask(0, 1, 2))
    assert answers.stage.tolist() == [0, 1, 0]
    route = next(span for span in spans if span.name == "cascade.route")
    stages = [span for span in spans if span.name == "cascade.stage"]
    assert dict(route.attributes) == {
        "cascade.rows": 3,
        "cascade.policy_version": POLICY.version,
        "cascade.answered_rows.small": 2,
        "cascade.answered_rows.big": 1,
        "cascade.degraded_rows": 0,
    }
    assert route.parent is None
    assert [span.attributes["cascade.stage"] for span in stages] == ["small", "big"]
    assert [span.attributes["cascade.batch_rows"] for span in stages] == [3, 1]
    assert [span.attributes["cascade.deferred_rows"] for span in stages] == [1, 0]
    for span in stages:
        assert span.parent.span_id == route.context.span_id
        assert span.context.trace_id == route.context.trace_id
        assert route.start_time <= span.start_time <= span.end_time <= route.end_time
    assert route.resource.attributes["service.name"] == "test"


def test_requests_of_one_batch_have_traces_of_their_own():
    pair = Pair(sample_share=1)
    _, spans = pair.run(*(pair.ask(number) for number in (0, 2, 4, 6)))
    routes = [span for span in spans if span.name == "cascade.route"]
    stages = [span for span in spans if span.name == "cascade.stage"]
    assert len({span.context.trace_id for span in routes}) == 4
    assert sorted(span.parent.span_id for span in stages) == sorted(span.context.span_id for span in routes)


def test_without_a_sample_there_is_no_span_and_no_context_travels():
    pair = Pair(sample_share=0)
    _, spans = pair.run(*(pair.ask(number, traceparent=CALLER) for number in range(6)))
    assert spans == ()
    assert set(pair.handed_on) == {None}


def test_a_share_of_the_requests_is_sampled():
    pair = Pair(sample_share=0.3)
    _, spans = pair.run(*(pair.ask(0) for _ in range(90)))
    assert 5 <= sum(span.name == "cascade.route" for span in spans) <= 60


def test_rows_of_a_request_that_is_not_sampled_do_not_join_the_trace_of_another():
    pair = Pair(sample_share=0, continue_callers=True)

    async def sampled_first_then_others():
        await pair.ask(1, traceparent=CALLER)

    async def later():
        await asyncio.sleep(0.05)
        await pair.ask(3)

    _, spans = pair.run(sampled_first_then_others(), later())
    assert [bool(each) for each in pair.handed_on] == [True, False]
    assert len(spans) == 3


@pytest.mark.parametrize(
    ("traceparent", "continued"),
    [
        (CALLER, True),
        (f" {CALLER} ", True),
        ("01" + CALLER[2:] + "-later-fields", True),
        (CALLER + "-later-fields", False),
        (CALLER[:-1] + "0", False),
        (f"00-{'0' * 32}-{'cd' * 8}-01", False),
        (f"00-{'ab' * 16}-{'0' * 16}-01", False),
        ("nonsense", False),
        ("00-" + "a" * 10_000, False),
        (None, False),
    ],
)
def test_a_callers_trace_is_continued_if_it_is_sampled(traceparent, continued):
    pair = Pair(sample_share=0, continue_callers=True)
    _, spans = pair.run(pair.ask(1, traceparent=traceparent))
    assert len(spans) == (3 if continued else 0)
    assert all(span.context.trace_id == int("ab" * 16, 16) for span in spans)


def test_only_the_name_of_an_error_is_in_its_span():
    pair = Pair(sample_share=1)
    (error,), spans = pair.run(pair.ask(13))
    assert isinstance(error, StageFailed)
    (route,) = spans
    assert (route.status.is_ok, route.status.description) == (False, "StageFailed")
    assert route.events == ()


def test_the_context_travels_as_a_traceparent():
    pair = Pair(sample_share=1)
    pair.run(pair.ask(1))
    (traceparent,) = pair.handed_on
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", traceparent)


def test_many_requests_do_not_make_many_spans():
    pair = Pair(sample_share=1, most_per_s=5)
    begin = time.monotonic()
    _, spans = pair.run(*(pair.ask(2 * place) for place in range(60)))
    routes = sum(span.name == "cascade.route" for span in spans)
    assert 1 <= routes <= 1 + 5 * (time.monotonic() - begin)


def test_degraded_rows_are_in_the_span():
    pair = Pair(sample_share=1)

    async def answers():
        answers = Answers(np.zeros(2, int), np.zeros(2, int), np.ones(2), np.ones(2))
        assert PENDING not in answers.stage
        return replace(answers, degraded=np.array([True, False]))

    _, (span,) = pair.run(pair.tracing.route(answers(), 2, POLICY))
    assert span.attributes["cascade.degraded_rows"] == 1
