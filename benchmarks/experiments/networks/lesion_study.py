"""How much accuracy does a residual network lose without single blocks, many blocks, or in another order?

    python -m cascade.benchmarks.experiments.networks.lesion_study [--recipe RECIPE] [--test-rows 10000] [--draws 20]

After Veit, Wilber, Belongie, "Residual networks behave like ensembles of relatively shallow networks", NIPS 2016,
sections 4.1 to 4.3, https://arxiv.org/abs/1605.06431. The network is a ResNet with shipped weights, or the base of a
dynamic network; by default the ResNet-32 of examples/cifar10.

1. Every single block is deleted.
2. k random blocks are deleted, for k up to --most; and k blocks chosen on held-out training rows, see
   ``greedy_deletions``.
3. k random pairs of blocks of equal shape are exchanged.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.site_network import SkipNetwork, skippable
from cascade.benchmarks.experiments.networks.dynamic_networks import (
    BASE_RECIPE,
    PICTURES,
    Rows,
    accuracy_along,
    accuracy_without_one_more,
    greedy_deletions,
    judging_rows,
    packed_copy,
    path_without,
    trained,
)
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.simulation import moments
from cascade.cli.shared.console import console
from cascade.theme import ACCENT, MUTED, stage_colours

SWAPS = (1, 2, 4, 8, 16)


def single_deletions(network: SkipNetwork, test: Rows) -> list[float]:
    """Accuracy without each block."""
    (images, label), whole = test, path_without([], len(network.sites))
    found = accuracy_without_one_more(network, track(images, "single blocks", console=console), label, whole)
    return [found[d] for d in range(len(network.sites))]


def random_deletions(network: SkipNetwork, test: Rows, most: int, draws: int, seed: int) -> list[dict[str, Any]]:
    """Accuracy without k random blocks, for k from 1 to ``most``."""
    depth, random, found = len(network.sites), np.random.default_rng(seed), []
    for k in track(range(1, most + 1), "random blocks", console=console):
        deleted = [random.choice(depth, k, replace=False).tolist() for _ in range(draws)]
        found.append(
            {"deleted": k} | moments([accuracy_along(network, *test, path_without(d, depth)) for d in deleted])
        )
    return found


def permutations(network: SkipNetwork, test: Rows, draws: int, seed: int) -> list[dict[str, Any]]:
    """Accuracy after k random exchanges of two blocks of equal shape."""
    random, found = np.random.default_rng(seed), []
    whole = torch.ones(len(network.sites), dtype=torch.int64)
    for k in track(SWAPS, "exchanges", console=console):
        accuracies, distances = [], []
        for _ in range(draws):
            order = exchanged(network, k, random)
            other = SkipNetwork(network.stem, tuple(network.sites[d] for d in order), network.head)
            accuracies.append(accuracy_along(other, *test, whole))
            distances.append(kendall_distance(order))
        found.append({"exchanges": k, "kendall_distance": float(np.mean(distances))} | moments(accuracies))
    return found


def exchanged(network: SkipNetwork, exchanges: int, random: np.random.Generator) -> list[int]:
    """An order of the blocks after random exchanges inside groups of equal shape."""
    order = list(range(len(network.sites)))
    for _ in range(exchanges):
        group = random.choice(sorted({network.sites[d].channels for d in order}))
        inside = [d for d, c in enumerate(network.sites) if c.channels == group and c.is_identity(0)]
        a, b = random.choice(inside, 2, replace=False)
        order[a], order[b] = order[b], order[a]
    return order


def kendall_distance(order: list[int]) -> float:
    """Share of pairs that are in another order, in [0, 1]."""
    n = len(order)
    return sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n)) / (n * (n - 1) / 2)


def draw(found: Found, path: Path) -> None:
    """Draws the three parts side by side."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(12, 3.6), layout="constrained")
    single, many, order = picture.subplots(1, 3, sharey=True)
    whole = 100 * found["whole"]
    colours = dict(zip((16, 32, 64), stage_colours(3), strict=True))
    for d, (accuracy, channels) in enumerate(zip(found["single_deletions"], found["channels"], strict=True)):
        single.bar(d + 1, 100 * accuracy, color=colours[channels], width=0.8)
    single.set_xticks(range(1, len(found["channels"]) + 1, max(2, len(found["channels"]) // 8)))
    single.set_xlabel("block that is deleted")
    single.set_ylabel("accuracy, %")
    rows = found["random_deletions"]
    k, mean, std = (np.array([row[key] for row in rows]) for key in ("deleted", "mean", "std"))
    many.plot(k, 100 * mean, color=stage_colours(1)[0], marker="o", label="random")
    many.fill_between(k, 100 * (mean - std), 100 * (mean + std), color=stage_colours(1)[0], alpha=0.2, linewidth=0)
    greedy = found["greedy_deletions"]
    many.plot(
        range(1, len(greedy["accuracy"]) + 1),
        [100 * a for a in greedy["accuracy"]],
        color=ACCENT.light,
        marker="s",
        label="chosen on held-out rows",
    )
    many.set_xlabel("blocks that are deleted")
    many.legend(frameon=False)
    rows = found["permutations"]
    order.errorbar(
        [row["exchanges"] for row in rows],
        [100 * row["mean"] for row in rows],
        [100 * row["std"] for row in rows],
        color=stage_colours(1)[0],
        marker="o",
    )
    order.set_xscale("log", base=2)
    order.set_xticks(SWAPS, [str(k) for k in SWAPS])
    order.set_xlabel("exchanges of two blocks of equal shape")
    for axes in (single, many, order):
        axes.axhline(whole, color=MUTED.light, linewidth=1, linestyle="--")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 100)
    picture.savefig(path, dpi=120)


def main(
    recipe: Annotated[Path, typer.Option(help="Recipe of the network, whose weights are shipped.")] = BASE_RECIPE,
    test_rows: Annotated[int, typer.Option(min=250, help="Test rows to judge on.")] = 10000,
    draw_rows: Annotated[int, typer.Option(min=250, help="Of these, rows for what is drawn at random.")] = 2000,
    held_out_rows: Annotated[int, typer.Option(min=250, help="Last training rows, to choose on.")] = 2000,
    most: Annotated[int, typer.Option(min=1, help="Blocks that are deleted together, at most.")] = 20,
    draws: Annotated[int, typer.Option(min=2, help="Random deletions and orders of each size.")] = 20,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    seed: int = 0,
) -> Found:
    """Delete and exchange the blocks of a trained residual network."""
    torch.set_num_threads(threads)
    own, settings = trained(recipe)
    network = packed_copy(own)
    sites = network.sites if isinstance(network, DynamicNetwork) else skippable(network)
    depth = len(sites.sites)
    most = min(most, depth - 1)
    judged, chosen_on = judging_rows(settings, test_rows, held_out_rows)
    drawn, _ = judging_rows(settings, draw_rows, held_out_rows)
    order = greedy_deletions(sites, *chosen_on, most)
    return {
        "network": recipe.stem,
        "channels": [site.channels for site in sites.sites],
        "whole": accuracy_along(sites, *judged, path_without([], depth)),
        "single_deletions": single_deletions(sites, judged),
        "random_deletions": random_deletions(sites, drawn, most, draws, seed),
        "greedy_deletions": {
            "order": [d + 1 for d in order],
            "accuracy": [accuracy_along(sites, *judged, path_without(order[:k], depth)) for k in range(1, most + 1)],
        },
        "permutations": permutations(sites, drawn, draws, seed),
    }


def figures(found: Found) -> Figures:
    """Accuracies, in [0, 1]."""
    single = found["single_deletions"]
    return {
        "accuracy of the whole network": Figure(found["whole"]),
        "accuracy without one block, highest": Figure(max(single)),
        "accuracy without one block, median": Figure(float(np.median(single))),
        "accuracy without one block, least": Figure(min(single)),
    }


if __name__ == "__main__":
    run_experiment(main, figures, draw, PICTURES / "lesion_study.png")
