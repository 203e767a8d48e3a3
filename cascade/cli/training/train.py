"""``cascade train``: trains the weights of a stage from a recipe: a network, or a boosted Haar cascade."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.shared.console import JsonOption, console, print_result
from cascade.cli.training.haar import is_haar_recipe, train_haar
from cascade.errors import ConfigError

__all__ = ["train"]

CHECKED_ROWS = 500


def train(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights file to write; by default weights/NAME.safetensors in the folder of RECIPE, or beside that "
            "folder if its name is 'recipes'.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0 for all.")] = 0,
    device: Annotated[str, typer.Option(help="Of a network: cpu, cuda, cuda:1.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train a network or a Haar cascade from a recipe; an interrupted run continues from its checkpoint."""
    if is_haar_recipe(recipe_path):
        if device != "cpu":
            raise ConfigError(f"a Haar cascade is trained on the processor; leave out --device {device}")
        train_haar(recipe_path, weights, as_json)
        return
    import torch

    from cascade import datasets
    from cascade.backends.files.weights import load_weights, save_weights, weights_path
    from cascade.backends.training.recipe import Recipe
    from cascade.backends.training.trainer import Trainer
    from cascade.cli.training.progress import TrainingProgress
    from cascade.cli.training.task import load_task
    from cascade.files.yaml_files import load_yaml_model

    recipe = load_yaml_model(recipe_path, Recipe, ConfigError)
    weights = weights or weights_path(recipe_path)
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = device != "cpu"  # batches have one size
    task = load_task(recipe, console.print)
    checkpoint = datasets.cache_folder() / "training" / f"{recipe_path.stem}.checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with TrainingProgress(recipe, quiet=as_json) as progress:
        pretrained = datasets.cache_folder() / "pretrained"
        on = (progress.update, progress.print_epoch)
        trainer = Trainer(recipe, task.rows, task.labels, checkpoint, pretrained, *on, device)
        trainer.fit()
    facts = {"network": recipe.network, "folded": json.dumps(recipe.fold_norms)}
    save_weights(weights, trainer.network, facts, recipe.stored_precision)
    load_weights(weights, trainer.network)  # the figures are those of the stored precision
    figures = trainer.figures(task.test_rows, task.test_labels)
    judged_on = "test" if task.has_test_rows else "held_out"
    result = {
        "recipe": recipe_path.name,
        **{f"{judged_on}_{name}": value for name, value in figures.items()},
        "checked_rows": min(CHECKED_ROWS, len(task.test_rows)),
        "checked_accuracy": trainer.accuracy(task.test_rows[:CHECKED_ROWS], task.test_labels[:CHECKED_ROWS]),
        "seconds": round(sum(record["seconds"] for record in trainer.history), 1),
        "threads": torch.get_num_threads(),
        **({} if device == "cpu" else {"device": device}),
        "history": trainer.history,
    }
    weights.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    checkpoint.unlink(missing_ok=True)
    print_result({key: value for key, value in result.items() if key != "history"} | {"weights": str(weights)}, as_json)
