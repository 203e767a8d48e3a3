"""Spans of some requests, to an OpenTelemetry collector.

A sampled request has a span ``cascade.route`` from its rows to its answers, and in it a span ``cascade.stage`` for each
stage that ran on rows of it, in whichever process: the context travels with the rows, as a W3C ``traceparent``
(https://www.w3.org/TR/trace-context/). The span of a stage covers the whole batch in which the rows were. Where rows of
several sampled requests go on to a later process in one call, its spans are in the trace of the first of them.
"""

import math
import random
import time
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.config import TracesConfig
from cascade.engine import StageRun
from cascade.errors import ConfigError

__all__ = ["Tracing", "current_traceparent"]

current_traceparent: ContextVar[str | None] = ContextVar("current_traceparent", default=None)
"""The span to which work in this context belongs."""

# Each function imports OpenTelemetry where it needs it, since it comes with the extra "traces".


class Tracing:
    """Creates spans, and exports them in a thread of its own.

    Args:
        config: which requests are sampled.
        stages: names of the cascade's K stages.
        name: of the cascade; the "service.name" unless OTEL_SERVICE_NAME is set.
        exporter: of the spans; by default OTLP over HTTP, configured by the variables OTEL_EXPORTER_OTLP_...

    Raises:
        ConfigError: the exporter is not installed.
    """

    def __init__(self, config: TracesConfig, stages: Sequence[str], name: str, exporter: Any = None) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self._share = config.sample_share
        self._pause_s = 1 / config.most_per_s
        self._not_before_s = -math.inf
        self._continues = config.continue_callers
        self._stages = tuple(stages)
        resource = Resource({"service.name": name}).merge(OTELResourceDetector().detect())
        # Requests are sampled here, before a span costs anything. The provider is our own: the global one is Ray's.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _otlp_exporter()))
        self._tracer = self._provider.get_tracer("cascade")
        self._parents: list[str] = []

    def close(self) -> None:
        """Exports the remaining spans."""
        self._provider.shutdown()

    def accept_caller(self, traceparent: str | None) -> None:
        """Makes the spans of this context children of a caller's span, if that is wanted and the span is sampled."""
        if self._continues and traceparent is not None:
            from opentelemetry.trace import get_current_span

            span = get_current_span(_context(traceparent))
            if span.get_span_context().trace_flags.sampled:
                current_traceparent.set(_traceparent(span))

    async def route(self, answering: Awaitable[Answers], rows: int, policy: Policy) -> Answers:
        """Awaits the answers of a request, in a span if the request is sampled.

        Args:
            answering: not started yet, so that it runs in the span's context.
            rows: of the request.
            policy: in force.
        """
        caller = current_traceparent.get()
        if caller is None and not self._is_sampled():
            return await answering
        from opentelemetry.trace import StatusCode

        attributes: dict[str, Any] = {"cascade.rows": rows, "cascade.policy_version": policy.version}
        span = self._tracer.start_span("cascade.route", _context(caller), attributes=attributes)
        token = current_traceparent.set(_traceparent(span))
        try:
            answers = await answering
            for stage, count in enumerate(np.bincount(answers.stage, minlength=len(self._stages)).tolist()):
                span.set_attribute(f"cascade.answered_rows.{self._stages[stage]}", count)
            span.set_attribute("cascade.degraded_rows", 0 if answers.degraded is None else int(answers.degraded.sum()))
            return answers
        except BaseException as error:
            # Without its text, which might quote rows.
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            current_traceparent.reset(token)
            span.end()

    def _is_sampled(self) -> bool:
        """Whether a request without a caller's span gets one."""
        if random.random() >= self._share:
            return False
        now = time.monotonic()
        if now < self._not_before_s:
            return False
        self._not_before_s = now + self._pause_s
        return True

    def start_batch(self, traceparents: list[str]) -> None:
        """Sets the parents of the spans of the batch that runs next; one batch runs at a time."""
        self._parents = traceparents

    def stage_ran(self, run: StageRun) -> None:
        """Creates the spans of a stage, see :data:`cascade.engine.Watch`; called in the batch's thread."""
        if not self._parents:
            return
        end = time.time_ns()
        start = end - int(run.seconds * 1e9)
        attributes: dict[str, Any] = {
            "cascade.stage": self._stages[run.stage],
            "cascade.batch_rows": len(run.confidence),
            "cascade.deferred_rows": int(np.count_nonzero(run.deferred)),
            "cascade.cost": float(run.cost.sum()),
        }
        for parent in self._parents:
            self._tracer.start_span("cascade.stage", _context(parent), attributes=attributes, start_time=start).end(end)


def _context(traceparent: str | None) -> Any:
    """OpenTelemetry's context of a parent span; an empty one without a valid ``traceparent``."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {}, Context())


def _traceparent(span: Any) -> str:
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, set_span_in_context(span))
    return headers["traceparent"]


def _otlp_exporter() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError("serving.traces needs the extra 'traces': pip install 'idk-cascade[traces]'") from error
    return OTLPSpanExporter()
