"""How soon the audit notices traffic that drifts, and how often it is wrong about traffic that does not.

    cascade collect examples/cifar10/config.yaml --dataset cifar10 --split test --out cifar10.npz
    python -m cascade.benchmarks.experiments.statistics.audit_drift examples/cifar10/config.yaml --scores cifar10.npz

The rows of the score table are the population: in each run calibration rows are drawn from it, a certified policy is
made from them, and rows drawn from it are the traffic of a gateway with the last stage behind it. Drifted traffic is
noise on the pixels, another mix of the classes, and another data set (handwritten digits, as coloured images of the
right size) mixed in; the stages really look at those rows. Rows are replayed, not served: the monitor is the one of
the gateway, and is told of rows in blocks, as there. Sought: without drift an alarm in at most delta of the runs, but
for three standard errors of the simulation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.calibration import Policy, ScoreTable, calibrate
from cascade.calibration.monitoring.monitor import Monitor
from cascade.calibration.routing_problem import calibrated_confidence
from cascade.cascade import check_table, load_stages
from cascade.cli.console import console
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.datasets import load
from cascade.errors import CascadeError
from cascade.machine.description import describe_machine
from cascade.routers import reached_stages

RESULT = RESULTS / "statistics/audit_drift.json"
NOISE = {"noise of 10 of 255": 10, "noise of 30 of 255": 30}
CLASSES = {"half cats and dogs": (3, 5), "half automobiles and ships": (1, 8)}
MIXED_SHARES = (0.1, 0.3, 1.0)
TARGETS = {"max_accuracy_drop": 0.0125, "target_agreement": 0.97}
QUIET_ROWS = 100_000
QUIET_BLOCK = 1000


@dataclass(frozen=True, eq=False)
class Traffic:
    """Independent draws from a table, as one policy routes them; all that a monitor sees of a row.

    Attributes:
        shares: (2 K,) of the rows, by answering stage (K) and then by agreement with the last stage; for the last stage
            by whether the word before was the same.
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
        said = table.prediction[np.arange(len(table)), stage]
        before = table.prediction[:, -2]
        same = np.where(stage == table.stages - 1, before, said) == table.prediction[:, -1]
        shares = np.bincount(2 * stage + same, weights=weight / weight.sum(), minlength=2 * table.stages)
        label = table.label if label is None else label
        return cls(shares, 0.0 if label is None else float(np.average(said == label, weights=weight)))

    @property
    def agreement(self) -> float:
        """With the last stage."""
        return float(1 - self.shares[:-2:2].sum())

    def facts(self) -> dict[str, Any]:
        """What the traffic is like."""
        return {
            "stage_share": self.shares.reshape(-1, 2).sum(axis=1).tolist(),
            "agreement": self.agreement,
            "accuracy": self.accuracy,
        }

    def show(self, monitor: Monitor, rows: int, share: float, rng: np.random.Generator) -> None:
        """Lets a monitor see some rows, of which a share is audited."""
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
    """What the stages say on rows that are not like the calibration rows."""
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
        console.print(f"the stages look at {len(changed)} rows: {name}")
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
    found = {name: (drifted[name], np.ones(len(drifted[name])), drifted[name].label) for name in NOISE}
    for name, classes in CLASSES.items():
        chosen = np.isin(table.label, classes)
        weight = np.where(chosen, 0.5 / chosen.sum(), 0.5 / (~chosen).sum())
        found[name] = (table, weight, table.label)
    if table.label is None:
        raise CascadeError("the score table needs 'label'; collect it from labelled rows")
    both, n = joined(table, drifted["digits"]), len(table)
    label = np.concatenate([table.label, np.full(len(drifted["digits"]), -1)])
    for share in MIXED_SHARES:
        weight = np.where(np.arange(len(both)) < n, (1 - share) / n, share / len(drifted["digits"]))
        found[f"{share:.0%} digits"] = (both, weight, label)
    return found


def until_alarm(
    monitor: Monitor, traffic: Traffic, block: int, most_rows: int, share: float, rng: np.random.Generator
) -> dict[str, int]:
    """Rows until each alarm, by name; "agreement" is waited for, the others are taken as they come."""
    found: dict[str, int] = {}
    for rows in range(block, most_rows + 1, block):
        traffic.show(monitor, block, share, rng)
        for each in monitor.alarms:
            found.setdefault(each.name, rows)
        if "agreement" in found and len(found) > 1:
            break
    return found


def delays(found: list[dict[str, int]], name: str | None = None) -> dict[str, Any]:
    """Of all runs, how many noticed, and after how many rows at the median and in nine of ten."""
    rows = [min(one.values(), default=None) if name is None else one.get(name) for one in found]
    sorted_rows = sorted(np.inf if each is None else each for each in rows)
    at = {"median_rows": sorted_rows[len(rows) // 2], "p90_rows": sorted_rows[int(0.9 * (len(rows) - 1))]}
    return {"noticed_share": sum(each is not None for each in rows) / len(rows)} | {
        key: None if np.isinf(value) else int(value) for key, value in at.items()
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
    drifted_rows: Annotated[int, typer.Option(min=100, help="That the stages look at, of each kind.")] = 1500,
    block: Annotated[int, typer.Option(min=1, help="Rows from one look to the next, of a drift.")] = 500,
    out: Annotated[Path, typer.Option()] = RESULT,
) -> None:
    """Simulate runs without and with drift."""
    config = CascadeConfig.load(config_path)
    table = ScoreTable.load(scores)
    choices = check_table(table, config)
    rng = np.random.default_rng(0)

    def new_policy(seed: int, **target: float) -> Policy:
        drawn = table.take(np.random.default_rng((seed, 1)).integers(0, len(table), calibration_rows))
        return calibrate(drawn, routers=choices, seed=seed, **target)  # type: ignore[arg-type]

    tolerance = config.serving.audit.rate_tolerance
    behind = table.stages - 1
    false_alarms: dict[str, Any] = {}
    for name, value in TARGETS.items():
        alarms: list[str] = []
        for run in range(runs):
            policy = new_policy(run, **{name: value})
            traffic = Traffic.of(table, policy, np.ones(len(table)))
            monitor = Monitor(policy, delta, first_behind=behind)  # without a tolerance, so that nothing is hidden
            for _ in range(run_rows // QUIET_BLOCK):
                traffic.show(monitor, QUIET_BLOCK, share, rng)
                if monitor.alarms:
                    alarms.append(monitor.alarms[0].name)
                    break
        false_alarms[f"{name} {value:g}"] = {"alarm_share": len(alarms) / runs, "by": sorted(alarms)}
        console.print(name, value, false_alarms[f"{name} {value:g}"])
    found: dict[str, Any] = {}
    drifted = drifted_tables(config, config_path.parent, drifted_rows, rng)
    for name, (rows, weight, label) in scenarios(table, drifted).items():
        seen = []
        for run in range(drift_runs):
            policy = new_policy(run, max_accuracy_drop=TARGETS["max_accuracy_drop"])
            monitor = Monitor(policy, delta, first_behind=behind, rate_tolerance=tolerance)
            quiet = Traffic.of(table, policy, np.ones(len(table)))
            drifting = Traffic.of(rows, policy, weight, label)
            for _ in range(QUIET_ROWS // QUIET_BLOCK):
                quiet.show(monitor, QUIET_BLOCK, share, rng)
            seen.append({} if monitor.alarms else until_alarm(monitor, drifting, block, most_rows, share, rng))
        found[name] = {
            "quiet": quiet.facts(),
            "drifted": drifting.facts(),
            "first_alarm": delays(seen),
            "by_agreement": delays(seen, "agreement"),
        }
        console.print(name, found[name]["first_alarm"], "by agreement", found[name]["by_agreement"])
    allowed = delta + 3 * (delta * (1 - delta) / runs) ** 0.5
    result = {
        "schema_version": 1,
        "measured": {
            "config": config.name,
            "stages": table.stage.tolist(),
            "audited_share": share,
            "delta": delta,
            "rate_tolerance": tolerance,
            "calibration_rows": calibration_rows,
            "runs_without_drift": runs,
            "run_rows": run_rows,
            "quiet_rows_before_drift": QUIET_ROWS,
            "drift_runs": drift_runs,
            "most_rows": most_rows,
            "allowed_alarm_share": allowed,
        },
        "machine": describe_machine(),
        "without_drift": false_alarms,
        "with_drift": found,
    }
    save_result(out, result)
    too_many = [key for key, value in false_alarms.items() if value["alarm_share"] > allowed]
    if too_many:
        raise CascadeError(f"more than {allowed:.3f} of the runs without drift had an alarm: {too_many}")


if __name__ == "__main__":
    run_experiment(main)
