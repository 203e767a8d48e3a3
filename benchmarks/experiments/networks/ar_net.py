"""What does choosing a resolution for each frame save on clips, against full resolution in all frames?

    python -m cascade.benchmarks.experiments.networks.ar_net

The shipped network of examples/clips on the test clips. With its own weights, its choices are compared with one size in
all frames; with as many choices of each kind in random frames; and with the best pattern that is the same for all
clips, of at most its operations, those of the policy included. Held-out training clips choose the pattern, among one
size in evenly spaced frames, and what grows from nothing by the frame or the larger size that lowers the cross-entropy
most for its operations. Full resolution is also judged with weights of its own: those of the adaptive network,
fine-tuned with all frames at the largest size for as many epochs as the last phase has. Intervals are of paired
differences over clips, for these weights. Published, on videos of ActivityNet: 33.5 GFLOP and 73.8 mAP, against 72.5 at
full resolution.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from torch.nn import functional

from cascade import datasets
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Parts
from cascade.backends.dynamic.systems.ar_net import ARNet
from cascade.backends.dynamic.systems.frames import SKIPS, Look
from cascade.backends.files.weights import weights_path
from cascade.backends.networks.folding import fold_norms
from cascade.backends.training.recipe import Recipe
from cascade.backends.training.trainer import Trainer
from cascade.benchmarks.experiments.networks.dynamic_networks import images_of, median_ms, trained
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT

RECIPE = ROOT / "examples" / "clips" / "recipes" / "ar_net.yaml"
DRAWS = 5
TIMED = {1: 64, 8: 32, 64: 8}  # rows of a batch, and number of batches


def frame_table(network: ARNet, batches: list[torch.Tensor]) -> torch.Tensor:
    """(n, T, A, C + 1) what each alternative contributes in each frame: logits and a count, or zeros."""
    look = cast(Look, network.sites.sites[0].inner)
    with torch.inference_mode():
        tables = []
        for batch in batches:
            frames = network.film(batch)
            seen = [look.run(a, frames.flatten(0, 1)) for a in range(look.alternatives)]
            tables.append(torch.stack(seen, dim=1).view(*frames.shape[:2], len(seen), -1))
    return torch.cat(tables)


def logits_along(table: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """(n, C) mean logits along (n, T) or (T,) paths."""
    n, parts, _, width = table.shape
    own = paths.expand(n, parts)[..., None, None].expand(-1, -1, 1, width)
    total = table.gather(2, own).sum(dim=(1, 2))
    return total[:, :-1] / total[:, -1:].clamp_min(1.0)


def right_along(table: torch.Tensor, label: np.ndarray, paths: torch.Tensor) -> np.ndarray:
    """(n,) bool, which answers are right along paths."""
    return np.asarray(logits_along(table, paths).argmax(dim=1).numpy() == label)


def evenly(parts: int, works: list[float], most: float) -> Iterator[torch.Tensor]:
    """(T,) paths with one alternative in evenly spaced frames, of at most some work."""
    for alternative in range(len(SKIPS), len(works)):
        for count in range(1, parts + 1):
            if count * works[alternative] <= most:
                path = torch.zeros(parts, dtype=torch.int64)
                path[((torch.arange(count) + 0.5) * parts / count).long()] = alternative
                yield path


def grown(table: torch.Tensor, label: torch.Tensor, works: list[float], most: float) -> Iterator[torch.Tensor]:
    """(T,) paths, each the one before with a frame more, or a frame larger: the best gain for its work."""
    path = torch.zeros(table.shape[1], dtype=torch.int64)
    loss, spent = _loss(table, label, path), 0.0
    while True:
        found = []
        for t in range(len(path)):
            for alternative in range(max(len(SKIPS), int(path[t]) + 1), len(works)):
                more = works[alternative] - works[int(path[t])]
                if spent + more <= most:
                    longer = path.clone()
                    longer[t] = alternative
                    found.append(((loss - _loss(table, label, longer)) / more, more, longer))
        if not found:
            return
        gain, more, path = max(found, key=lambda own: own[0])
        loss, spent = loss - gain * more, spent + more
        yield path


def best_fixed(table: torch.Tensor, label: np.ndarray, works: list[float], most: float) -> torch.Tensor:
    """(T,) the path with the lowest cross-entropy on these rows, of at most some work."""
    labels = torch.from_numpy(label)
    candidates = [*evenly(table.shape[1], works, most), *grown(table, labels, works, most)]
    return min(candidates, key=lambda path: _loss(table, labels, path))


def full_recipe(recipe: Recipe) -> Recipe:
    """From the shipped weights, as many epochs as in the last phase, with all frames at the largest size."""
    own = recipe.model_dump(mode="json")
    own["start_from"] = str(weights_path(RECIPE))
    own["phases"] = [{"epochs": recipe.phases[-1].epochs, "set": {"taken": ARNet().sizes[-1]}}]
    return Recipe.model_validate(own)


def full_resolution(recipe: Recipe, folder: Path) -> ARNet:
    """The network of :func:`full_recipe`; its training continues from a checkpoint in the folder."""
    rows, labels = datasets.load("clips", "train")
    trainer = Trainer(full_recipe(recipe), rows, labels, folder / "full.safetensors", folder).fit()
    network = cast(ARNet, trainer.network)
    network.taken = network.sizes[-1]  # a training that was finished before sets nothing
    return network


def answers_of(network: ARNet, batches: list[torch.Tensor]) -> tuple[np.ndarray, torch.Tensor]:
    """(n,) classes and (n, T) paths."""
    outcomes = [network.run(batch) for batch in batches]
    logits, paths = (torch.cat([getattr(own, name) for own in outcomes]) for name in ("logits", "paths"))
    return logits.argmax(dim=1).numpy(), paths


def judged(
    network: ARNet, recipe: Recipe, test: datasets.Split, held_out: datasets.Split
) -> tuple[dict[str, np.ndarray], Found]:
    """(n,) shares of right answers of each way for each clip, and its operations."""
    batches = images_of(test.rows, recipe)
    costs = PathCosts.count(network.sites, network.policy, batches[0][:1])
    answers, paths = answers_of(network, batches)
    works = costs.alternatives[0].tolist()
    table = frame_table(network, batches)
    mean = float(costs.of(paths).mean())
    generator = torch.Generator().manual_seed(recipe.seed)
    shuffled = [paths.gather(1, torch.rand(paths.shape, generator=generator).argsort(dim=1)) for _ in range(DRAWS)]
    fixed = best_fixed(frame_table(network, images_of(held_out.rows, recipe)), held_out.labels, works, mean)
    right = {
        "adaptive": answers == test.labels,
        "random": np.mean([right_along(table, test.labels, own) for own in shuffled], axis=0),
        "best fixed": right_along(table, test.labels, fixed),
    }
    mflop = {"adaptive": mean / 1e6, "best fixed": sum(works[a] for a in fixed.tolist()) / 1e6}
    for k, size in enumerate(network.sizes):
        alone = torch.full((network.film.frames,), len(SKIPS) + k)
        right[f"{size} pixels"] = right_along(table, test.labels, alone)
        mflop[f"{size} pixels"] = network.film.frames * works[len(SKIPS) + k] / 1e6
    usage = torch.bincount(paths.flatten(), minlength=len(works)).double() / paths.numel()
    return right, {
        "mflop": mflop,
        "policy_mflop": costs.policy / 1e6,
        "usage": usage.tolist(),
        "distinct_paths": len(torch.unique(paths, dim=0)),
        "best_fixed_path": fixed.tolist(),
    }


def compared(right: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Accuracy of each way, and of the adaptive one less it, with the half width of the 95 % interval over clips."""
    found = {}
    for way, own in right.items():
        less = right["adaptive"].astype(float) - own
        half_width = 1.96 * less.std(ddof=1) / np.sqrt(len(less))
        found[way] = {"mean": float(own.mean()), "adaptive less": float(less.mean()), "half width": float(half_width)}
    return found


def processor_ms(network: ARNet, recipe: Recipe, rows: np.ndarray) -> dict[str, Any]:
    """Median processor time per batch, adaptive and with all frames at the largest size, and the rows' operations."""
    fold_norms(network)
    executor, sites = Executor(network.sites, network.policy), network.sites
    costs = PathCosts.count(sites, network.policy, images_of(rows[:1], recipe)[0])
    found = {}
    for size, count in TIMED.items():
        starts = range(0, min(size * count, len(rows) // size * size), size)
        batches = [images_of(rows[start : start + size], recipe)[0] for start in starts]
        everything = torch.full((size, sites.sites[0].columns), sites.sites[0].alternatives - 1)
        ways: dict[str, Callable[[Any], Any]] = {"adaptive": executor.run, "full": partial(_along, sites, everything)}
        paths = torch.cat([executor.run(batch).paths for batch in batches])
        mflop = {"adaptive": float(costs.of(paths).mean()) / 1e6, "full": costs.dense / 1e6}
        found[str(size)] = {"ms": median_ms(ways, batches, time.thread_time, per_turn=1), "mflop": mflop}
    return found


def main(
    folder: Annotated[Path | None, typer.Option(help="Keeps the checkpoint of full resolution.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    test_rows: Annotated[int, typer.Option(min=64, help="Test clips to judge on.")] = 2000,
) -> Iterator[Found]:
    """Judge the shipped network, and train full resolution to compare with."""
    torch.set_num_threads(threads)
    network, recipe = trained(RECIPE)
    datasets.fetch("clips")
    train, test = datasets.load("clips", "train"), datasets.load("clips", "test")
    test = datasets.Split(test.rows[:test_rows], test.labels[:test_rows])
    held_out = datasets.Split(*(own[-recipe.held_out_rows :].copy() for own in train))
    del train
    right, found = judged(network, recipe, test, held_out)
    found["accuracy"] = compared(right)
    yield found
    found["batches"] = processor_ms(network, recipe, test.rows)
    yield found
    with TemporaryDirectory() as temporary:
        kept = folder or Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        answers, _ = answers_of(full_resolution(recipe, kept), images_of(test.rows, recipe))
    found["accuracy"] = compared(right | {"full resolution": answers == test.labels})
    yield found


def figures(found: Found) -> Figures:
    """Accuracies, paired differences with half widths of their 95 % intervals, operations and time."""
    accuracy, mflop = found["accuracy"], found["mflop"]
    full = max((way for way in accuracy if way.endswith("pixels")), key=lambda way: mflop[way])
    saved = 1 - mflop["adaptive"] / mflop[full]
    numbers = {"operations saved against full resolution": Figure(saved, 0.5, ">=")}
    for way, own in accuracy.items():
        numbers[f"accuracy, {way}"] = Figure(own["mean"])
    for way, own in accuracy.items():
        if way != "adaptive":
            sought = 0.0 if way in (full, "full resolution", "random", "best fixed") else None
            name = f"accuracy, adaptive less {way}"
            numbers[name] = Figure(own["adaptive less"], sought, ">=")
            numbers[f"{name}, half width of the 95 % interval"] = Figure(own["half width"])
    for way, own_mflop in mflop.items():
        numbers[f"MFLOP, {way}"] = Figure(own_mflop)
    numbers["MFLOP, policy"] = Figure(found["policy_mflop"])
    for size, timed in found.get("batches", {}).items():
        time_saved, work_saved = (1 - timed[key]["adaptive"] / timed[key]["full"] for key in ("ms", "mflop"))
        numbers[f"processor time saved, batches of {size}"] = Figure(time_saved)
        numbers[f"processor time saved over operations saved, batches of {size}"] = Figure(
            time_saved / work_saved, 0.85 if size == "64" else None, ">="
        )
    return numbers


def _along(sites: SiteNetwork[Parts], paths: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return sites.follow(batch, lambda d, _: paths)


def _loss(table: torch.Tensor, label: torch.Tensor, paths: torch.Tensor) -> float:
    return float(functional.cross_entropy(logits_along(table, paths), label))


if __name__ == "__main__":
    run_experiment(main, figures)
