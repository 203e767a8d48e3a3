"""How soon does the audit notice drift, and how often does it raise an alarm without drift?

    cascade collect examples/cifar10/config.yaml --dataset cifar10 --split test --out cifar10.npz
    python -m cascade.benchmarks.experiments.statistics.audit_drift examples/cifar10/config.yaml --scores cifar10.npz

The rows of the score table are the population: in each run calibration rows are drawn from it, a certified policy is
made from them, and rows drawn from it are the traffic of a gateway with the last stage behind it. Drifted traffic is
noise on the pixels, another mix of the classes, and another data set (handwritten digits, as coloured images of the
right size) mixed in; the stages predict on those rows. Rows are replayed, not served: the monitor is the one of the
gateway, and rows come to it in blocks, as there. Sought: without drift an alarm in at most delta of the runs, but for
three standard errors of the simulation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.simulation import allowed_share
from cascade.calibration import Policy, ScoreTable, calibrate
from cascade.calibration.calibrate import RouterChoice
from cascade.calibration.monitoring.monitor import Monitor
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.cascade import check_table, load_stages
from cascade.cli.shared.console import console
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.datasets import load
from cascade.errors import CascadeError
from cascade.routers import reached_stages

NOISE = {"noise of 10 of 255": 10, "noise of 30 of 255": 30}
CLASSES = {"half cats and dogs": (3, 5), "half automobiles and ships": (1, 8)}
MIXED_SHARES = (0.1, 0.3, 1.0)
TARGETS = {"max_accuracy_drop": 0.0125, "target_agreement": 0.97}
QUIET_ROWS = 100_000
QUIET_BLOCK = 1000


@dataclass(frozen=True, eq=False)
class Traffic:
    """Independent draws from a table, as one policy routes them: all that a monitor is given of a row.

    Attributes:
        shares: (2 K,) of the rows, by answering stage (K) and then by agreement with the last stage; for the last stage
            by agreement of the stage before it.
        accuracy: of the cascade.
    """

    shares: np.ndarray
    accuracy: float

    @classmethod
    def of(cls, table: ScoreTable, policy: Policy, weight: np.ndarray, label: np.ndarray | None = None) -> "Traffic":
        """Rows (n,) drawn with given weights; labels are the table's, or (n,) with -1 where no class is right."""
        confidence = calibrated_confidence(table, policy.routers)
        asked = reached_stages(confidence, policy.thresholds, policy.defer_below, policy.runs)
        stage = table.stages - 1 - asked[:, ::-1].argmax(axis=1)
        given = table.prediction[np.arange(len(table)), stage]
        before = table.prediction[:, -2]
        same = np.where(stage == table.stages - 1, before, given) == table.prediction[:, -1]
        shares = np.bincount(2 * stage + same, weights=weight / weight.sum(), minlength=2 * table.stages)
        label = table.label if label is None else label
        return cls(shares, 0.0 if label is None else float(np.average(given == label, weights=weight)))

    @property
    def agreement(self) -> float:
        """With the last stage."""
        return float(1 - self.shares[:-2:2].sum())

    def facts(self) -> dict[str, Any]:
        """Shares of the stages, agreement and accuracy."""
        return {
            "stage_share": self.shares.reshape(-1, 2).sum(axis=1).tolist(),
            "agreement": self.agreement,
            "accuracy": self.accuracy,
        }

    def show(self, monitor: Monitor, rows: int, share: float, rng: np.random.Generator) -> None:
        """Gives some rows to a monitor, of which a share is audited."""
        counts = rng.multinomial(rows, self.shares)
        audited = rng.binomial(counts, share)
        answered = counts.reshape(-1, 2).sum(axis=1)
        before, behind = answered.copy(), answered.copy()
        before[-1], behind[:-1] = 0, 0
        monitor.add_decided(before, int(answered[-1]))
        if answered[-1]:
            monitor.add_returned(behind, int(counts[-1]))
        kind = np.repeat(np.arange(len(counts)), audited)
        if len(kind):
            monitor.add_audited(kind // 2, (kind % 2 == 1) | (kind >= len(counts) - 2))


def drifted_tables(config: CascadeConfig, folder: Path, rows: int, rng: np.random.Generator) -> dict[str, ScoreTable]:
    """Predictions of the stages on rows that differ from the calibration rows."""
    from sklearn.datasets import load_digits

    stages = load_stages(config.stages, folder, config.classes)
    images, label = load("cifar10", "test")
    chosen = rng.permutation(len(images))[:rows]
    clean, label = images[chosen], label[chosen]
    digits = load_digits().images[:rows]
    grey = np.kron(digits, np.ones((4, 4))) * (255 / 16)
    sources: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        name: (np.clip(clean + rng.normal(0, deviation, clean.shape), 0, 255).astype(np.uint8), label)
        for name, deviation in NOISE.items()
    }
    sources["digits"] = (np.repeat(grey[..., None], 3, axis=3).astype(np.uint8), None)
    tables = {}
    for name, (changed, labels) in sources.items():
        console.print(f"the stages predict on {len(changed)} rows: {name}")
        tables[name] = collect(stages, changed, labels)
    return tables


def joined(table: ScoreTable, other: ScoreTable) -> ScoreTable:
    """The rows of both, without labels."""
    if table.scores is None or other.scores is None:
        raise CascadeError("the score table needs 'scores'; collect it with the configuration")
    return ScoreTable(
        np.concatenate([table.prediction, other.prediction]),
        np.concatenate([table.confidence, other.confidence]),
        table.cost,
        table.stage,
        cost_unit=table.cost_unit,
        scores=np.concatenate([table.scores, other.scores]),
    )


def scenarios(
    table: ScoreTable, drifted: Mapping[str, ScoreTable]
) -> dict[str, tuple[ScoreTable, np.ndarray, np.ndarray | None]]:
    """By name, rows, their weights and their labels; no class of the table is right for the other data set."""
    if table.label is None:
        raise CascadeError("the score table needs 'label'; collect it from labelled rows")
    found = {name: (drifted[name], np.ones(len(drifted[name])), drifted[name].label) for name in NOISE}
    for name, classes in CLASSES.items():
        chosen = np.isin(table.label, classes)
        weight = np.where(chosen, 0.5 / chosen.sum(), 0.5 / (~chosen).sum())
        found[name] = (table, weight, table.label)
    both, n = joined(table, drifted["digits"]), len(table)
    label = np.concatenate([table.label, np.full(len(drifted["digits"]), -1)])
    for share in MIXED_SHARES:
        weight = np.where(np.arange(len(both)) < n, (1 - share) / n, share / len(drifted["digits"]))
        found[f"{share:.0%} digits"] = (both, weight, label)
    return found


def until_alarm(
    monitor: Monitor, traffic: Traffic, block: int, most_rows: int, share: float, rng: np.random.Generator
) -> dict[str, int]:
    """Rows until each alarm, by name; "agreement" is waited for, the others are recorded as they come."""
    found: dict[str, int] = {}
    for rows in range(block, most_rows + 1, block):
        traffic.show(monitor, block, share, rng)
        for each in monitor.alarms:
            found.setdefault(each.name, rows)
        if "agreement" in found and len(found) > 1:
            break
    return found


def delays(found: list[dict[str, int]], name: str | None = None) -> dict[str, Any]:
    """Share of the runs with an alarm, and rows until it at the median and in nine of ten runs."""
    rows = [min(one.values(), default=None) if name is None else one.get(name) for one in found]
    sorted_rows = sorted(np.inf if each is None else each for each in rows)
    at = {"median_rows": sorted_rows[len(rows) // 2], "p90_rows": sorted_rows[int(0.9 * (len(rows) - 1))]}
    return {"noticed_share": sum(each is not None for each in rows) / len(rows)} | {
        key: None if np.isinf(value) else int(value) for key, value in at.items()
    }


@dataclass(frozen=True, eq=False)
class Simulation:
    """Runs of a monitor on rows of a population.

    Attributes:
        table: the population.
        choices: routers of the stages.
        calibration_rows: drawn for the policy of each run.
        share: of the rows, that is audited.
        delta: of all alarms of a monitor.
        rng: draws the traffic.
    """

    table: ScoreTable
    choices: list[RouterChoice]
    calibration_rows: int
    share: float
    delta: float
    rng: np.random.Generator

    def run(self, seed: int, tolerance: float = 0.0, **target: float) -> tuple[Policy, Monitor, Traffic]:
        """A policy for a target, its monitor, and traffic without drift."""
        rows = np.random.default_rng((seed, 1)).integers(0, len(self.table), self.calibration_rows)
        policy = calibrate(self.table.take(rows), routers=self.choices, seed=seed, **target)  # type: ignore[arg-type]
        monitor = Monitor(policy, self.delta, first_behind=self.table.stages - 1, rate_tolerance=tolerance)
        return policy, monitor, Traffic.of(self.table, policy, np.ones(len(self.table)))

    def false_alarms(self, runs: int, run_rows: int, **target: float) -> dict[str, Any]:
        """Share of runs without drift with an alarm; without a tolerance, which would hide some."""
        alarms: list[str] = []
        for seed in range(runs):
            _, monitor, traffic = self.run(seed, **target)
            for _ in range(run_rows // QUIET_BLOCK):
                traffic.show(monitor, QUIET_BLOCK, self.share, self.rng)
                if monitor.alarms:
                    alarms.append(monitor.alarms[0].name)
                    break
        return {"alarm_share": len(alarms) / runs, "by": sorted(alarms)}

    def drift(
        self,
        rows: ScoreTable,
        weight: np.ndarray,
        label: np.ndarray | None,
        runs: int,
        most_rows: int,
        block: int,
        tolerance: float,
    ) -> dict[str, Any]:
        """Rows until an alarm in runs that drift after a quiet part."""
        seen = []
        for seed in range(runs):
            policy, monitor, quiet = self.run(seed, tolerance, max_accuracy_drop=TARGETS["max_accuracy_drop"])
            drifting = Traffic.of(rows, policy, weight, label)
            for _ in range(QUIET_ROWS // QUIET_BLOCK):
                quiet.show(monitor, QUIET_BLOCK, self.share, self.rng)
            found = {} if monitor.alarms else until_alarm(monitor, drifting, block, most_rows, self.share, self.rng)
            seen.append(found)
        return {
            "quiet": quiet.facts(),
            "drifted": drifting.facts(),
            "first_alarm": delays(seen),
            "by_agreement": delays(seen, "agreement"),
        }


def main(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG")],
    scores: Annotated[Path, typer.Option(help="Score table of the population, with labels and scores.")],
    share: Annotated[float, typer.Option(help="Of the rows, that is audited.")] = 0.01,
    delta: Annotated[float, typer.Option()] = 0.05,
    runs: Annotated[int, typer.Option(min=10, help="Without drift.")] = 200,
    run_rows: Annotated[int, typer.Option(help="Rows of a run without drift.")] = 1_000_000,
    drift_runs: Annotated[int, typer.Option(min=10, help="Of each kind of drift.")] = 20,
    most_rows: Annotated[int, typer.Option(help="Rows after which a drift counts as not noticed.")] = 1_000_000,
    calibration_rows: Annotated[int, typer.Option(min=100)] = 10_000,
    drifted_rows: Annotated[int, typer.Option(min=100, help="That the stages predict on, of each kind.")] = 1500,
    block: Annotated[int, typer.Option(min=1, help="Rows from one test to the next, of a drift.")] = 500,
) -> Found:
    """Simulate runs without and with drift."""
    config, table = CascadeConfig.load(config_path), ScoreTable.load(scores)
    rng, tolerance = np.random.default_rng(0), config.serving.audit.rate_tolerance
    simulation = Simulation(table, check_table(table, config), calibration_rows, share, delta, rng)
    false_alarms = {
        f"{name} {value:g}": simulation.false_alarms(runs, run_rows, **{name: value}) for name, value in TARGETS.items()
    }
    console.print(false_alarms)
    drifted = drifted_tables(config, config_path.parent, drifted_rows, rng)
    found = {}
    for name, scenario in scenarios(table, drifted).items():
        found[name] = simulation.drift(*scenario, drift_runs, most_rows, block, tolerance)
        console.print(name, found[name]["first_alarm"], "by agreement", found[name]["by_agreement"])
    return {
        "measured": {
            "config": config.name,
            "stages": table.stage,
            "rate_tolerance": tolerance,
            "quiet_rows_before_drift": QUIET_ROWS,
            "allowed_alarm_share": allowed_share(delta, runs),
        },
        "without_drift": false_alarms,
        "with_drift": found,
    }


def figures(found: Found) -> Figures:
    """False alarms, and rows until drift is noticed."""
    allowed = found["measured"]["allowed_alarm_share"]
    alarms = {
        f"share of runs without drift with an alarm, {name.replace('_', ' ')}": Figure(seen["alarm_share"], allowed)
        for name, seen in found["without_drift"].items()
    }
    rows = {
        f"rows until the first alarm, median, {name}": Figure(seen["first_alarm"]["median_rows"])
        for name, seen in found["with_drift"].items()
    }
    return alarms | rows


if __name__ == "__main__":
    run_experiment(main, figures)
