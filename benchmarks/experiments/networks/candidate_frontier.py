"""Which of all networks for CIFAR-10, adaptive and of one size, does a cheap cascade consist of?

    cascade collect examples/candidates/config.yaml --dataset cifar10 --split test --threads 1 --out pool.npz
    python -m cascade.benchmarks.experiments.networks.candidate_frontier --scores pool.npz

For several accuracies to be lost against the most expensive network, ``cascade search`` chooses networks, order and
thresholds on one half of the test rows and judges them on the other; once from all networks, once without those that
adapt their work to the row. Times are those of 64 rows together.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.backends.config import BackendConfig, DynamicConfig, EnsembleConfig
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.calibration import ScoreTable, choose_cascade
from cascade.config import CascadeConfig
from cascade.errors import CascadeError
from cascade.reports.figures.label_places import label_places, text_width

CONFIG = ROOT / "examples" / "candidates" / "config.yaml"
DROPS = (0.002, 0.005, 0.01, 0.02)
ROWS_TOGETHER = 64
NAME_SIZE = 8.5
ALL, STATIC = "all networks", "static networks"


def adapts(backend: BackendConfig) -> bool:
    """Whether a network, or a member of an ensemble, adapts its work to the row."""
    members = backend.members if isinstance(backend, EnsembleConfig) else [backend]
    return any(isinstance(member, DynamicConfig) for member in members)


def singles(table: ScoreTable, adaptive: Sequence[str]) -> dict[str, Any]:
    """Accuracy on all rows, its half width, and ms per row of each network alone."""
    if table.label is None or table.curves is None:
        raise CascadeError("the table needs labels and cost curves, as `cascade collect --dataset cifar10` writes them")
    right = table.prediction == np.asarray(table.label)[:, None]
    found = {}
    for k, (name, curve) in enumerate(zip(map(str, table.stage), table.curves, strict=True)):
        ms = float(table.work[:, k].mean()) if curve is None else float(curve.split_ms(ROWS_TOGETHER)) / ROWS_TOGETHER
        found[name] = {
            "accuracy": float(right[:, k].mean()),
            "half_width_95": float(1.96 * right[:, k].std() / np.sqrt(len(right))),
            "ms_per_row": ms,
            "adaptive": name in adaptive,
        }
    return found


def chosen(table: ScoreTable, drop: float) -> dict[str, Any]:
    """The best cascade, judged on rows that did not choose it."""
    choice = choose_cascade(table, max_accuracy_drop=drop, max_stages=4).choices[0]
    return {
        "drop": drop,
        "stages": list(choice.stages),
        "stage_share": choice.stage_share.tolist(),
        "accuracy": choice.gain,
        "accuracy_interval": list(choice.gain_interval),
        "ms_per_row": choice.mean_cost,
        "ms_interval": list(choice.mean_cost_interval),
    }


def draw(found: Found, path: Path) -> None:
    """Accuracy against time: every network alone, and the chosen cascades."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(8, 5), layout="constrained")
    panel = picture.subplots()
    for own in found["networks"].values():
        face = "white" if own["adaptive"] else "tab:gray"
        panel.plot(own["ms_per_row"], 100 * own["accuracy"], "o", color="tab:gray", markerfacecolor=face)
    for pool, style in ((ALL, "o-"), (STATIC, "s--")):
        points = found["cascades"].get(pool, [])
        panel.plot(
            [own["ms_per_row"] for own in points],
            [100 * own["accuracy"] for own in points],
            style,
            label=f"cascades of {pool}",
        )
    panel.plot([], [], "o", color="tab:gray", label="one network")
    panel.plot([], [], "o", color="tab:gray", markerfacecolor="white", label="one network that adapts to the row")
    panel.set_xscale("log")
    ticks = [0.2, 0.5, 1, 2, 5, 10, 20]
    panel.minorticks_off()
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_xlabel(f"ms per row, {ROWS_TOGETHER} rows together")
    panel.set_ylabel("accuracy, %")
    panel.legend(loc="center right")
    write_names(panel, found)
    picture.savefig(path)


def write_names(panel: Any, found: Found) -> None:
    """Writes the name of each network beside its point, where it covers neither points nor other names."""
    panel.figure.draw_without_rendering()  # places the axes
    points_per_pixel = 72 / panel.figure.dpi

    def in_points(cases: Iterable[dict[str, Any]]) -> np.ndarray:
        pixels = panel.transData.transform([(own["ms_per_row"], 100 * own["accuracy"]) for own in cases])
        return np.asarray((pixels - panel.bbox.min) * points_per_pixel)

    names, anchors = list(found["networks"]), in_points(found["networks"].values())
    taken = np.vstack([anchors, *(in_points(points) for points in found["cascades"].values())])
    widths = [text_width(name, NAME_SIZE) for name in names]
    frame = (panel.bbox.width * points_per_pixel, panel.bbox.height * points_per_pixel)
    for name, place in zip(names, label_places(anchors, widths, NAME_SIZE + 2, taken, frame), strict=True):
        panel.annotate(name, place, xycoords="axes points", fontsize=NAME_SIZE)


def main(
    scores: Annotated[Path, typer.Option(exists=True, help="Score table of examples/candidates/config.yaml.")],
) -> Iterator[Found]:
    """Search cascades for each accuracy."""
    config, table = CascadeConfig.load(CONFIG), ScoreTable.load(scores)
    adaptive = [stage.name for stage in config.stages if adapts(stage.backend)]
    pools = {ALL: table, STATIC: table.select([str(name) for name in table.stage if name not in adaptive])}
    found: Found = {"rows": len(table), "networks": singles(table, adaptive), "cascades": {}}
    for pool, own in pools.items():
        found["cascades"][pool] = []
        for drop in DROPS:
            found["cascades"][pool].append(chosen(own, drop))
            yield found


def figures(found: Found) -> Figures:
    """Times less time than the most expensive network alone, and what the adaptive networks contribute."""
    numbers: Figures = {}
    biggest = list(found["networks"].values())[-1]
    for pool, points in found["cascades"].items():
        for own in points:
            case = f"{pool}, {100 * own['drop']:g} points lost on the rows that chose"
            numbers[f"times less time, {case}"] = Figure(biggest["ms_per_row"] / own["ms_per_row"], comparison=">=")
            numbers[f"accuracy, {case}"] = Figure(own["accuracy"], comparison=">=")
    for own, other in zip(found["cascades"].get(ALL, []), found["cascades"].get(STATIC, []), strict=False):
        ratio = own["ms_per_row"] / other["ms_per_row"]
        numbers[f"time with adaptive networks over that without, {100 * own['drop']:g} points"] = Figure(ratio)
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures, draw, ROOT / "docs" / "images" / "candidates.png")
