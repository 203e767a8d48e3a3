"""Detection at a gateway: the windows of an image travel through its batcher, a chunk at a time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.detection.candidates import Candidates
from cascade.detection.detections import Detections
from cascade.detection.detector import checked_pyramid, detection_section
from cascade.detection.image_files import decode_image, to_channels
from cascade.rows.parts import Parts, gathered, in_batches
from cascade.serving.errors import DeadlineExceeded

__all__ = ["AnswerWindows", "ServedDetector"]

MAX_IMAGES = 2
"""Images that are decoded and searched at a time; others wait."""
MAX_CHUNKS = 2
"""Chunks of an image under way at a time: one is answered while the next one is gathered."""
QUEUE_SHARE = 8
"""An image may fill at most MAX_CHUNKS / QUEUE_SHARE of the queue."""

AnswerWindows = Callable[[np.ndarray, float], Awaitable[Answers]]
"""Answers gathered windows, (n, ...), within some seconds; none of the answers is pending."""
Value = TypeVar("Value")


class ServedDetector:
    """Decodes images and gathers windows in threads of its own, so that the event loop serves other requests.

    Memory: for each of at most two images 20 bytes per pixel, at most ``detection.max_pixels``, and two chunks of
    ``serving.max_request_rows`` windows.

    Args:
        config: of the cascade, with a section ``detection``.

    Raises:
        ConfigError: there is no such section.
    """

    def __init__(self, config: CascadeConfig) -> None:
        self._config = config
        self._detection = detection_section(config)
        serving = config.serving
        self._chunk = max(1, min(serving.max_request_rows, serving.max_queue_rows // QUEUE_SHARE))
        self._threads = ThreadPoolExecutor(MAX_IMAGES, thread_name_prefix="images")
        self._free = asyncio.Semaphore(MAX_IMAGES)

    async def detect(self, content: bytes, policy: Policy, answer: AnswerWindows, timeout_s: float) -> Detections:
        """Finds the objects in one image.

        Args:
            content: of a JPEG, PNG or WebP file.
            policy: in force; it answers all windows.
            answer: answers windows.
            timeout_s: seconds until the deadline.

        Raises:
            RowsError: the image cannot be decoded, or exceeds a limit.
            DeadlineExceeded: there is no answer in time.
            CascadeError: as ``answer`` raises it.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            await asyncio.wait_for(self._free.acquire(), timeout_s)
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {timeout_s:.3g} s: other images are being searched") from error
        try:
            image = await self._in_thread(self._decode, content)
            pyramid = checked_pyramid(image, self._config)
            candidates = Candidates(self._config, self._detection, policy, pyramid)
            batches = in_batches(pyramid.windows(image), self._chunk)
            await self._answer_all(batches, len(pyramid), candidates, answer, deadline)
            return await self._in_thread(candidates.detections)
        finally:
            self._free.release()

    def close(self) -> None:
        """Ends the threads once they are done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, content: bytes) -> np.ndarray:
        image = decode_image(content, self._detection.max_bytes, self._detection.max_pixels)
        return to_channels(image, self._config.rows.shape)

    async def _answer_all(
        self,
        batches: Iterator[list[Parts]],
        windows: int,
        candidates: Candidates,
        answer: AnswerWindows,
        deadline: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        running: deque[asyncio.Task[Answers]] = deque()
        settled = 0

        async def settle() -> None:
            nonlocal settled
            answers = await running[0]
            running.popleft()
            candidates.add(np.arange(settled, settled + len(answers)), answers)
            settled += len(answers)

        try:
            while (rows := await self._in_thread(_next_rows, batches)) is not None:
                remaining_s = deadline - loop.time()
                if remaining_s <= 0:
                    raise DeadlineExceeded(
                        f"no answer in time: {settled} of the image's {windows} windows were answered; send a smaller "
                        "image, or set a larger detection.min_size or detection.stride"
                    )
                running.append(loop.create_task(_awaited(answer(rows, remaining_s))))
                if len(running) == MAX_CHUNKS:
                    await settle()
            while running:
                await settle()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _in_thread(self, work: Callable[..., Value], *arguments: object) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _next_rows(batches: Iterator[list[Parts]]) -> np.ndarray | None:
    """The next chunk, gathered; ``None`` at the end."""
    pieces = next(batches, None)
    return None if pieces is None else gathered(pieces)


async def _awaited(answering: Awaitable[Answers]) -> Answers:
    return await answering
