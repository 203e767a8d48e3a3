"""How accurate are module networks on SHAPES, and what does running only a question's own modules save?

    python -m cascade.benchmarks.experiments.networks.module_networks

The network of examples/shapes, with the committed weights; test questions are in no other split. Accuracy is on the
1,024 test rows of the data set, as many as published, and on 256 more images for each of the 16 test questions. The
published network answers 90.8 % of the test rows.

Time is measured on one thread, in three ways: each batch along its own paths, grouped by module ("grouped"); every
module at every site, with the results weighted ("every alternative"); and every module once for all rows, with the
results picked ("every module once"), the fastest way found to compute everything.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from torch.nn import functional

from cascade import datasets
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.module_network import PIXEL_CHANNELS, ModuleNetwork, Modules
from cascade.backends.networks.folding import fold_norms
from cascade.benchmarks.experiments.networks.dynamic_networks import median_ms, trained
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.datasets.shapes import draw_shapes, shapes_questions, shapes_rows

RECIPE = ROOT / "examples" / "shapes" / "recipes" / "modules.yaml"
SIZES = (1, 8, 64, 256)
MORE_IMAGES, MORE_SEED = 256, 100
TURNS = 15
Way = Callable[[Any], torch.Tensor]


def every_module_once(network: ModuleNetwork, inputs: Any) -> torch.Tensor:
    """Each module that finds, once for all rows; the moves at every step; each row picks its own results."""
    base = cast(Modules, network.base)
    paths = torch.from_numpy(network.policy.paths(inputs, lambda logits: logits.argmax(-1)))
    cells = network.sites.stem(inputs)[:, PIXEL_CHANNELS]
    found = torch.stack([find(cells) for find in base.finds], dim=1)
    rows = torch.arange(len(paths))
    attention = found[rows, paths[:, 0]]
    for step in range(1, paths.shape[1] - 1):
        moved = torch.stack([attention, *(move(attention) for move in base.moves)], dim=1)
        attention = moved[rows, paths[:, step]]
    result: torch.Tensor = base.measure(torch.minimum(attention, found[rows, paths[:, -1]]))
    return result


def every_alternative(network: ModuleNetwork, inputs: Any) -> torch.Tensor:
    """Every alternative of every site, weighted by 0 or 1."""
    sites = network.sites
    paths = torch.from_numpy(network.policy.paths(inputs, lambda logits: logits.argmax(-1)))
    weights = [functional.one_hot(paths[:, d], site.alternatives).float() for d, site in enumerate(sites.sites)]
    return sites.blend(inputs, lambda d, _: weights[d])


def main(
    threads: Annotated[int, typer.Option(min=1)] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Batches of each size that are timed.")] = 100,
) -> Found:
    """Judge the network of examples/shapes."""
    torch.set_num_threads(threads)
    network, recipe = trained(RECIPE)
    fold_norms(network)
    datasets.fetch("shapes")
    test = datasets.load("shapes", "test")
    images, label, asked = draw_shapes(shapes_questions("test"), MORE_IMAGES, MORE_SEED)
    rows = shapes_rows(images, asked)
    right = {"test rows": _right(network, recipe, *test), "more images": _right(network, recipe, rows, label)}
    costs = PathCosts.count(network.sites, network.policy, recipe.input.tensor(rows[:1]))
    paths = network.run(recipe.input.tensor(rows)).paths
    executor = Executor(network.sites, network.policy)  # as in the backend
    ways: dict[str, Way] = {
        "grouped": lambda inputs: executor.run(inputs).logits,
        "every module once": partial(every_module_once, network),
        "every alternative": partial(every_alternative, network),
    }
    timed = []
    for size in SIZES:
        starts = range(0, min(len(rows), size * repeats) - size + 1, size)
        batches = [recipe.input.tensor(rows[start : start + size]) for start in starts]
        timed.append({"batch_rows": size} | median_ms(ways, batches, per_turn=1))
    return {
        "accuracy": {name: float(own.mean()) for name, own in right.items()},
        "rows": {name: len(own) for name, own in right.items()},
        "mflop": {"own modules": float(costs.of(paths).mean()) / 1e6, "every alternative": _whole(costs) / 1e6},
        "time_ms": timed,
    }


def _right(network: ModuleNetwork, recipe: Any, rows: np.ndarray, label: np.ndarray) -> np.ndarray:
    batches = [recipe.input.tensor(rows[start : start + 256]) for start in range(0, len(rows), 256)]
    with torch.inference_mode():
        answers = torch.cat([network(batch) for batch in batches]).argmax(dim=1).numpy()
    return np.asarray(answers == label)


def _whole(costs: PathCosts) -> float:
    """Operations of a row if every alternative is computed at every site."""
    return costs.fixed + float(costs.alternatives.sum())


def figures(found: Found) -> Figures:
    """Accuracy, published 90.8 %, sought 95 %; and how many times faster, sought 3."""
    accuracy, mflop = found["accuracy"], found["mflop"]
    numbers = {
        "accuracy, test rows": Figure(accuracy["test rows"], 0.95, ">="),
        "accuracy, more images of the test questions": Figure(accuracy["more images"], 0.95, ">="),
        "operations, every alternative over grouped": Figure(mflop["every alternative"] / mflop["own modules"]),
    }
    for each in found["time_ms"]:
        for way in ("every alternative", "every module once"):
            aim = 3.0 if each["batch_rows"] == 64 else None
            name = f"rows/s, grouped over {way}, batches of {each['batch_rows']}"
            numbers[name] = Figure(each[way] / each["grouped"], aim, ">=")
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
