"""What do static networks of one size reach on CIFAR-10, beside which every adaptive system stands?

    python -m cascade.benchmarks.experiments.networks.static_networks

Accuracy on all test rows, operations per row, and processor time per row of one thread, for ResNets, Big-Little Net,
and MobileNetV2 at several resolutions. Norms are folded; the time is the better of plain PyTorch and packed
convolutions. The networks take turns. MobileNetV2 has one set of weights for all its resolutions, and is left out until
it is trained (``cascade train examples/cifar10/recipes/mobilenet.yaml``).
"""

import time
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cascade import datasets
from cascade.backends.code.imports import import_object
from cascade.backends.files.weights import load_weights, weights_path
from cascade.backends.networks.folding import fold_norms
from cascade.backends.training.recipe import Recipe
from cascade.benchmarks.experiments.networks.dynamic_networks import BASE_RECIPE, images_of, median_ms, packed_copy
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model

RECIPES = BASE_RECIPE.parent
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("tiny", {}),
    "resnet8": ("resnet8", {}),
    "resnet32": ("resnet32", {}),
    "big-little": ("big-little", {}),
    "mobilenet 64": ("mobilenet", {"resolution": 64}),
    "mobilenet 96": ("mobilenet", {"resolution": 96}),
    "mobilenet 128": ("mobilenet", {"resolution": 128}),
}
"""Recipe, and attributes of the network to set."""
REFERENCE = "resnet32"
SIZES = (1, 64)
BATCHES_PER_TURN = 4


def network_of(name: str) -> tuple[nn.Module, Recipe]:
    """A network with folded norms, in evaluation mode, and its recipe."""
    stem, attributes = NETWORKS[name]
    path = RECIPES / f"{stem}.yaml"
    recipe = load_yaml_model(path, Recipe, ConfigError)
    network: nn.Module = import_object(recipe.network)(**recipe.arguments)
    if recipe.fold_norms:
        fold_norms(network)
    load_weights(weights_path(path), network)
    for key, value in (recipe.final | attributes).items():
        setattr(network, key, value)
    network = fold_norms(network.eval()).requires_grad_(False)
    return network.to(memory_format=torch.channels_last), recipe  # type: ignore[call-overload]


def is_trained(name: str) -> bool:
    """Whether the network has weights here."""
    return (RECIPES.parent / "weights" / f"{NETWORKS[name][0]}.safetensors").exists()


def operations(network: nn.Module, image: torch.Tensor) -> float:
    """Floating-point operations of (1, ...) images."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    return float(counter.get_total_flops())


def main(
    threads: Annotated[int, typer.Option(min=1)] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Batches of each size that are timed.")] = 40,
    test_rows: Annotated[int, typer.Option(min=64)] = 10_000,
) -> Found:
    """Judge the static networks of examples/cifar10."""
    torch.set_num_threads(threads)
    test = datasets.load("cifar10", "test")
    rows, label = test.rows[:test_rows], np.asarray(test.labels[:test_rows])
    found: dict[str, Any] = {}
    ways: dict[str, Any] = {}
    for name in filter(is_trained, NETWORKS):
        network, recipe = network_of(name)
        batches = images_of(rows, recipe)
        packed = packed_copy(network)
        with torch.inference_mode():
            right = torch.cat([packed(batch) for batch in batches]).argmax(dim=1).numpy() == label
        found[name] = {
            "accuracy": float(right.mean()),
            "half_width_95": float(1.96 * right.std() / np.sqrt(len(right))),
            "mflop": operations(network, batches[0][:1]) / 1e6,
        }
        ways |= {f"{name}, plain": network, f"{name}, packed": packed}
    images = torch.randn(repeats * max(SIZES), 3, 32, 32).contiguous(memory_format=torch.channels_last)
    for size in SIZES:
        taken = median_ms(ways, torch.split(images, size)[:repeats], time.thread_time, BATCHES_PER_TURN)
        for name, own in found.items():
            own[f"processor_time_ms, batches of {size}"] = min(taken[f"{name}, plain"], taken[f"{name}, packed"]) / size
    return {"networks": found}


def figures(found: Found) -> Figures:
    """Big-Little Net against the ResNet-32: at least 30 % fewer operations and 20 % less time at 91.1 % or more."""
    networks = found["networks"]
    numbers: Figures = {}
    for name, own in networks.items():
        aim = (0.911, ">=") if name == "big-little" else (None, ">=")
        numbers[f"{name}: accuracy"] = Figure(own["accuracy"], *aim)
        numbers[f"{name}: MFLOP"] = Figure(own["mflop"])
        for size in SIZES:
            key = f"processor_time_ms, batches of {size}"
            numbers[f"{name}: processor time, ms per row, batches of {size}"] = Figure(own[key])
    own, base = networks["big-little"], networks[REFERENCE]
    fewer = 1 - own["mflop"] / base["mflop"]
    numbers["big-little: share of operations saved"] = Figure(fewer, 0.3, ">=")
    for size in SIZES:
        key = f"processor_time_ms, batches of {size}"
        less = 1 - own[key] / base[key]
        numbers[f"big-little: share of time saved, batches of {size}"] = Figure(less, 0.2, ">=")
        numbers[f"big-little: time saved over operations saved, batches of {size}"] = Figure(
            less / fewer, 0.85 if size > 1 else None, ">="
        )
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
