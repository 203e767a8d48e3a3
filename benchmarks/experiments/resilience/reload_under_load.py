"""Are requests lost, mixed or slow while the policy of a fully loaded cascade is reloaded?

    python -m cascade.benchmarks.experiments.resilience.reload_under_load

Clients send requests of several rows over connections that they keep, without a pause, to two gateways with the second
stage in a process of its own. Meanwhile one policy replaces the other, many times. The two decide alike but have
other costs, so the cost of every row of an answer shows the policy by which each stage decided on it. Sought: no
request lost, none of mixed versions, and the p99 of the requests that begin with a reload at most 1.2 times that of the
others. Needs the extra ``bench``.
"""

import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer

from cascade.benchmarks.clients.http_bodies import request_body, request_bytes
from cascade.benchmarks.clients.http_connection import HttpConnection
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import cascade_server
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import ADMIN_KEY, calibrated_rounds, write_cascade
from cascade.calibration import Policy
from cascade.errors import CascadeError

SERVING: dict[str, Any] = {"gateways": 2, "admin_keys_file": "admin-keys.txt"}
COSTS = ((1.0, 10.0), (2.0, 20.0))
"""Of both stages, by the first and by the second policy."""
ROWS = 1000
MOST_P99_RATIO = 1.2
RESAMPLES = 200
WINDOW_S = 0.5
"""A request that begins within so many seconds of a reload counts as one during it; all gateways are called at once."""


@dataclass
class Seen:
    """The outcome of the requests.

    Attributes:
        spans: (moment it was sent, moment of the answer) of each request that was answered well.
        mixed: answers in which a row was not routed by the version that the answer names.
        lost: other answers, and requests without one, by kind.
        versions: requests by version.
    """

    spans: list[tuple[float, float]] = field(default_factory=list)
    mixed: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)


def expected_costs(rows: np.ndarray, cost: tuple[float, float]) -> list[float]:
    """Cost of each row by a policy of these costs: every fifth row reaches the second stage."""
    deferred = rows.reshape(len(rows), -1)[:, 0] % busy_stage.DEFERRED_EVERY == 0
    return list(np.where(deferred, sum(cost), cost[0]).tolist())


async def client(port: int, rows: np.ndarray, policies: dict[str, int], seen: Seen, until: asyncio.Event) -> None:
    """One connection that sends requests without a pause."""
    batches = [rows[start : start + 8] for start in range(0, len(rows) - 8, 8)]
    asked = [(request_bytes(batch), [expected_costs(batch, cost) for cost in COSTS]) for batch in batches]
    _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, "127.0.0.1", port)
    turn = 0
    while not until.is_set():
        request, expected = asked[turn % len(asked)]
        turn += 1
        begin = time.monotonic()
        try:
            status, body = await asyncio.wait_for(connection.ask(request), 20)
        except (OSError, asyncio.TimeoutError) as error:
            seen.lost[type(error).__name__] += 1
            return
        if status != 200:
            seen.lost[str(status)] += 1
            continue
        answer = orjson.loads(body)
        version = answer["policy_version"]
        seen.versions[version] += 1
        seen.mixed += answer["cost"] != expected[policies[version]]
        seen.spans.append((begin, time.monotonic()))
    connection.close()


async def reload(port: int, policy: Policy) -> tuple[float, float, dict[str, Any]]:
    """Puts a policy into force; returns when that began and ended, and the answer."""
    body = policy.to_json().encode()
    head = (
        f"PUT /policy HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, "127.0.0.1", port)
    begin = time.monotonic()
    status, answer = await connection.ask(head.encode() + body)
    end = time.monotonic()
    connection.close()
    if status != 200:
        raise CascadeError(f"a reload was answered with {status}: {answer.decode()}")
    return begin, end, orjson.loads(answer)


async def load(
    port: int, rows: np.ndarray, policies: list[Policy], clients: int, reloads: int, every_s: float
) -> tuple[Seen, list[tuple[float, float, dict[str, Any]]]]:
    """Loads, reloads every so often, and waits for what was sent."""
    seen, until, done = Seen(), asyncio.Event(), []
    places = {policy.version: place for place, policy in enumerate(policies)}
    tasks = [asyncio.create_task(client(port, rows, places, seen, until)) for _ in range(clients)]
    await asyncio.sleep(3.0)
    seen.spans.clear()  # the warm-up
    for turn in range(reloads):
        begin = time.monotonic()
        done.append(await reload(port, policies[(turn + 1) % 2]))
        await asyncio.sleep(max(0.0, every_s - (time.monotonic() - begin)))
    until.set()
    await asyncio.gather(*tasks)
    return seen, done


def begun_in(begin: np.ndarray, moments: list[float]) -> np.ndarray:
    """(n,) bool, which requests began at most ``WINDOW_S`` after one of the moments, which ascend.

    By their begin, since a long request has more to do with any window; and in windows of one length, since a reload
    itself takes longer when everything does.
    """
    place = np.searchsorted(moments, begin, side="right") - 1
    return np.asarray((place >= 0) & (begin - np.asarray(moments)[place] <= WINDOW_S))


def p99_ratio_interval(latency: np.ndarray, during: np.ndarray, reload_of: np.ndarray, count: int) -> list[float]:
    """95 % interval of the ratio of both p99s, by bootstrap over whole reloads with the time after them."""
    random = np.random.default_rng(0)
    inside = [latency[during & (reload_of == k)] for k in range(count)]
    outside = [latency[~during & (reload_of == k)] for k in range(count)]
    ratios = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, count, count)
        ratios.append(
            np.percentile(np.concatenate([inside[k] for k in chosen]), 99)
            / np.percentile(np.concatenate([outside[k] for k in chosen]), 99)
        )
    return list(np.percentile(ratios, [2.5, 97.5]).tolist())


def summary(seen: Seen, done: list[tuple[float, float, dict[str, Any]]]) -> dict[str, Any]:
    """The numbers of a run."""
    spans = np.array(sorted(seen.spans))
    latency_ms = 1e3 * (spans[:, 1] - spans[:, 0])
    moments = [begin for begin, _, _ in done]
    during = begun_in(spans[:, 0], moments)
    reload_of = np.searchsorted(moments, spans[:, 0], side="right") - 1
    took_ms = 1e3 * np.array([end - begin for begin, end, _ in done])
    p99 = {name: float(np.percentile(latency_ms[which], 99)) for name, which in (("during", during), ("else", ~during))}
    return {
        "requests": len(spans) + sum(seen.lost.values()),
        "requests_per_s": len(spans) / float(spans[-1, 1] - spans[0, 0]),
        "requests_during_a_reload": int(during.sum()),
        "lost": seen.lost,
        "mixed": seen.mixed,
        "versions": seen.versions,
        "p50_ms": {"during": float(np.median(latency_ms[during])), "else": float(np.median(latency_ms[~during]))},
        "p99_ms": p99,
        "p99_ratio": p99["during"] / p99["else"],
        "p99_ratio_interval": p99_ratio_interval(latency_ms, during, reload_of, len(done)),
        "reload_ms": {"p50": float(np.median(took_ms)), "max": float(took_ms.max())},
        "least_gateways": min(answer["gateways"] for _, _, answer in done),
    }


def main(
    reloads: Annotated[int, typer.Option(min=2)] = 100,
    every_s: Annotated[float, typer.Option(min=0.1)] = 1.5,
    clients: Annotated[int, typer.Option(min=1)] = 32,
) -> Found:
    """Load two gateways, and reload their policy many times."""
    rows = busy_stage.new_rows(ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_cascade(folder, calibrated_rounds(), serving=SERVING)
        plain = Policy.load(folder / "policy.json")
        policies = [replace(plain, cost=np.array(cost)) for cost in COSTS]
        policies[0].save(folder / "policy.json")
        with cascade_server(config, request_body(rows[:1])) as server:
            seen, done = asyncio.run(load(server.port, rows, policies, clients, reloads, every_s))
    return {"measured": {"rows_per_request": 8, **SERVING}, "seen": summary(seen, done)}


def figures(found: Found) -> Figures:
    """Of all reloads."""
    seen = found["seen"]
    return {
        "requests": Figure(seen["requests"]),
        "requests lost": Figure(sum(seen["lost"].values()), 0),
        "answers of mixed versions": Figure(seen["mixed"], 0),
        "versions in force": Figure(len(seen["versions"]), len(COSTS), "=="),
        "gateways that confirmed a reload, the fewest": Figure(
            seen["least_gateways"], found["measured"]["gateways"], "=="
        ),
        "p99 during a reload over p99 at other times": Figure(seen["p99_ratio"], MOST_P99_RATIO),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
