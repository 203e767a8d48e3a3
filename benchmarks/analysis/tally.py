"""Adds the slices of a load up while it runs, and computes the numbers of the repeat."""

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from cascade.benchmarks.analysis.latencies import PERCENTILES, Latencies
from cascade.benchmarks.analysis.repeat import Client, Repeat, SendLag, Window
from cascade.benchmarks.analysis.steady_state import WINDOWS, steady_from
from cascade.benchmarks.clients.lane import ANSWERED, name_of
from cascade.benchmarks.generator.slices import RECORD, RowSums, Slice
from cascade.benchmarks.load import Load, Trace
from cascade.benchmarks.workload import Workload

__all__ = ["Live", "Tally"]


@dataclass(frozen=True)
class Live:
    """The last second of a running load.

    Attributes:
        seconds: since the beginning, with the warm-up.
        requests_per_s: answered.
        p50_ms: of the latency; NaN without answers.
        p99_ms: of the latency; NaN without answers.
        failed: of the whole load so far.
    """

    seconds: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


class Tally:
    """The slices of one load.

    Args:
        load: that is sent.
        workload: what it sends.
        seed: of the repeat.
        goodput_ms: latency within which an answer counts as goodput; ``None`` for none.
    """

    def __init__(self, load: Load, workload: Workload, seed: int, goodput_ms: float | None = None) -> None:
        self.load, self.seed, self.goodput_ms = load, seed, goodput_ms
        self._sizes = np.array([len(batch) for batch in workload.batches])
        self._records: list[np.ndarray] = []
        self.sums = RowSums()
        self.messages: dict[int, str] = {}
        self._processor_s: defaultdict[int, float] = defaultdict(float)
        self._started = datetime.now(timezone.utc)
        self._load_average = os.getloadavg()
        self._own_s = time.process_time()
        self.ended = 0
        self._real_time = False

    def add(self, part: Slice) -> None:
        """Adds a slice."""
        if len(part.records):
            self._records.append(part.records)
        self.sums.merge(part.sums)
        for status, message in part.messages.items():
            self.messages.setdefault(status, message)
        self._processor_s[part.part] += part.processor_s
        self.ended += part.ends
        self._real_time |= part.real_time

    @property
    def records(self) -> np.ndarray:
        """All records so far."""
        if len(self._records) > 1:
            self._records = [np.concatenate(self._records)]
        return self._records[0] if self._records else np.empty(0, RECORD)

    def live(self) -> Live:
        """The last second."""
        recent = np.concatenate(self._records[-8:]) if self._records else np.empty(0, RECORD)
        now = float(recent["done"].max()) if len(recent) else 0.0
        answered = recent[(recent["status"] == ANSWERED) & (recent["done"] > now - 1)]
        latencies = Latencies.of(answered["done"] - answered["due"])
        failed = sum(int(np.count_nonzero(part["status"] != ANSWERED)) for part in self._records)
        span = min(max(now, 1e-3), 1.0)
        return Live(now, len(answered) / span, latencies.percentile(50), latencies.percentile(99), failed)

    def repeat(self, partial: bool = False) -> Repeat:
        """The numbers of the load.

        Args:
            partial: whether it was ended before its time; its length is then that of what there is.
        """
        records, load = self.records, self.load
        begin, end = load.warmup_seconds, load.warmup_seconds + load.seconds
        if len(records) and (partial or load.max_requests is not None):
            end = min(end, max(float(records["done"].max()), begin + 1e-3))
        seconds = end - begin
        answered = records["status"] == ANSWERED
        counted = records[records["due"] >= begin]
        good = counted[counted["status"] == ANSWERED]
        in_time = records[answered & (records["done"] >= begin) & (records["done"] <= end)]
        latencies = Latencies.of(good["done"] - good["due"])
        upper = {f"p{p:g}": latencies.upper(p) for p in PERCENTILES}
        errors, messages = self._errors(counted)
        windows = _windows(records, begin, end)
        steady = None if partial else _steady(windows, load.is_open)
        return Repeat(
            seed=self.seed,
            started=self._started,
            partial=partial,
            seconds=seconds,
            warmup_seconds=begin,
            offered_per_s=len(counted) / seconds if load.is_open else None,
            sent_per_s=int(np.count_nonzero(~np.isnan(counted["sent"]))) / seconds,
            requests=len(good),
            failed=len(counted) - len(good),
            requests_per_s=len(in_time) / seconds,
            rows=self.sums.rows,
            rows_per_s=float(self._sizes[in_time["request"]].sum()) / seconds,
            goodput_per_s=self._goodput(good, seconds),
            latency_ms={f"p{p:g}": latencies.percentile(p) for p in PERCENTILES if upper[f"p{p:g}"] is not None}
            | ({"mean": latencies.mean_ms, "max": latencies.largest_ms} if len(latencies) else {}),
            latency_upper_ms={name: bound for name, bound in upper.items() if bound is not None},
            histogram=latencies.sparse(),
            too_few_for=[name for name, bound in upper.items() if bound is None],
            send_lag=_send_lag(counted) if load.is_open else None,
            client=self._client(len(records), begin + seconds),
            accuracy=self.sums.right / self.sums.labelled if self.sums.labelled else None,
            different_answers=min(len(self.sums.answers), 2) or None,
            degraded=self.sums.degraded / self.sums.rows if self.sums.rows else 0.0,
            abstained=self.sums.abstained / self.sums.rows if self.sums.rows else 0.0,
            mean_cost=self.sums.cost / self.sums.rows if self.sums.rows and self.sums.versions else None,
            stage_share={name: count / self.sums.rows for name, count in sorted(self.sums.stages.items())},
            policy_versions=sorted(self.sums.versions),
            errors=errors,
            messages=messages,
            windows=windows,
            steady_from_s=steady,
            load_average=self._load_average,
        )

    def _errors(self, counted: np.ndarray) -> tuple[dict[str, int], dict[str, str]]:
        statuses, counts = np.unique(counted["status"], return_counts=True)
        errors = {name_of(int(s)): int(n) for s, n in zip(statuses, counts) if s != ANSWERED}
        return errors, {name_of(status): text for status, text in self.messages.items()}

    def _goodput(self, good: np.ndarray, seconds: float) -> float | None:
        taken = good["done"] - good["due"]
        if isinstance(self.load, Trace):
            limit = self.load.deadline_s[good["order"]]
            if self.goodput_ms is not None:
                limit = np.minimum(limit, self.goodput_ms / 1e3)
            return int(np.count_nonzero(taken <= limit)) / seconds
        return None if self.goodput_ms is None else int(np.count_nonzero(taken <= self.goodput_ms / 1e3)) / seconds

    def _client(self, requests: int, seconds: float) -> Client:
        spent = sum(self._processor_s.values())
        return Client(
            processes=max(len(self._processor_s), 1),
            busiest_share=max(self._processor_s.values(), default=0.0) / seconds,
            processor_s=spent,
            collector_s=time.process_time() - self._own_s,
            processor_us_per_request=spent / max(requests, 1) * 1e6,
            real_time=self._real_time,
        )


def _windows(records: np.ndarray, begin: float, end: float) -> list[Window]:
    """Equal parts of the measured time."""
    width = (end - begin) / WINDOWS
    answered = records[records["status"] == ANSWERED]
    by_done = np.clip(np.floor((answered["done"] - begin) / width), -1, WINDOWS).astype(int)
    counts = np.bincount(by_done[(by_done >= 0) & (by_done < WINDOWS)], minlength=WINDOWS)
    failed = records[(records["status"] != ANSWERED) & (records["due"] >= begin)]
    failures = np.bincount(np.clip((failed["due"] - begin) // width, 0, WINDOWS - 1).astype(int), minlength=WINDOWS)
    places = np.floor((answered["due"] - begin) / width).astype(int)
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[order], np.arange(WINDOWS + 1))
    latency = (answered["done"] - answered["due"])[order] * 1e3
    found = []
    for k in range(WINDOWS):
        part = latency[bounds[k] : bounds[k + 1]]
        median = float(np.median(part)) if len(part) else None
        rate = float(counts[k]) / width
        found.append(Window(start_s=k * width, requests_per_s=rate, p50_ms=median, failed=int(failures[k])))
    return found


def _steady(windows: list[Window], is_open: bool) -> float | None:
    """Seconds after the warm-up from which the load was steady; ``None`` where it was not."""
    series = [(w.p50_ms if w.p50_ms is not None else np.nan) if is_open else w.requests_per_s for w in windows]
    found = steady_from(np.array(series))
    return None if found is None else windows[found].start_s


def _send_lag(counted: np.ndarray) -> SendLag:
    handled = counted[~np.isnan(counted["handled"])]
    lag = Latencies.of(np.maximum(handled["handled"] - handled["due"], 0.0))
    return SendLag(
        p50_ms=lag.percentile(50) if len(lag) else None,
        p99_ms=lag.percentile(99) if len(lag) else None,
        max_ms=lag.largest_ms if len(lag) else None,
        not_handled=len(counted) - len(handled),
    )
