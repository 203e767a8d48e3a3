"""Scenarios by the names of MLPerf LoadGen, with durations of this project's own."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["SCENARIOS", "Scenario", "ScenarioName"]

ScenarioName = Literal["offline", "single_stream", "multi_stream", "server"]


@dataclass(frozen=True)
class Scenario:
    """How requests are sent, and the number that counts.

    Names and metrics are LoadGen's (Reddi et al., "MLPerf Inference Benchmark", ISCA 2020,
    https://arxiv.org/abs/1911.02549); its least durations and numbers of queries are not required here.

    Attributes:
        rows_per_request: by default.
        connections: by default; ``None`` for that of the target.
        is_open: whether requests arrive at a rate.
        metric: name of its number in the summary of a result.
        fixed: whether rows and connections are part of the scenario.
    """

    rows_per_request: int
    connections: int | None
    is_open: bool
    metric: str
    fixed: bool = False


SCENARIOS: dict[str, Scenario] = {
    "offline": Scenario(64, None, False, "rows_per_s"),
    "single_stream": Scenario(1, 1, False, "latency_ms.p90", fixed=True),
    "multi_stream": Scenario(8, 1, False, "latency_ms.p99", fixed=True),
    "server": Scenario(1, None, True, "latency_ms.p99"),
}
