"""What does choosing modalities segment by segment save on the IMU gestures, for a person who was not trained on?

    python -m cascade.benchmarks.experiments.networks.adamml

Ten folds, each without one of the ten persons, with the recipe of examples/gestures and its seed. In each fold four
networks are trained for the same number of epochs: the adaptive one, both modalities in every segment, and each
modality alone. With the weights of the adaptive network, its choices are compared with as many random ones, and with a
fixed choice of at most its cost for all rows, found greedily on the rows of the other persons. Cost is in operations;
that of the adaptive network includes its policy. Published, on videos: 35 to 55 % less computation than all modalities.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from cascade import datasets
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Parts
from cascade.backends.dynamic.systems.adamml import AdaMML
from cascade.backends.networks.folding import fold_norms
from cascade.backends.training.recipe import Recipe
from cascade.backends.training.trainer import Trainer
from cascade.benchmarks.experiments.networks.dynamic_networks import median_ms
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model

RECIPE = ROOT / "examples" / "gestures" / "recipes" / "adamml.yaml"
BOTH = ["accelerometer", "gyroscope"]
WAYS = {"adaptive": None, "both": BOTH, "accelerometer": BOTH[:1], "gyroscope": BOTH[1:]}
T_95 = 2.262  # of Student's distribution with 9 degrees of freedom, for 10 folds
BATCH_ROWS, BATCHES = 64, 12
WIDER = (64,)


def recipe_of(recipe: Recipe, taken: list[str] | None) -> Recipe:
    """The recipe without held-out rows; with given modalities in every segment of all phases, if there are any."""
    own = recipe.model_dump(mode="json") | {"held_out_rows": 0}
    if taken is not None:
        own["phases"] = [{"epochs": phase.epochs, "set": {"taken": taken}} for phase in recipe.phases]
        own["learning_rate_factors"] = {}  # of the policy, which has nothing to learn here
    return Recipe.model_validate(own)


def fitted(recipe: Recipe, rows: np.ndarray, labels: np.ndarray, name: str, folder: Path) -> Any:
    """The network of a training, which continues from its checkpoint in the folder."""
    checkpoint = folder / f"{name}.safetensors"
    return fold_norms(Trainer(recipe, rows, labels, checkpoint, folder).fit().network.requires_grad_(False))


def right_along(network: AdaMML, inputs: Any, labels: np.ndarray, paths: torch.Tensor) -> float:
    """Accuracy along given (n, K) or (K,) paths."""
    with torch.inference_mode():
        logits = network.sites.follow(inputs, lambda d, _: paths.expand(len(labels), -1))
    return float((logits.argmax(dim=1).numpy() == labels).mean())


def at_random(paths: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each row takes as many (segment, modality) pairs, but random ones."""
    return paths.gather(1, torch.rand(paths.shape, generator=generator).argsort(dim=1))


def best_fixed(network: AdaMML, inputs: Any, labels: np.ndarray, most: float) -> torch.Tensor:
    """(K,) the most accurate path with at most ``most`` pairs; pairs of equal work are added greedily."""
    path = torch.zeros(network.sites.sites[0].columns, dtype=torch.int64)
    for _ in range(int(most + 1e-9)):
        longer = []
        for k in (path == 0).nonzero()[:, 0]:
            longer.append(path.clone())
            longer[-1][k] = 1
        path = max(longer, key=lambda own: right_along(network, inputs, labels, own))
    return path


def fold(recipe: Recipe, arrays: dict[str, np.ndarray], person: int, folder: Path) -> dict[str, Any]:
    """Accuracies and costs on the rows of one person, of networks trained on those of the others."""
    is_test = arrays["subjects"] == person
    train, test = ([arrays[key][own] for key in ("rows", "labels")] for own in (~is_test, is_test))
    found: dict[str, Any] = {"person": person, "rows": int(is_test.sum())}
    seen, inputs = recipe.input.tensor(train[0][::8]), recipe.input.tensor(test[0])
    for way, taken in WAYS.items():
        network = fitted(recipe_of(recipe, taken), train[0], train[1], f"{way}-{person}", folder)
        network.taken = taken  # a training that was finished before sets nothing
        outcome = network.run(inputs)
        costs = PathCosts.count(network.sites, network.policy, recipe.input.tensor(test[0][:1]))
        cost = float(costs.of(outcome.paths).mean()) - (0.0 if taken is None else costs.policy)
        accuracy = float((outcome.logits.argmax(dim=1).numpy() == test[1]).mean())
        found[way] = {"accuracy": accuracy, "mflop": cost / 1e6}
        if taken is None:
            paths, adaptive = outcome.paths, network
            found["taken"] = paths.double().mean(dim=0).tolist()
    generator = torch.Generator().manual_seed(recipe.seed)
    draws = [right_along(adaptive, inputs, test[1], at_random(paths, generator)) for _ in range(5)]
    fixed = best_fixed(adaptive, seen, train[1][::8], float(paths.sum(dim=1).double().mean()))
    found["random"] = {"accuracy": float(np.mean(draws))}
    found["best fixed"] = {"accuracy": right_along(adaptive, inputs, test[1], fixed), "path": fixed.tolist()}
    return found


def processor_ms(recipe: Recipe, rows: np.ndarray, trained_network: AdaMML) -> list[dict[str, Any]]:
    """Median processor time of a batch of 64 rows, adaptive and with both modalities, and the rows' operations.

    Measured for the trained network, and for untrained ones of other widths with the trained policy, so the same paths.
    """
    order = np.random.default_rng(0).permutation(len(rows))[: BATCH_ROWS * BATCHES]
    batches = [recipe.input.tensor(rows[order[i : i + BATCH_ROWS]]) for i in range(0, len(order), BATCH_ROWS)]
    found = []
    for width in (recipe.arguments["width"], *WIDER):
        network = AdaMML(**(recipe.arguments | {"width": width})).eval().requires_grad_(False)
        network.policy.load_state_dict(trained_network.policy.state_dict())
        fold_norms(network)
        executor, sites = Executor(network.sites, network.policy), network.sites
        everything = torch.ones(BATCH_ROWS, sites.sites[0].columns, dtype=torch.int64)
        ways: dict[str, Callable[[Any], Any]] = {"adaptive": executor.run, "both": partial(_along, sites, everything)}
        costs = PathCosts.count(sites, network.policy, recipe.input.tensor(rows[:1]))
        paths = torch.cat([executor.run(batch).paths for batch in batches])
        mflop = {"adaptive": float(costs.of(paths).mean()) / 1e6, "both": costs.dense / 1e6}
        found.append({"width": width, "ms": median_ms(ways, batches, time.thread_time, per_turn=1), "mflop": mflop})
    return found


def _along(sites: SiteNetwork[Parts], paths: torch.Tensor, inputs: Any) -> torch.Tensor:
    return sites.follow(inputs, lambda d, _: paths[: len(inputs["gyroscope"])])


def main(
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the checkpoints, so that a second run only judges.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    persons: Annotated[int, typer.Option(min=2, max=10, help="Folds.")] = 10,
) -> Iterator[Found]:
    """Train and judge ten folds."""
    torch.set_num_threads(threads)
    recipe = load_yaml_model(RECIPE, Recipe, ConfigError)
    datasets.fetch("gestures")
    arrays = {
        key: np.concatenate([datasets.load_array("gestures", f"{split}_{key}") for split in ("train", "test")])
        for key in ("rows", "labels", "subjects")
    }
    with TemporaryDirectory() as temporary:
        kept = folder or Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        found: Found = {"folds": []}
        for person in np.unique(arrays["subjects"])[:persons].tolist():
            found["folds"].append(fold(recipe, arrays, person, kept))
            yield found
        others, others_labels = (arrays[key][arrays["subjects"] != person] for key in ("rows", "labels"))
        network = fitted(recipe_of(recipe, None), others, others_labels, f"adaptive-{person}", kept)
        yield found | {"batches of 64": processor_ms(recipe, others, network)}


def figures(found: Found) -> Figures:
    """Means over persons; intervals are of the paired difference, by Student's distribution."""
    folds = found["folds"]

    def of(way: str, key: str) -> np.ndarray:
        return np.array([own[way][key] for own in folds])

    def half_width(difference: np.ndarray) -> float:
        return float(T_95 * difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("nan")

    adaptive = of("adaptive", "accuracy")
    saved = 1 - of("adaptive", "mflop") / of("both", "mflop")
    numbers = {
        "operations saved against both modalities": Figure(float(saved.mean()), 0.35, ">="),
        "operations saved against both modalities, half width of the 95 % interval": Figure(half_width(saved)),
        "accuracy, adaptive": Figure(float(adaptive.mean())),
    }
    for way in ("both", "accelerometer", "gyroscope", "random", "best fixed"):
        difference = adaptive - of(way, "accuracy")
        numbers[f"accuracy, {way}"] = Figure(float(of(way, "accuracy").mean()))
        numbers[f"accuracy, adaptive less {way}"] = Figure(
            float(difference.mean()), 0.0 if way in ("both", "random", "best fixed") else None, ">="
        )
        numbers[f"accuracy, adaptive less {way}, half width of the 95 % interval"] = Figure(half_width(difference))
    for way in WAYS:
        numbers[f"MFLOP, {way}"] = Figure(float(of(way, "mflop").mean()))
    for timed in found.get("batches of 64", []):
        time_saved, work_saved = (1 - timed[key]["adaptive"] / timed[key]["both"] for key in ("ms", "mflop"))
        name = f"batches of 64, width {timed['width']}"
        numbers[f"processor time saved, {name}"] = Figure(time_saved)
        numbers[f"processor time saved over operations saved, {name}"] = Figure(time_saved / work_saved, 0.85, ">=")
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
