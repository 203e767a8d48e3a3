"""What does a window cost in Haar features, where 99 % of the trousers of Fashion-MNIST must be found?

    python -m cascade.benchmarks.experiments.detection.haar_trousers

The cascade of examples/trousers: a soft cascade that may only reject, and a second stage. The recipes were chosen by
figures on the test images, so nothing here is measured on them. The rows are the last 20,000 training images, which no
training saw. An earlier version of the cascade had been calibrated on them for recalls of 97 and 98 %; the present
trace of the first stage was fixed before it was run on them. The first 17,000 calibrate and certify the cascade, as
``cascade collect --cost flops`` and ``cascade calibrate --min-recall 0.99 --positive trousers --delta 0.05`` do; the
last 3,000 evaluate its policy. What is certified is the recall of the whole cascade; that of its first stage is no
less. Features are means over all images, trousers among them; intervals are for independent images.

The traces of all families, WaldBoost's sequential test among them, are fitted to the rows of the training with the
recall of the recipe, and compared on the same 20,000 images.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cascade import CascadeConfig, check_table, collect, datasets, evaluate, load_stages
from cascade.backends.detection.haar.cascade import HaarCascade
from cascade.backends.detection.haar.grey_windows import grey_windows
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.haar.model import HaarModel
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.training_windows import training_windows
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.calibration import calibrate
from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.fitting.rejection_trace import fit_rejection_traces, mean_features

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "trousers"
HELD_OUT = 3000
MIN_RECALL, DELTA = 0.99, 0.05
SOUGHT_FEATURES = 10.0


def certified(rows: np.ndarray, is_positive: np.ndarray) -> dict[str, Any]:
    """The policy that is certified on all but the last rows, and what it does on these."""
    config = CascadeConfig.load(EXAMPLE / "config.yaml")
    stages = load_stages(config.stages, classes=config.classes)
    label = is_positive.astype(np.int64)
    table = collect(stages, rows, label, classes=config.classes, cost="flops", keep_scores=False, curve_seconds=0)
    first, held_out = np.split(np.arange(len(rows)), [len(rows) - HELD_OUT])
    routers = check_table(table, config)
    policy = calibrate(table.take(first), min_recall=MIN_RECALL, positive="trousers", delta=DELTA, routers=routers)
    evaluation = evaluate(table.take(held_out), policy)
    haar, boosted = (HaarCascade(HaarModel.load(EXAMPLE / "weights" / f"{name}.safetensors")) for name in policy.stages)
    model = haar.model
    integrals = WindowIntegrals.of_windows(grey_windows(rows[held_out], model.height, model.width))
    features = np.array(haar.evaluate(integrals).features)
    return {
        "calibration_rows": len(first),
        "policy": policy.to_dict(),
        "held_out": evaluation.to_dict(),
        "first_stage": {
            "runs": bool(policy.runs[0]),
            "features": float(features.mean()),
            "features_standard_error": float(features.std() / np.sqrt(len(features))),
            "features_of_others": float(features[~is_positive[held_out]].mean()),
        },
        "features_of_both_stages": float(features.mean() + evaluation.reached_share[1] * len(boosted.model)),
    }


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
    """Certify and evaluate the cascade, and compare the families of traces."""
    model = HaarModel.load(EXAMPLE / "weights" / "haar.safetensors")
    recipe = HaarRecipe.model_validate(model.facts["recipe"])
    train = datasets.load(recipe.dataset, "train")
    unused, is_positive = train.rows[-recipe.unused_rows :], train.labels[-recipe.unused_rows :] == recipe.positive
    cascade = certified(unused, is_positive)
    windows = training_windows(recipe, train.rows, train.labels, None)
    parts = (windows.fitting, windows.held_out, windows.certifying, grey_windows(unused, model.height, model.width))
    positive, negative, certifying, tested = (
        HaarCascade(model).partial_sums(WindowIntegrals.of_windows(part)) for part in parts
    )
    families = fit_rejection_traces(positive, negative, certifying, recipe.min_recall, recipe.delta)
    return {
        "features_of_the_model": len(model),
        "certificate_of_the_model": model.facts["certificate"],
        "cascade": cascade,
        "families": {
            each.family: judged(each.trace, tested, is_positive) | {"certificate": each.certificate}
            for each in families
        },
    }


def figures(found: Found) -> Figures:
    """On images that no training saw."""
    cascade = found["cascade"]
    first, held_out, certificate = cascade["first_stage"], cascade["held_out"], cascade["policy"]["certificate"]
    detection = held_out["detection"]
    return {
        "mean features of an image, first stage": Figure(first["features"] if first["runs"] else None, SOUGHT_FEATURES),
        "mean features of an image without trousers, first stage": Figure(first["features_of_others"]),
        "mean features of an image, both stages": Figure(cascade["features_of_both_stages"]),
        "recall of the cascade, certified lower bound": Figure(certificate["tests"][0]["bound"], MIN_RECALL, ">="),
        "recall of the cascade, held-out": Figure(detection["recall"]),
        "false-positive rate of the cascade, held-out": Figure(detection["false_positive_rate"]),
        "false-positive rate of the first stage, held-out": Figure(detection["stage_false_positive_rate"][0]),
        **{
            f"mean features, first stage with a trace of the family {name}": Figure(each["features"])
            for name, each in found["families"].items()
        },
    }


if __name__ == "__main__":
    run_experiment(main, figures)
