"""Readiness: what is known of the later segments, without Ray."""

import asyncio

import pytest
from local_service import LocalService, ask

from cascade.serving.replica.readiness import Readiness


class Segment:
    """A later segment that can die, hang and come back."""

    def __init__(self):
        self.state, self.asked = "up", 0

    async def probe(self):
        self.asked += 1
        if self.state == "dead":
            raise RuntimeError("no replica")
        if self.state == "hangs":
            await asyncio.sleep(60)


def watched(segment, *steps, timeout_s=0.02):
    """What is known after each step: the segment takes a state, and some time passes."""

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
def test_it_follows_the_segment_down_and_up_and_ends_as_not_ready(state):
    segment = Segment()
    assert watched(segment, "up", state, "up") == [False, True, False, True, False]
    assert segment.asked > 10


def test_nothing_is_ready_before_the_first_answer():
    assert watched(Segment(), "hangs", timeout_s=5) == [False, False, False]


def test_without_a_later_segment_nothing_is_asked():
    async def main():
        readiness = Readiness(None)
        readiness.start()
        return readiness.is_ready, len(asyncio.all_tasks())

    assert asyncio.run(main()) == (True, 1)


def test_a_request_that_asks_for_it_reads_what_is_known(config):
    class NotReady(LocalService):
        is_ready = False

    paths = ("/v2/health/ready", "/v2/models/fake/ready", "/v2/health/live", "/health")
    replies = ask(NotReady(config), *({"method": "GET", "url": path} for path in paths))
    assert [reply.status_code for reply in replies] == [503, 503, 200, 200]
    assert replies[0].json() == {"ready": False}
    assert replies[1].json() == {"name": "fake", "ready": False}
