"""Does every malformed or unusual request on a raw socket get one right answer or one clear error?

    python -m cascade.benchmarks.experiments.resilience.malformed_requests
    python -m cascade.benchmarks.experiments.resilience.malformed_requests --count 1000 --seed 7

Every case is sent between two good requests on one connection, in pieces of random lengths. Sought: the first good
request is answered; the case gets the answers that are right for it, each readable by a strict client, errors as one
sentence without internals; then the connection is closed, or the second good request is answered as usual; nothing
hidden in a case is ever answered. Anything else is a violation. The kinds are in ``malformed_framing.py`` and
``malformed_fields.py``. Only loopback is used.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import uvloop

from cascade.benchmarks.experiments.resilience import malformed_fields, malformed_framing
from cascade.benchmarks.experiments.resilience.malformed_bytes import SMUGGLED_MARK
from cascade.benchmarks.experiments.resilience.malformed_case import Case, Maker, Site
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.synthetic_cascade import served_synthetic

KINDS: tuple[Maker, ...] = (*malformed_framing.KINDS, *malformed_fields.KINDS)
LIMITS = {"max_body_bytes": 16_384, "max_header_bytes": 4096}
SERVING = LIMITS | {"header_timeout_s": 3, "body_timeout_s": 3}
CONNECTIONS = 8
TIMEOUT_S = 10.0
BEFORE = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
BEFORE_BODY = b'{"live":true}'
AFTER = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
AFTER_MARK = b'"status":"ok"'
LEAKS = re.compile(rb"Traceback|File \"|0x[0-9a-f]{6}|object at|\.py\b|Exception")
MOST_EXAMPLES = 20


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: of HTTP.
        body: whole.
        closes: whether it announces the end of the connection.
    """

    status: int
    body: bytes
    closes: bool


async def read_answer(reader: asyncio.StreamReader, head_only: bool) -> Answer | None:
    """One response, read strictly; ``None`` where the connection ended before it began.

    Raises:
        ValueError: it is not HTTP/1.1.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ValueError(f"half an answer: {error.partial[:80]!r}") from error
        return None
    first, *lines = head[:-4].split(b"\r\n")
    matched = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [\w '-]+", first)
    fields = dict(line.lower().split(b": ", 1) for line in lines)
    if matched is None or (b"content-length" not in fields and matched[1] != b"100"):
        raise ValueError(f"no answer of HTTP/1.1: {head[:80]!r}")
    if matched[1] == b"100":
        return await read_answer(reader, head_only)
    body = b"" if head_only else await reader.readexactly(int(fields[b"content-length"]))
    return Answer(int(matched[1]), body, fields.get(b"connection") == b"close")


async def violation(port: int, case: Case, dice: random.Random) -> str | None:
    """Sends a case; returns the fault in its answers, ``None`` if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    sending = asyncio.create_task(_send(writer, BEFORE + case.sent + AFTER, dice))
    try:
        return await asyncio.wait_for(_judged(reader, case), TIMEOUT_S)
    except asyncio.TimeoutError:
        return "no answer in time"
    except (ValueError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending
        writer.close()


async def _send(writer: asyncio.StreamWriter, content: bytes, dice: random.Random) -> None:
    cuts = sorted(dice.randrange(len(content)) for _ in range(dice.randrange(4)))
    with contextlib.suppress(OSError):
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            writer.write(content[begin:end])
            await writer.drain()
            await asyncio.sleep(0.001 * dice.randrange(2))


async def _judged(reader: asyncio.StreamReader, case: Case) -> str | None:
    before = await read_answer(reader, head_only=False)
    if before is None or before.body != BEFORE_BODY:
        return f"the request before was answered with {before}"
    answers: list[Answer] = []
    while True:
        answer = await read_answer(reader, len(answers) in case.heads)
        if answer is None or (answer.closes and AFTER_MARK in answer.body):
            break
        answers.append(answer)
        if len(answers) > max(len(case.statuses), case.most_answers):
            return f"too many answers: {answers[-1]}"
    closed = answer is None or (len(answers) < len(case.statuses) and answer.closes)
    if closed and answer is not None:  # HTTP/1.0: the answer to the case has the form of the last one
        answers.append(answer)
    return _problem(case, answers, closed) or (await _more(reader))


async def _more(reader: asyncio.StreamReader) -> str | None:
    rest = await reader.read()
    return f"more was sent than requested: {rest[:80]!r}" if rest else None


def _problem(case: Case, answers: list[Answer], closed: bool) -> str | None:
    if len(answers) < len(case.statuses) and not (case.most_answers and closed):
        return f"{len(answers)} answers for {len(case.statuses)} requests"
    for place, answer in enumerate(answers):
        if answer.status not in case.statuses[min(place, len(case.statuses) - 1)]:
            return f"answer {place} has the status {answer.status}: {answer.body[:200]!r}"
        if SMUGGLED_MARK in answer.body:
            return "a hidden request was answered"
        if answer.status >= 400 and place not in case.heads:
            error = json.loads(answer.body)
            if set(error) != {"error"} or "\n" in error["error"] or LEAKS.search(answer.body):
                return f"no clear error: {answer.body[:200]!r}"
    if closed and not case.may_close:
        return "the connection was closed"
    return None if closed or not case.closes else "the connection goes on"


async def run(port: int, site: Site, count: int, seed: int) -> dict[str, Any]:
    """Sends cases of all kinds by turns, and counts the violations."""
    sent: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    examples: list[dict[str, str]] = []
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            dice = random.Random(f"{seed}-{number}")
            case = KINDS[number % len(KINDS)](dice, site)
            problem = await violation(port, case, dice)
            sent[case.kind] += 1
            if problem is not None:
                wrong[case.kind] += 1
                if len(examples) < MOST_EXAMPLES:
                    examples.append({"kind": case.kind, "sent": repr(case.sent[:300]), "problem": problem})

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return {
        "sent": dict(sorted(sent.items())),
        "violations": dict(sorted(wrong.items())),
        "examples": examples,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main(
    count: Annotated[int, typer.Option(min=1, help="Cases.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> Found:
    """Send the cases to a cascade of two quick stages, served as usual."""
    site = Site("synthetic", (3, 32, 32), **LIMITS)
    with served_synthetic([0, 0], SERVING | {"segments": [["small", "large"]]}) as server:
        found = uvloop.run(run(server.port, site, count, seed))
        server.post(*server.probe)  # it still answers
    return {"measured": {"connections": CONNECTIONS, "serving": SERVING}, "found": found}


def figures(found: Found) -> Figures:
    """Over all cases."""
    return {
        "cases": Figure(sum(found["found"]["sent"].values())),
        "kinds": Figure(len(found["found"]["sent"])),
        "violations": Figure(sum(found["found"]["violations"].values()), 0),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
