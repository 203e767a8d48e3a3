"""Are trained dynamic networks better than the same number of blocks dropped at random, or along the best fixed path?

    python -m cascade.benchmarks.experiments.networks.dynamic_quality [--only NETWORK] [--test-rows 10000]

For every network with weights in examples/dynamic: accuracy, blocks kept, floating-point operations with those of the
policy, distinct paths, measured time per row of the whole base and of the network on its executor, and, at the same
number of blocks,

- random paths: every row keeps as many blocks as the policy kept for it, but random ones;
- the best fixed path, or mixture of two, drawn independently of the image: candidates are the paths that the policy
  itself takes most often, and those that are left when blocks are deleted one by one, each time the one whose loss
  costs the least accuracy; training rows that were held out choose among them;

both on the base as it was before, if one of its depth is shipped, and on the network's own fine-tuned weights. If the
gain over the best fixed path with its own weights is below two standard errors, the choice of a path per row is worth
nothing.
"""

import copy
import math
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import SkipNetwork, skippable
from cascade.backends.networks.folding import fold_norms
from cascade.benchmarks.experiments.networks.dynamic_networks import (
    BASES,
    PICTURES,
    Rows,
    accuracy_along,
    answers_along,
    dynamic_recipes,
    greedy_deletions,
    judging_rows,
    median_ms,
    packed_copy,
    path_without,
    run_whole,
    trained,
)
from cascade.benchmarks.experiments.networks.dynamic_pictures import CLASSES, draw
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.cli.shared.console import console
from cascade.errors import ConfigError

COMMONEST = 10
BATCHES_PER_TURN = 10
PRICES = (-4.0, -2.0, -1.0, 1.0, 2.0)


def quality(
    network: DynamicNetwork, base: nn.Module | None, test: Rows, chosen_on: Rows, draws: int, seed: int
) -> dict[str, Any]:
    """Everything about one network but its times; without a base, the baselines are of its own weights alone."""
    images, label = test
    with torch.inference_mode():
        outcomes = [network.run(batch) for batch in images]
    paths = torch.cat([outcome.paths for outcome in outcomes])
    right = np.concatenate([outcome.logits.argmax(dim=1).numpy() for outcome in outcomes]) == label
    costs = PathCosts.count(network.sites, network.policy, images[0][:1])
    skipped = {"own_weights": packed_copy(network).sites}
    if base is not None:
        skipped["base"] = skippable(packed_copy(base), network.keep_first)
    always = 1 if network.keep_first else 0
    kept = always + paths.sum(dim=1).numpy()
    flops = float(costs.of(paths).mean())
    return {
        "blocks": always + paths.shape[1],
        "always_kept": always,
        "accuracy": float(right.mean()),
        "kept": {"mean": float(kept.mean()), "std": float(kept.std())},
        "paths": len({tuple(path) for path in paths.tolist()}),
        "commonest_path_share": float(np.unique(paths.numpy(), axis=0, return_counts=True)[1].max() / len(paths)),
        "mflops": {
            "mean": flops / 1e6,
            "whole_base": costs.dense / 1e6,
            "policy": costs.policy / 1e6,
            "saved_share": 1 - flops / costs.dense,
        },
        "baselines": {
            name: baselines(sites, test, chosen_on, paths, right, draws, seed) for name, sites in skipped.items()
        },
        "kept_by_class": [float(kept[label == c].mean()) for c in range(len(CLASSES))],
        "kept_share_by_block": [1.0] * always + paths.double().mean(dim=0).tolist(),
        "by_price": [at_price(network, test, price) for price in PRICES],
        "by_kept": [
            {"kept": int(k), "rows": int((kept == k).sum()), "accuracy": float(right[kept == k].mean())}
            for k in np.unique(kept)
        ],
    }


def at_price(network: DynamicNetwork, test: Rows, price: float) -> dict[str, float]:
    """Accuracy and kept blocks of the same weights at a price of a block."""
    images, label = test
    executor = Executor(network.sites, network.policy, price)
    outcomes = [executor.run(batch) for batch in images]
    answers = np.concatenate([outcome.logits.argmax(dim=1).numpy() for outcome in outcomes])
    kept = torch.cat([outcome.paths for outcome in outcomes]).sum(dim=1).double().mean()
    return {"price": price, "accuracy": float((answers == label).mean()), "kept": float(kept) + network.keep_first}


def baselines(
    network: SkipNetwork,
    test: Rows,
    chosen_on: Rows,
    paths: torch.Tensor,
    right: np.ndarray,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracy of random and of the best fixed paths with as many blocks as the policy's, and of the whole.

    The gains are those of the policy, whose answers are ``right``, over both, with the standard errors of the mean
    difference per row.
    """
    images, label = test
    generator = torch.Generator().manual_seed(seed)
    drawn = [answers_along(network, images, shuffled(paths, generator)) == label for _ in range(draws)]
    random = [float(own.mean()) for own in drawn]
    fixed = best_fixed(network, test, chosen_on, paths)
    return {
        "whole": accuracy_along(network, *test, path_without([], len(network.sites))),
        "random": {"mean": float(np.mean(random)), "std": float(np.std(random)), "draws": draws},
        "best_fixed": float(fixed.mean()),
        "gain_over_random": mean_and_error(right - np.mean(drawn, axis=0)),
        "gain_over_best_fixed": mean_and_error(right - fixed),
    }


def mean_and_error(differences: np.ndarray) -> dict[str, float]:
    """Mean and its standard error of (n,) differences."""
    return {
        "mean": float(differences.mean()),
        "standard_error": float(differences.std(ddof=1) / math.sqrt(len(differences))),
    }


def best_fixed(network: SkipNetwork, test: Rows, chosen_on: Rows, paths: torch.Tensor) -> np.ndarray:
    """The best fixed path or mixture of two that keeps as many blocks as the policy on average.

    Returns:
        (n,) probability of a right answer for each test row.
    """
    depth, mean = paths.shape[1], float(paths.sum(dim=1).double().mean())
    order = greedy_deletions(network, *chosen_on, depth - math.floor(mean))
    deleted = [path_without(order[: depth - kept], depth) for kept in (math.floor(mean), math.ceil(mean))]
    candidates = [*deleted, *commonest(paths)]
    seen = [accuracy_along(network, *chosen_on, path) for path in candidates]
    kept = [int(path.sum()) for path in candidates]

    def share(low: int, high: int) -> float:
        return (mean - kept[low]) / (kept[high] - kept[low]) if kept[high] > kept[low] else 0.0

    def mixed(pair: tuple[int, int]) -> float:
        low, high = pair
        return (1 - share(low, high)) * seen[low] + share(low, high) * seen[high]

    indices = range(len(candidates))
    low, high = max(((i, j) for i in indices for j in indices if kept[i] <= mean <= kept[j]), key=mixed)
    images, label = test
    one, other = (answers_along(network, images, candidates[i]) == label for i in (low, high))
    result: np.ndarray = (1 - share(low, high)) * one + share(low, high) * other
    return result


def commonest(paths: torch.Tensor) -> list[torch.Tensor]:
    """The paths that most rows take: (n, D) -> (D,) each."""
    distinct, counts = torch.unique(paths, dim=0, return_counts=True)
    return list(distinct[counts.argsort(descending=True)[:COMMONEST]])


def shuffled(paths: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every row keeps as many blocks, but random ones: (n, D) -> (n, D)."""
    return paths.gather(1, torch.rand(paths.shape, generator=generator).argsort(dim=1))


def times(network: DynamicNetwork, images: torch.Tensor, sizes: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds per row of the whole base, in the faster of two forms, and of the network along its paths."""
    folded: Any = fold_norms(copy.deepcopy(network))
    packed = packed_copy(network)
    executor = Executor(packed.sites, packed.policy)
    ways = {
        "folded": folded.base,
        "packed": lambda batch: run_whole(packed.sites, batch),
        "dynamic": executor.run,
    }
    found = []
    for size in sizes:
        batches = torch.split(images, size)[:repeats]
        medians = {name: taken / size for name, taken in median_ms(ways, batches, per_turn=BATCHES_PER_TURN).items()}
        whole = min(medians["folded"], medians["packed"])
        found.append(
            {
                "batch_rows": size,
                "whole_base": whole,
                "dynamic": medians["dynamic"],
                "saved_share": 1 - medians["dynamic"] / whole,
            }
        )
    return found


def main(
    only: Annotated[list[str], typer.Option(help="Recipes, without .yaml; all by default.")] = [],  # noqa: B006
    test_rows: Annotated[int, typer.Option(min=250, help="Test rows to judge on.")] = 10000,
    held_out_rows: Annotated[int, typer.Option(min=250, help="Last training rows, to choose fixed paths on.")] = 2000,
    draws: Annotated[int, typer.Option(min=2, help="Random paths for all rows.")] = 5,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Batches that are timed.")] = 40,
    seed: int = 0,
) -> Found:
    """Judge the dynamic networks of examples/dynamic."""
    torch.set_num_threads(threads)
    found = {}
    recipes = {path.stem: path for path in dynamic_recipes()}
    if unknown := set(only) - set(recipes):
        raise ConfigError(f"--only: no weights of {', '.join(sorted(unknown))}; there are {', '.join(recipes)}")
    for recipe_path in [path for stem, path in recipes.items() if not only or stem in only]:
        console.print(recipe_path.stem)
        network, recipe = trained(recipe_path)
        base_recipe = BASES.get(recipe.arguments["depth"])
        base = None if base_recipe is None else trained(base_recipe)[0]
        judged, chosen_on = judging_rows(recipe, test_rows, held_out_rows)
        found[recipe_path.stem] = quality(network, base, judged, chosen_on, draws, seed)
        found[recipe_path.stem]["time_ms"] = times(network, torch.cat(judged[0]), (1, 16, 64), repeats)
    return {"networks": found}


def figures(found: Found) -> Figures:
    """Accuracies in [0, 1], blocks, and shares saved."""
    numbers = {}
    for name, seen in found["networks"].items():
        numbers[f"{name}: accuracy"] = Figure(seen["accuracy"])
        own = seen["baselines"]["own_weights"]
        for paths, other in (("random paths", own["random"]["mean"]), ("the best fixed path", own["best_fixed"])):
            numbers[f"{name}: accuracy less that of {paths}"] = Figure(seen["accuracy"] - other, 0.0, ">=")
        for paths, key in (("random paths", "gain_over_random"), ("the best fixed path", "gain_over_best_fixed")):
            if gain := own.get(key):  # older files have none
                errors = gain["mean"] / gain["standard_error"] if gain["standard_error"] else math.nan
                numbers[f"{name}: gain over {paths}, standard errors"] = Figure(errors, 2.0, ">=")
        numbers[f"{name}: blocks kept of {seen['blocks']}, mean"] = Figure(seen["kept"]["mean"])
        numbers[f"{name}: share of operations saved"] = Figure(seen["mflops"]["saved_share"])
        numbers[f"{name}: share of time saved, batches of 64"] = Figure(seen["time_ms"][-1]["saved_share"])
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures, draw, PICTURES / "dynamic_blocks.png")
