"""Readiness of the later segments, without Ray."""

import asyncio

import pytest
from local_service import LocalService, ask

from cascade.serving.replica.readiness import Readiness


class Segment:
    """A later segment that can die, hang and come back."""

    def __init__(self):
        self.state, self.probes = "up", 0

    async def probe(self):
        self.probes += 1
        if self.state == "dead":
            raise RuntimeError("no replica")
        if self.state == "hangs":
            await asyncio.sleep(60)


def watched(segment, *steps, timeout_s=0.02):
    """The readiness after each step: the segment takes a state, and some time passes."""

    async def main():
        readiness = Readiness(segment.probe, every_s=0.005, timeout_s=timeout_s)
        known = [readiness.is_ready]
        readiness.start()
        for state in steps:
            segment.state = state
            await asyncio.sleep(0.1)
            known.append(readiness.is_ready)
        readiness.stop()
        return [*known, readiness.is_ready]

    return asyncio.run(main())


@pytest.mark.parametrize("state", ["dead", "hangs"])
def test_it_follows_the_segment_down_and_up_and_is_not_ready_after_the_stop(state):
    segment = Segment()
    assert watched(segment, "up", state, "up") == [False, True, False, True, False]
    assert segment.probes > 10


def test_it_is_not_ready_before_the_first_probe_succeeds():
    assert watched(Segment(), "hangs", timeout_s=5) == [False, False, False]


def test_without_a_later_segment_it_is_ready_without_a_probe():
    async def main():
        readiness = Readiness(None)
        readiness.start()
        return readiness.is_ready, len(asyncio.all_tasks())

    assert asyncio.run(main()) == (True, 1)


def test_a_readiness_request_reads_the_last_probe(config):
    class NotReady(LocalService):
        is_ready = False

    paths = ("/v2/health/ready", "/v2/models/fake/ready", "/v2/health/live", "/health")
    replies = ask(NotReady(config), *({"method": "GET", "url": path} for path in paths))
    assert [reply.status_code for reply in replies] == [503, 503, 200, 200]
    assert replies[0].json() == {"ready": False}
    assert replies[1].json() == {"name": "fake", "ready": False}
