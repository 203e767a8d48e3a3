"""Pictures of dynamic networks: the blocks that images keep, and the trainings."""

import json
from pathlib import Path

from cascade.benchmarks.experiments.networks.dynamic_networks import EXAMPLE
from cascade.benchmarks.harness.experiment import Found
from cascade.theme import stage_colours

__all__ = ["CLASSES", "draw"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def draw(found: Found, path: Path) -> None:
    """Both pictures; that of the trainings lies beside the other."""
    draw_blocks(found["networks"], path)
    draw_curves(path.with_name("dynamic_training.png"))


def draw_curves(path: Path) -> None:
    """Accuracy and kept blocks on held-out rows over the epochs of all trainings."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(12, 3.6), layout="constrained")
    accuracy, kept = picture.subplots(1, 2)
    recipes = [file for file in sorted((EXAMPLE / "weights").glob("*.json")) if "held_out_kept" in file.read_text()]
    for file, colour in zip(recipes, stage_colours(len(recipes)), strict=True):
        history = json.loads(file.read_text())["history"]
        epochs = [record["epoch"] + 1 for record in history]
        accuracy.plot(
            epochs, [100 * r["held_out_accuracy"] for r in history], color=colour, marker="o", label=file.stem
        )
        kept.plot(epochs, [r["held_out_kept"] for r in history], color=colour, marker="o")
    accuracy.set_ylabel("held-out accuracy, %")
    kept.set_ylabel("blocks kept by choice")
    accuracy.legend(frameon=False)
    for axes in (accuracy, kept):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, dpi=120)
