"""The valid points of MAPIE's risk controller: the part of ``mapie_comparison.py`` that needs MAPIE.

    python mapie_points.py questions.npz answers.json

Runs in an environment of its own, which needs nothing but MAPIE 1.6. MAPIE gets the cascade as a function of several
thresholds that returns 1 where the cascade is right; every label is 1, so that its accuracy is the cascade's.
"""

import json
import sys
import warnings
from importlib import metadata

import numpy as np
from mapie.risk_control import BinaryClassificationController

LEARNING_SHARE = 0.4


def right(rows: np.ndarray, *thresholds: float) -> np.ndarray:
    """Whether the cascade answers each row rightly: rows are confidences of K - 1 stages, then rightness of K."""
    stages = len(thresholds) + 1
    answer = rows[:, -1]
    for k in range(stages - 2, -1, -1):
        answer = np.where(rows[:, k] >= thresholds[k], rows[:, stages - 1 + k], answer)
    return np.asarray(answer, dtype=int)


def valid_points(rows: np.ndarray, target: float, delta: float, points: np.ndarray, method: str) -> np.ndarray:
    """The thresholds that MAPIE finds valid, (m, K - 1)."""
    controller = BinaryClassificationController(
        right, "accuracy", float(target), 1 - delta, list_predict_params=points, fwer_method=method
    )
    label = np.ones(len(rows), dtype=int)
    if method == "split_fixed_sequence":
        learning = int(LEARNING_SHARE * len(rows))
        controller.learn_fixed_sequence_order(rows[:learning], label[:learning], binary=True)
        rows, label = rows[learning:], label[learning:]
    controller.calibrate(rows, label)
    return np.asarray(controller.valid_predict_params, dtype=float).reshape(-1, points.shape[1])


def main(questions: str, answers: str) -> None:
    """Reads rows, points and targets; writes the valid points."""
    warnings.simplefilter("ignore")  # it warns wherever no point is valid
    asked = np.load(questions)
    names = sorted({name.split("/")[0] for name in asked.files if "/" in name})
    found = {}
    for name in names:
        rows, points = asked[f"{name}/rows"], asked[f"{name}/points"]
        target, delta = asked[f"{name}/target"], float(asked["delta"])
        for method in ("bonferroni_holm", "split_fixed_sequence"):
            found[f"{name}/{method}"] = valid_points(rows, target, delta, points, method).tolist()
    with open(answers, "w", encoding="utf-8") as file:  # noqa: PTH123 (needs no import)
        json.dump({"version": metadata.version("mapie"), "valid": found}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
