"""What does a window cost in Haar features, where 99 % of the trousers of Fashion-MNIST must be found?

    python -m cascade.benchmarks.experiments.networks.haar_trousers

The model is the soft cascade of examples/trousers. Its rejection trace was certified by ``cascade train`` on
trousers that neither the weak learners nor the trace were fitted to; here it is judged on the 10,000 test images,
which no training saw. The traces of all families, WaldBoost's sequential test among them, are fitted again to the
same rows with the same certified recall. Features are means over all images, trousers among them; intervals are for
independent images.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cascade import datasets
from cascade.backends.detection.haar.cascade import HaarCascade
from cascade.backends.detection.haar.grey_windows import grey_windows
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.haar.model import HaarModel
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.training_windows import training_windows
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.fitting.rejection_trace import fit_rejection_traces, mean_features

MODEL = Path(__file__).resolve().parents[3] / "examples" / "trousers" / "weights" / "haar.safetensors"
SOUGHT_FEATURES = 10.0


def judged(trace: np.ndarray, sums: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """Recall, false positives and features of a trace on labelled rows."""
    survives = np.asarray((sums >= trace).all(axis=1))
    hits, wrong, others = int(survives[positive].sum()), int(survives[~positive].sum()), int((~positive).sum())
    return {
        "recall": hits / int(positive.sum()),
        "recall_interval": exact_interval(hits, int(positive.sum()), 0.025),
        "false_positive_rate": wrong / others,
        "false_positive_interval": exact_interval(wrong, others, 0.025),
        "features": mean_features(trace, sums),
        "features_of_others": mean_features(trace, sums[~positive]),
    }


def main() -> Found:
    """Judge the shipped model and the families of traces."""
    model = HaarModel.load(MODEL)
    recipe = HaarRecipe.model_validate(model.facts["recipe"])
    train, test = datasets.load(recipe.dataset, "train"), datasets.load(recipe.dataset, "test")
    cascade = HaarCascade(model)
    windows = training_windows(recipe, train.rows, train.labels, None)
    parts = (windows.fitting, windows.held_out, windows.certifying, grey_windows(test.rows, model.height, model.width))
    positive, negative, certifying, tested = (cascade.partial_sums(WindowIntegrals.of_windows(part)) for part in parts)
    is_positive = test.labels == recipe.positive
    families = fit_rejection_traces(positive, negative, certifying, recipe.min_recall, recipe.delta)
    count = np.array(cascade.evaluate(WindowIntegrals.of_windows(parts[3])).features)
    return {
        "features_of_the_model": len(model),
        "test_rows": len(test.rows),
        "test_positives": int(is_positive.sum()),
        "certificate": model.facts["certificate"],
        "shipped": judged(model.trace, tested, is_positive)
        | {"family": model.facts["trace"], "features_standard_error": float(count.std() / np.sqrt(len(count)))},
        "families": {
            each.family: judged(each.trace, tested, is_positive) | {"certificate": each.certificate}
            for each in families
        },
    }


def figures(found: Found) -> Figures:
    """On test images."""
    shipped, certificate = found["shipped"], found["certificate"]
    return {
        "mean features of an image": Figure(shipped["features"], SOUGHT_FEATURES),
        "mean features of an image without trousers": Figure(shipped["features_of_others"]),
        "recall that is certified, at least": Figure(certificate["min_recall"], 0.99, ">="),
        "recall on test images": Figure(shipped["recall"]),
        "false-positive rate on test images": Figure(shipped["false_positive_rate"]),
        **{
            f"mean features, trace of the family {name} at the same certified recall": Figure(each["features"])
            for name, each in found["families"].items()
        },
    }


if __name__ == "__main__":
    run_experiment(main, figures)
