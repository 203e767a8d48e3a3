"""The predicted and realised time in the result file of a benchmark."""

import json
from pathlib import Path
from typing import Any

from cascade.errors import InputError

__all__ = ["load_prediction"]

KEYS = {"predicted_ms", "realised_ms", "ratio", "arrivals", "warning"}


def load_prediction(path: Path) -> dict[str, Any]:
    """Predicted and realised time of a benchmark in this process.

    Returns:
        "predicted_ms", "realised_ms", "ratio", "arrivals", "warning" and "policy_version".

    Raises:
        InputError: the file is missing, or is not such a result.
    """
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))["measured"]
        prediction, version = measured["prediction"], measured["policy_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a result of 'cascade bench run --out': {error!r}") from error
    if not isinstance(prediction, dict) or prediction.keys() != KEYS:
        raise InputError(
            f"{path} has no predicted time; measure with --target in-process and a policy that has cost curves"
        )
    return {**prediction, "policy_version": version}
