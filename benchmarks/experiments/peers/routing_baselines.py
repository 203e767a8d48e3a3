r"""Is a cascade better than simpler ways to use the same models? Accuracy, and time that was measured.

    python -m cascade.benchmarks.experiments.peers.routing_baselines examples/cifar10/config.yaml --dataset cifar10
    python -m cascade.benchmarks.experiments.peers.routing_baselines mails/config.yaml --rows mails/held_out.npz \
        --out benchmarks/results/peers/routing_baselines_mails.json

One half of the rows calibrates every method for the same accuracy, that of the biggest model less ``--drop``; the other
half judges. Compared are:

- each model alone;
- the cascade, with a threshold per stage as ``calibrate`` finds them, and with a certificate;
- one threshold for all stages;
- Wisdom of Committees (Wang et al., ICLR 2022, https://arxiv.org/abs/2012.01988): a stage answers with the mean of the
  probabilities of all models so far, with a threshold per stage;
- random routing: a mixture of two models, row by row, a lower bound for any router;
- the oracle: the cheapest model that answers a row correctly, and no other one, an upper bound.

The models then run on the rows that each method sends to them, all methods by turns, in calls of ``--call-rows`` rows.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.simulation import halves
from cascade.calibration import Guarantee, InfeasibleTarget, ScoreTable, calibrate
from cascade.calibration.calibrate import RouterChoice
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.calibration.evaluation.evaluation import proportion_interval
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.cascade import check_table, load_stages
from cascade.cli.shared.console import console
from cascade.cli.shared.inputs import DatasetOption, RowsOption, load_rows
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.errors import InputError
from cascade.routers import answering_stage
from cascade.rows.checks import check_rows
from cascade.stage import Stage

LEVEL = 0.95
OURS, CERTIFIED = "cascade", "cascade, certified"


@dataclass(frozen=True, eq=False)
class Routing:
    """What a method does with m rows.

    Attributes:
        runs: (m, K) bool, the models that run on a row.
        answer: (m,) int.
    """

    runs: np.ndarray
    answer: np.ndarray

    @classmethod
    def in_order(cls, prediction: np.ndarray, stage: np.ndarray, running: np.ndarray) -> "Routing":
        """All running models up to the one that answers.

        Args:
            prediction: (m, K) int.
            stage: (m,) int, the model that answers.
            running: (K,) bool.
        """
        reached = (np.arange(prediction.shape[1]) <= stage[:, None]) & running
        return cls(reached, np.take_along_axis(prediction, stage[:, None], axis=1)[:, 0])

    @classmethod
    def one_each(cls, prediction: np.ndarray, model: np.ndarray) -> "Routing":
        """One model per row, (m,) int."""
        answer = np.take_along_axis(prediction, model[:, None], axis=1)[:, 0]
        return cls(np.arange(prediction.shape[1]) == model[:, None], answer)


def routings(
    choosing: ScoreTable, judging: ScoreTable, routers: Sequence[RouterChoice], drop: float, call_rows: int
) -> dict[str, Routing]:
    """What each method does with the judging rows; methods that cannot be certified are missing."""
    prediction, models = judging.prediction, judging.stages
    cost = choosing.cumulative_cost.mean(axis=0)
    alone = {
        f"{name} alone": Routing.one_each(prediction, np.full(len(judging), k))
        for k, name in enumerate(judging.stage.tolist())
    }
    right = judging.correct.astype(bool)
    oracle = Routing.one_each(prediction, np.where(right.any(axis=1), right.argmax(axis=1), 0))
    found = {"one threshold": _one_threshold(choosing, judging, routers, drop)}
    guarantees: dict[str, Guarantee] = {OURS: "none", CERTIFIED: "certified"}
    for name, guarantee in guarantees.items():
        with suppress(InfeasibleTarget):
            found[name] = _cascade(choosing, judging, routers, drop, guarantee, call_rows)
    if choosing.scores is not None:
        committees = _committees(choosing), _committees(judging)
        found["Wisdom of Committees"] = _cascade(*committees, None, drop, "none", call_rows)
    own = np.diff(cost, prepend=0.0)
    found["random routing"] = _random(choosing, judging, own, drop)
    return alone | found | {"oracle": oracle} if models > 1 else alone


def _cascade(
    choosing: ScoreTable,
    judging: ScoreTable,
    routers: Sequence[RouterChoice] | None,
    drop: float,
    guarantee: Guarantee,
    call_rows: int,
) -> Routing:
    # A drop is compared with the last stage; a committee's last stage is the mean of all models.
    arrivals = RowsTogether((call_rows,))
    policy = calibrate(choosing, max_accuracy_drop=drop, guarantee=guarantee, routers=routers, arrivals=arrivals)
    confidence = calibrated_confidence(judging, policy.routers)
    return Routing.in_order(judging.prediction, answering_stage(confidence, policy.thresholds), policy.runs)


def _one_threshold(choosing: ScoreTable, judging: ScoreTable, routers: Sequence[RouterChoice], drop: float) -> Routing:
    """The cheapest threshold that loses at most the drop on the choosing rows."""
    fitted = calibrate(choosing, max_accuracy_drop=1.0, guarantee="none", routers=routers).routers
    confidence = calibrated_confidence(choosing, fitted)
    least = choosing.correct[:, -1].mean() - drop
    for threshold in np.unique(confidence[:, :-1]):
        stage = answering_stage(confidence, np.full(choosing.stages - 1, threshold))
        if np.take_along_axis(choosing.correct, stage[:, None], axis=1).mean() >= least:
            break
    stage = answering_stage(calibrated_confidence(judging, fitted), np.full(judging.stages - 1, threshold))
    return Routing.in_order(judging.prediction, stage, np.ones(judging.stages, dtype=bool))


def _committees(table: ScoreTable) -> ScoreTable:
    """The table of the means of the probabilities of all models so far; a committee costs what its last member adds."""
    scores = table.scores
    if scores is None:
        raise InputError("committees need the class probabilities of all models")
    means = np.cumsum(scores, axis=1, dtype=np.float64) / np.arange(1, table.stages + 1)[:, None]
    return ScoreTable(
        means.argmax(axis=2),
        means.max(axis=2),
        table.cost,
        table.stage,
        table.cost_unit,
        table.label,
        **{name: getattr(table, name) for name in ("curve_rows", "curve_ms", "curve_spread", "curve_cost")},
        cost_per_ms=table.cost_per_ms,
        curve_machine=table.curve_machine,
    )


def _random(choosing: ScoreTable, judging: ScoreTable, own_cost: np.ndarray, drop: float, seed: int = 0) -> Routing:
    """The cheapest mixture of two models with the accuracy asked, on the choosing rows."""
    accuracy = choosing.correct.mean(axis=0)
    least, last = float(accuracy[-1]) - drop, choosing.stages - 1
    mixtures = [(float(own_cost[last]), 1.0, last, last)]
    for low, high in combinations(range(choosing.stages), 2):
        if accuracy[low] < least <= accuracy[high]:
            share = (least - accuracy[low]) / (accuracy[high] - accuracy[low])
            mixtures.append((float((1 - share) * own_cost[low] + share * own_cost[high]), float(share), low, high))
    mixtures += [(float(own_cost[k]), 1.0, k, k) for k in range(last) if accuracy[k] >= least]
    _, share, low, high = min(mixtures)
    drawn = np.random.default_rng(seed).random(len(judging)) < share
    return Routing.one_each(judging.prediction, np.where(drawn, high, low))


def measured_ms(stages: Sequence[Stage], rows: np.ndarray, routing: Routing, call_rows: int) -> float:
    """Time per row of all models on the rows that are sent to them, ms."""
    begin = perf_counter()
    for k, stage in enumerate(stages):
        sent = np.flatnonzero(routing.runs[:, k])
        for start in range(0, len(sent), call_rows):
            stage.predict(rows[sent[start : start + call_rows]])
    return 1e3 * (perf_counter() - begin) / len(rows)


def main(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG")],
    dataset: DatasetOption = None,
    rows_file: RowsOption = None,
    scores: Annotated[
        Path | None, typer.Option(exists=True, help="Score table of these rows; by default all models run on them.")
    ] = None,
    drop: Annotated[float, typer.Option(min=0, max=1, help="Accuracy that may be lost.")] = 0.005,
    call_rows: Annotated[int, typer.Option(min=1, help="Most rows of a call of a model.")] = 64,
    timed_rows: Annotated[int, typer.Option(min=1, help="Judging rows on which the models run again.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> Found:
    """Compare ways to use the models of a cascade."""
    config = CascadeConfig.load(config_path)
    stages = load_stages(config.stages, config_path.resolve().parent, config.classes)
    rows, label = load_rows(dataset, "test", rows_file, config.classes)
    rows = check_rows(rows, config.rows)
    table = collect(stages, rows, label, batch_rows=call_rows) if scores is None else ScoreTable.load(scores)
    if label is None or table.label is None or not np.array_equal(table.label, label):
        raise InputError("needs rows with labels, and a score table with the same labels")
    first, second = halves(len(rows), 1, seed)[0]
    choosing, judging = table.take(first), table.take(second)
    found = routings(choosing, judging, check_table(table, config), drop, call_rows)
    timed = second[:timed_rows]
    times: dict[str, list[float]] = {name: [] for name in found}
    for repeat in track(range(repeats), "timed repeats", console=console):
        for name in np.random.default_rng((seed, repeat)).permutation(list(found)).tolist():
            part = Routing(found[name].runs[:timed_rows], found[name].answer[:timed_rows])
            times[name].append(measured_ms(stages, rows[timed], part, call_rows))
    biggest = np.array(times[f"{judging.stage[-1]} alone"])
    return {
        "data": {"config": config.name, "rows": len(rows), "timed_rows": len(timed), "table_sha256": table.digest},
        "methods": {name: _entry(found[name], judging, np.array(times[name]), biggest) for name in found},
    }


def _entry(routing: Routing, judging: ScoreTable, ms: np.ndarray, biggest_ms: np.ndarray) -> dict[str, Any]:
    right, n = int((routing.answer == judging.label).sum()), len(judging)
    ratio = ms / biggest_ms
    return {
        "accuracy": right / n,
        "accuracy_interval": proportion_interval(right, n, LEVEL),
        "run_share": dict(zip(judging.stage.tolist(), routing.runs.mean(axis=0).tolist(), strict=True)),
        "ms_per_row": {"median": float(np.median(ms)), "min": float(ms.min()), "max": float(ms.max())},
        "time_over_biggest": {
            "median": float(np.median(ratio)),
            "min": float(ratio.min()),
            "max": float(ratio.max()),
        },
    }


def figures(found: Found) -> Figures:
    """Accuracy, and time over that of the biggest model."""
    numbers = {}
    for name, entry in found["methods"].items():
        numbers[f"accuracy, {name}"] = Figure(entry["accuracy"])
        numbers[f"time over that of the biggest model, {name}"] = Figure(entry["time_over_biggest"]["median"])
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
