"""What does conditional computation save in measured processor time, and what does it cost in accuracy?

    python -m cascade.benchmarks.experiments.networks.conditional_saving [--threads 1]

The network of examples/conditional takes any subset of the unit blocks of each layer, row by row; Fashion-MNIST, test
rows. It is compared with the dense network of the same training time, whose blocks are fused into two convolutions a
layer, the fastest way to run it; and, with its own weights, at the same number of blocks, with random subsets, with the
blocks that most held-out training rows take, and with everything on. Both have folded norms and packed convolutions.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from cascade import datasets
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.conditional import Conditional, UnitBlocks, joined
from cascade.backends.networks.packing import PackedBlock, PackedConvolutions, can_pack
from cascade.benchmarks.experiments.networks.dynamic_networks import (
    column,
    images_of,
    median_ms,
    packed_copy,
    trained,
)
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.errors import ConfigError

RECIPES = ROOT / "examples" / "conditional" / "recipes"
SIZES = (1, 64)
BATCHES_PER_TURN = 8
Way = Callable[[torch.Tensor], Any]


class Dense(nn.Module):
    """The dense network at its fastest: the blocks of a layer side by side, norms folded, convolutions packed."""

    def __init__(self, base: UnitBlocks) -> None:
        super().__init__()
        self.stem = packed_copy(nn.Sequential(base.stem))
        self.layers = nn.Sequential(*map(_side_by_side, base.layers))
        self.classify = base.classify

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, C) logits."""
        return self.classify(self.layers(self.stem(images)))


def _side_by_side(layer: nn.Module) -> PackedBlock:
    into, bias, out = joined(layer)
    first = nn.Conv2d(into.shape[1], len(into), 3, padding=1)
    second = nn.Conv2d(out.shape[1], len(out), 1, bias=False)
    first.weight, first.bias, second.weight = map(nn.Parameter, (into, bias, out))
    return PackedBlock(PackedConvolutions([(first, True), (second, False)]), nn.Identity())


def right_along(
    network: Conditional, batches: list[torch.Tensor], label: np.ndarray, paths: torch.Tensor
) -> np.ndarray:
    """(n,) whether each row is right along given (n, K) paths."""
    sites, found = network.sites, []
    with torch.inference_mode():
        for batch, own in zip(batches, torch.split(paths, [len(batch) for batch in batches]), strict=True):
            columns = sites.at_sites(own)
            found.append(sites.follow(batch, partial(column, columns)).argmax(dim=1).numpy())
    right: np.ndarray = np.concatenate(found) == label
    return right


def outcomes(network: Conditional, batches: list[torch.Tensor], label: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """(n,) whether each row is right along its own path, and (n, K) these paths."""
    seen = [network.run(batch) for batch in batches]
    return torch.cat([each.logits for each in seen]).argmax(dim=1).numpy() == label, torch.cat([o.paths for o in seen])


def as_many_at_random(paths: torch.Tensor, columns: int, generator: torch.Generator) -> torch.Tensor:
    """Each row takes as many blocks of each layer, but random ones."""
    layers = torch.split(paths, columns, dim=1)
    shuffled = [own.gather(1, torch.rand(own.shape, generator=generator).argsort(dim=1)) for own in layers]
    return torch.cat(shuffled, dim=1)


def most_taken(paths: torch.Tensor, columns: int) -> torch.Tensor:
    """(K,) the blocks that most rows take: of each layer their mean number, rounded up."""
    fixed = torch.zeros(paths.shape[1], dtype=torch.int64)
    for start in range(0, paths.shape[1], columns):
        shares = paths[:, start : start + columns].double().mean(dim=0)
        count = int(np.ceil(float(shares.sum())))
        fixed[start + shares.argsort(descending=True)[:count]] = 1
    return fixed


def times(ways: dict[str, Way], images: torch.Tensor, size: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of the thread's processor time per row, for each way, in turns.

    Processor time is what one thread computes; other processes lengthen it only by the caches that they share.
    """
    batches = torch.split(images, size)[:repeats]
    return {name: taken / size for name, taken in median_ms(ways, batches, time.thread_time, BATCHES_PER_TURN).items()}


def main(
    threads: Annotated[int, typer.Option(min=1)] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Batches of each size that are timed.")] = 150,
    held_out_rows: Annotated[int, typer.Option(min=250, help="Last training rows, to choose fixed blocks on.")] = 2000,
    seed: int = 0,
) -> Found:
    """Judge the network of examples/conditional."""
    torch.set_num_threads(threads)
    network, recipe = trained(RECIPES / "conditional.yaml")
    if not can_pack():
        raise ConfigError("packed convolutions need oneDNN; install the extra 'onednn'")
    whole, _ = trained(RECIPES / "dense.yaml")
    test, train = datasets.load("fashion_mnist", "test"), datasets.load("fashion_mnist", "train")
    batches, held_out = images_of(test.rows, recipe), images_of(train.rows[-held_out_rows:], recipe)
    label = np.asarray(test.labels)
    dense = Dense(whole.base.requires_grad_(False)).eval()
    with torch.inference_mode():
        dense_right = torch.cat([dense(batch) for batch in batches]).argmax(dim=1).numpy() == label
    right, paths = outcomes(network, batches, label)
    columns = network.sites.sites[0].columns
    _, seen = outcomes(network, held_out, train.labels[-held_out_rows:])
    fixed = most_taken(seen, columns).expand(len(paths), -1)
    chance = as_many_at_random(paths, columns, torch.Generator().manual_seed(seed))
    costs = PathCosts.count(network.sites, network.policy, batches[0][:1])
    lost = dense_right.astype(float) - right
    packed = packed_copy(network)
    ways: dict[str, Way] = {"dense": dense, "conditional": Executor(packed.sites, packed.policy).run}
    images = torch.cat(batches)
    taken = [{"batch_rows": size} | times(ways, images, size, repeats) for size in SIZES]
    return {
        "accuracy": {
            "dense": float(dense_right.mean()),
            "conditional": float(right.mean()),
            "random blocks": float(right_along(network, batches, label, chance).mean()),
            "most taken blocks": float(right_along(network, batches, label, fixed).mean()),
            "all blocks": float(right_along(network, batches, label, torch.ones_like(paths)).mean()),
        },
        "lost": float(lost.mean()),
        "lost_half_width_95": float(1.96 * lost.std() / np.sqrt(len(lost))),
        "blocks": {
            "all": paths.shape[1],
            "taken": float(paths.sum(dim=1).double().mean()),
            "fixed": int(fixed[0].sum()),
        },
        "distinct_paths": len(torch.unique(paths, dim=0)),
        "mflop": {"dense": costs.dense / 1e6, "conditional": float(costs.of(paths).mean()) / 1e6},
        "processor_time_ms": taken,
    }


def figures(found: Found) -> Figures:
    """Points lost, and how much less time; the aims are at most 0.5 points for at least half of the time."""
    mflop = found["mflop"]
    saved = 1 - mflop["conditional"] / mflop["dense"]
    numbers = {
        "accuracy, dense": Figure(found["accuracy"]["dense"]),
        "accuracy, conditional": Figure(found["accuracy"]["conditional"]),
        "accuracy lost": Figure(found["lost"], 0.005, "<="),
        "accuracy lost, half width of the 95 % interval": Figure(found["lost_half_width_95"]),
        "accuracy less that of random blocks": Figure(
            found["accuracy"]["conditional"] - found["accuracy"]["random blocks"], 0.0, ">="
        ),
        "accuracy less that of the most taken blocks": Figure(
            found["accuracy"]["conditional"] - found["accuracy"]["most taken blocks"], 0.0, ">="
        ),
        "operations, dense over conditional": Figure(mflop["dense"] / mflop["conditional"]),
    }
    for each in found["processor_time_ms"]:
        size = each["batch_rows"]
        numbers[f"processor time, dense over conditional, batches of {size}"] = Figure(
            each["dense"] / each["conditional"], 2.0, ">="
        )
        realised = (1 - each["conditional"] / each["dense"]) / saved
        numbers[f"processor time saved over operations saved, batches of {size}"] = Figure(
            realised, 0.85 if size > 1 else None, ">="
        )
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
