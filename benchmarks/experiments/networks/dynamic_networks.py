"""The trained dynamic networks of examples/dynamic, and fixed paths through them."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from cascade import datasets
from cascade.backends.code.imports import import_object
from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.site_network import SkipNetwork
from cascade.backends.files.weights import load_weights, weights_path
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.packing import pack_convolutions
from cascade.backends.training.recipe import Recipe
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model

PICTURES = ROOT / "docs" / "images"
EXAMPLE = ROOT / "examples" / "dynamic"
BASE_RECIPE = ROOT / "examples" / "cifar10" / "recipes" / "resnet32.yaml"
BASES = {32: BASE_RECIPE, 110: EXAMPLE / "recipes" / "resnet110-grown.yaml"}
"""Recipes of the networks without paths, by depth."""
BATCH_ROWS = 250
Rows = tuple[list[torch.Tensor], np.ndarray]
"""Batches of images, and labels."""


def trained(recipe_path: Path) -> tuple[Any, Recipe]:
    """The network of a recipe, of the class that it names, with its shipped weights, in evaluation mode."""
    recipe = load_yaml_model(recipe_path, Recipe, ConfigError)
    network = import_object(recipe.network)(**recipe.arguments)
    load_weights(weights_path(recipe_path), network)
    return network.eval().to(memory_format=torch.channels_last), recipe


def packed_copy(network: nn.Module) -> Any:
    """The same network with folded norms and packed convolutions."""
    return pack_convolutions(fold_norms(copy.deepcopy(network).requires_grad_(False)))


def images_of(rows: np.ndarray, recipe: Recipe) -> list[torch.Tensor]:
    """Batches of (up to 250, 3, 32, 32)."""
    batches = (rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS))
    return [cast(torch.Tensor, recipe.input.tensor(batch)) for batch in batches]


def run_whole(network: SkipNetwork, images: torch.Tensor) -> torch.Tensor:
    """Every block of every row, in place: (n, 3, h, w) -> (n, C) logits."""
    x = network.stem(images)
    for site in network.sites:
        x = site.run_all(site.alternatives - 1, x)
    return network.head(x)


def answers_along(network: SkipNetwork, batches: list[torch.Tensor], paths: torch.Tensor) -> np.ndarray:
    """(n,) top classes of rows along given paths.

    Args:
        network: D choices.
        batches: n rows in all.
        paths: (D,) int64 for all rows alike, or (n, D).
    """
    found, start = [], 0
    with torch.inference_mode():
        for images in batches:
            own = paths.expand(len(images), -1) if paths.ndim == 1 else paths[start : start + len(images)]
            columns = own.unbind(dim=1)
            found.append(network.follow(images, partial(column, columns)).argmax(dim=1).numpy())
            start += len(images)
    return np.concatenate(found)


def median_ms(
    ways: dict[str, Callable[[Any], Any]],
    batches: Sequence[Any],
    clock: Callable[[], float] = time.perf_counter,
    per_turn: int = 8,
) -> dict[str, float]:
    """Median milliseconds per batch of each way; the ways take turns, and each begins a turn with an untimed call.

    Args:
        ways: called with a batch.
        batches: of one size.
        clock: in seconds.
        per_turn: batches of a turn.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for turn in range(0, len(batches), per_turn):
            for name, run in ways.items():
                run(batches[turn])
                for batch in batches[turn : turn + per_turn]:
                    start = clock()
                    run(batch)
                    taken[name].append((clock() - start) * 1e3)
    return {name: float(np.median(values)) for name, values in taken.items()}


def column(columns: Sequence[torch.Tensor], d: int, _: torch.Tensor) -> torch.Tensor:
    """What is given for site ``d``, whatever its features."""
    return columns[d]


def accuracy_along(network: SkipNetwork, batches: list[torch.Tensor], label: np.ndarray, paths: torch.Tensor) -> float:
    """Share of right answers along given paths, in [0, 1]."""
    return float((answers_along(network, batches, paths) == label).mean())


def greedy_deletions(
    network: SkipNetwork, batches: list[torch.Tensor], label: np.ndarray, most: int | None = None
) -> list[int]:
    """Choices in the order in which they are deleted: each time those whose loss costs the least accuracy.

    One is deleted at a time; in networks of 16 and more choices, an eighth of those that are left, each judged alone.

    Args:
        network: D choices.
        batches: rows to choose on, which must not be those that judge.
        label: of these rows.
        most: number of choices to delete; all D if ``None``.
    """
    depth, order = len(network.sites), list[int]()
    most = depth if most is None else most
    while len(order) < most:
        accuracy = accuracy_without_one_more(network, batches, label, path_without(order, depth))
        together = min(max(1, len(accuracy) // 8), most - len(order))
        order += sorted(accuracy, key=lambda d: -accuracy[d])[:together]
    return order


def accuracy_without_one_more(
    network: SkipNetwork, batches: Iterable[torch.Tensor], label: np.ndarray, path: torch.Tensor
) -> dict[int, float]:
    """Accuracy along a path (D,) without each of its choices; what comes before a choice runs once for all."""
    taken, start = path.tolist(), 0
    hits = {d: 0 for d, runs in enumerate(taken) if runs}
    with torch.inference_mode():
        for images in batches:
            x, own = network.stem(images), label[start : start + len(images)]
            for d, site in enumerate(network.sites):
                if taken[d]:
                    without = site.run_all(0, x.clone())
                    for other, runs in zip(network.sites[d + 1 :], taken[d + 1 :], strict=True):
                        without = other.run_all(runs, without)
                    hits[d] += int((network.head(without).argmax(dim=1).numpy() == own).sum())
                x = site.run_all(taken[d], x)
            start += len(images)
    return {d: hit / len(label) for d, hit in hits.items()}


def judging_rows(recipe: Recipe, test_rows: int, held_out_rows: int) -> tuple[Rows, Rows]:
    """The first test rows, to judge on, and the last training rows, to choose on; CIFAR-10."""
    test, train = datasets.load("cifar10", "test"), datasets.load("cifar10", "train")
    return (
        (images_of(test.rows[:test_rows], recipe), test.labels[:test_rows]),
        (images_of(train.rows[-held_out_rows:], recipe), train.labels[-held_out_rows:]),
    )


def path_without(deleted: list[int], depth: int) -> torch.Tensor:
    """(D,) int64, the path that skips some choices."""
    path = torch.ones(depth, dtype=torch.int64)
    path[deleted] = 0
    return path


def dynamic_recipes() -> list[Path]:
    """Recipes of shipped dynamic networks."""
    return [
        recipe
        for recipe in sorted((EXAMPLE / "recipes").glob("*.yaml"))
        if (EXAMPLE / "weights" / f"{recipe.stem}.safetensors").exists() and is_dynamic(recipe)
    ]


def is_dynamic(recipe_path: Path) -> bool:
    """Whether a recipe is of a network with paths."""
    recipe = load_yaml_model(recipe_path, Recipe, ConfigError)
    return issubclass(import_object(recipe.network), DynamicNetwork)
