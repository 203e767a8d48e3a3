"""Two results of the same benchmark, and whether the second is worse by more than noise."""

from dataclasses import dataclass

from cascade.benchmarks.analysis.intervals import Estimate, ratio
from cascade.benchmarks.analysis.result import Result

__all__ = ["Change", "compare", "differences"]

LARGER_IS_BETTER = {
    "rows_per_s": True,
    "requests_per_s": True,
    "goodput_per_s": True,
    "accuracy": True,
    "latency_ms.p50": False,
    "latency_ms.p90": False,
    "latency_ms.p99": False,
    "mean_cost": False,
    "engine.ms_per_row": False,
    "engine.times_faster": True,
}
SAME_LOAD = ("config", "target", "scenario", "load", "rows_per_request", "connections", "rate_per_s", "mix", "data")


@dataclass(frozen=True)
class Change:
    """A number of the second result over that of the first.

    Attributes:
        name: of the number.
        first: median over the repeats.
        second: median over the repeats.
        ratio: with its interval; ``None`` where a number is 0.
        verdict: "worse", "better", "no difference beyond noise" or "not known" (too few repeats).
    """

    name: str
    first: float
    second: float
    ratio: Estimate | None
    verdict: str


def compare(first: Result, second: Result, tolerance: float = 0.0) -> list[Change]:
    """The numbers that both results have.

    Args:
        first: the base.
        second: that is judged.
        tolerance: a change of so much counts as no difference, such as 0.05.
    """
    changes = []
    for name, larger in LARGER_IS_BETTER.items():
        a, b = first.values(name), second.values(name)
        if not a or not b:
            continue
        found = ratio(b, a)
        verdict = _verdict(found, larger, tolerance)
        changes.append(Change(name, first.summary[name].median, second.summary[name].median, found, verdict))
    return changes


def _verdict(found: Estimate | None, larger_is_better: bool, tolerance: float) -> str:
    if found is None or found.low is None or found.high is None:
        return "not known"
    if found.high < 1 - tolerance:
        return "worse" if larger_is_better else "better"
    if found.low > 1 + tolerance:
        return "better" if larger_is_better else "worse"
    return "no difference beyond noise"


def differences(first: Result, second: Result) -> list[str]:
    """What else differs between the results: load, data, machine."""
    pairs = [(name.replace("_", " "), *(getattr(one.measured, name) for one in (first, second))) for name in SAME_LOAD]
    pairs += [(name, first.machine.get(name), second.machine.get(name)) for name in ("cpu", "cores")]
    found = [f"{name}: {a} and {b}" for name, a, b in pairs if a != b]
    named = (("first", first), ("second", second))
    found += [f"the state: the {word} one is partial" for word, one in named if one.state == "partial"]
    return found + [f"validity: the {word} one is invalid" for word, one in named if one.invalid]
