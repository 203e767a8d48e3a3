"""Pictures of dynamic networks: the blocks that images keep, and the trainings."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cascade.benchmarks.experiments.networks.dynamic_networks import EXAMPLE
from cascade.benchmarks.harness.experiment import Found
from cascade.theme import ACCENT, MUTED, stage_colours

__all__ = ["CLASSES", "draw"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MARKERS = "osd^vPX*"


def draw(found: Found, path: Path) -> None:
    """Both pictures; that of the trainings lies beside the other."""
    draw_blocks(found["networks"], path)
    draw_curves(path.with_name("dynamic_training.png"))


def draw_blocks(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Kept blocks per class, accuracy of easy and of hard images, and use of every block."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(12, 3.4 * len(results)), layout="constrained")
    for row, (name, result) in zip(picture.subplots(len(results), 3, squeeze=False), results.items(), strict=True):
        colour = stage_colours(1)[0]
        order = np.argsort(result["kept_by_class"])
        row[0].barh([CLASSES[c] for c in order], [result["kept_by_class"][c] for c in order], color=colour)
        row[0].axvline(result["kept"]["mean"], color=MUTED.light, linewidth=1, linestyle="--")
        row[0].set_xlabel("blocks kept, mean")
        row[0].set_title(name, loc="left")
        kept = [entry["kept"] for entry in result["by_kept"]]
        rows = sum(entry["rows"] for entry in result["by_kept"])
        row[1].bar(kept, [100 * entry["rows"] / rows for entry in result["by_kept"]], color=colour)
        often = [entry for entry in result["by_kept"] if entry["rows"] >= rows / 200]
        row[1].plot(
            [entry["kept"] for entry in often],
            [100 * entry["accuracy"] for entry in often],
            color=ACCENT.light,
            marker="o",
            label="accuracy",
        )
        row[1].set_ylim(0, 100)
        row[1].set_xlabel("blocks kept")
        row[1].set_ylabel("share of images, accuracy, %")
        row[1].legend(frameon=False)
        shares = result["kept_share_by_block"]
        row[2].bar(range(1, len(shares) + 1), [100 * share for share in shares], color=colour)
        row[2].set_xlabel("block")
        row[2].set_ylabel("images that keep it, %")
        for axes in row[1:]:
            axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in picture.axes:
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, dpi=120)


def draw_curves(path: Path) -> None:
    """Accuracy and kept blocks on held-out rows over the epochs of all trainings."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(12, 3.6), layout="constrained")
    accuracy, kept = picture.subplots(1, 2)
    recipes = [file for file in sorted((EXAMPLE / "weights").glob("*.json")) if "held_out_kept" in file.read_text()]
    colours = stage_colours(max(len(recipes) // 2, 2))
    for number, file in enumerate(recipes):
        history = json.loads(file.read_text())["history"]
        epochs = [record["epoch"] + 1 for record in history]
        style: dict[str, Any] = {
            "color": colours[number % len(colours)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": "--" if file.stem.startswith("blockdrop") else "-",
        }
        accuracy.plot(epochs, [100 * r["held_out_accuracy"] for r in history], label=file.stem, **style)
        kept.plot(epochs, [r["held_out_kept"] for r in history], **style)
    accuracy.set_ylabel("held-out accuracy, %")
    kept.set_ylabel("blocks kept by choice")
    picture.legend(frameon=False, loc="outside right center")
    for axes in (accuracy, kept):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, dpi=120)
