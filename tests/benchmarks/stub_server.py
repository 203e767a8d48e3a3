"""An HTTP server in a thread whose answers a test decides."""

import asyncio
import json
import threading
from contextlib import contextmanager

STAGES = ("small", "big")


def columns(n, answer=1, stage="small", cost=2.5, version="served"):
    """An answer of ``cascade serve`` to n rows."""
    return {"answer": [answer] * n, "stage": [stage] * n, "cost": [cost] * n, "policy_version": version}


class Request:
    """Path, headers in lower case, body, and the number of the request from 0 on."""

    def __init__(self, head, body, number):
        first, *lines = head.decode().split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines if line)}
        self.body, self.number = body, number

    @property
    def rows(self):
        return int(self.headers["x-shape"].split(",")[0])


class StubServer:
    """Answers with what a function returns: (status, content), bytes to send as they are, or ``None`` to end.

    Attributes:
        answer: coroutine function of a ``Request``; may be replaced while the server runs.
        connections: opened so far.
    """

    def __init__(self, answer):
        self.answer, self.connections, self.requests = answer, 0, 0

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                request = Request(head, await reader.readexactly(length), self.requests)
                self.requests += 1
                found = await self.answer(request)
                if found is None:
                    break
                if not isinstance(found, bytes):
                    status, content = found
                    body = content if isinstance(content, bytes) else json.dumps(content).encode()
                    found = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body
                writer.write(found)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @contextmanager
    def running(self, context=None):
        """Runs, over TLS with a context; yields the address."""
        loop, started, self._stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

        async def main():
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._stop.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

        thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
        thread.start()
        assert started.wait(10)
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        finally:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)
            loop.close()


async def answer_rightly(request):
    """Class 1 at the small stage, with 200."""
    return 200, columns(request.rows)
