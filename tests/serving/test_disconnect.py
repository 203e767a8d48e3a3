"""A client that hangs up."""

import asyncio

import pytest

from cascade.serving.disconnect import while_connected


def run(messages, seconds):
    """Awaits an answer of some seconds while ``receive`` gives messages; returns whether it was cancelled."""
    cancelled = []

    async def answer():
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "answer"

    async def receive():
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    async def main():
        found = await while_connected(receive, answer())
        assert len(asyncio.all_tasks()) <= 2  # this one, and a watch that is being cancelled
        return found

    try:
        return asyncio.run(main()), cancelled
    except ConnectionAbortedError:
        return "gone", cancelled


def test_a_quick_answer_comes_without_a_look_at_the_connection():
    assert run([{"type": "http.disconnect"}], 0) == ("answer", [])


def test_a_slow_answer_is_cancelled_when_the_client_hangs_up():
    assert run([{"type": "http.request"}, {"type": "http.disconnect"}], 5) == ("gone", [True])


def test_a_slow_answer_comes_if_the_client_stays():
    assert run([], 0.1) == ("answer", [])


def test_a_cancellation_from_elsewhere_stays_one():
    async def main():
        async def receive():
            return await asyncio.Event().wait()

        task = asyncio.create_task(while_connected(receive, asyncio.sleep(5)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
