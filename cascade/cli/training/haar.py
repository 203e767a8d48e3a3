"""``cascade train`` for recipes of ``type: haar``."""

import re
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cascade.cli.shared.console import console, print_result
from cascade.errors import ConfigError

__all__ = ["is_haar_recipe", "train_haar"]


def is_haar_recipe(path: Path) -> bool:
    """Whether a recipe file has the key ``type: haar`` at its top; ``False`` if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return re.search(r"^[\"']?type[\"']?\s*:\s*[\"']?haar\b", text, re.M) is not None


def train_haar(recipe_path: Path, model_path: Path | None, as_json: bool) -> None:
    """Trains a boosted Haar cascade and writes its file.

    Args:
        recipe_path: of the recipe.
        model_path: file to write; ``weights_path`` of the recipe if not given.
        as_json: whether to print the result as JSON, without progress.

    Raises:
        InputError: the recipe or its data cannot be used.
    """
    from cascade import datasets
    from cascade.backends.detection.haar.bootstrapping import HaarTrainer, TrainingStep
    from cascade.backends.detection.haar.recipe import HaarRecipe
    from cascade.backends.detection.haar.training_windows import training_windows
    from cascade.backends.files.weights import weights_path
    from cascade.calibration.fitting.rejection_trace import fit_rejection_trace
    from cascade.files.yaml_files import load_yaml_model

    recipe = load_yaml_model(recipe_path, HaarRecipe, ConfigError)
    for name in {recipe.dataset, recipe.negatives} - {None}:
        datasets.fetch(str(name), on_note=console.print)
    rows, labels = datasets.load(recipe.dataset, "train")
    images = None if recipe.negatives is None else datasets.load(recipe.negatives, "train").rows
    windows = training_windows(recipe, rows, labels, images)
    checkpoint = datasets.cache_folder() / "training" / f"{recipe_path.stem}.checkpoint.safetensors"
    columns = (TextColumn("stage {task.fields[stage]}"), BarColumn(), TextColumn("{task.fields[learners]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=as_json) as bar:
        task = bar.add_task("train", total=sum(recipe.stages), stage="", learners="")

        def on_step(step: TrainingStep) -> None:
            learners = f"{step.learners} of {step.most} features"
            stage = f"{step.stage + 1}/{len(recipe.stages)}"
            bar.update(task, completed=step.learners, stage=stage, learners=learners)

        def on_stage(record: dict[str, Any]) -> None:
            if not as_json:
                bar.print(
                    f"stage {record['stage'] + 1}/{len(recipe.stages)}: {record['features']} features in total; "
                    f"{record['negatives']} false positives were drawn from {record['windows']} windows"
                )

        fit = partial(fit_rejection_trace, min_recall=recipe.min_recall, delta=recipe.delta)
        model = HaarTrainer(recipe, windows, fit, checkpoint, on_step, on_stage).fit()
    target = model_path or weights_path(recipe_path)
    model.save(target)
    checkpoint.unlink(missing_ok=True)
    shown: dict[str, Any] = {
        key: model.facts[key] for key in ("trace", "certificate", "families") if key in model.facts
    }
    print_result({"recipe": recipe_path.name, "features": len(model), **shown, "weights": str(target)}, as_json)
