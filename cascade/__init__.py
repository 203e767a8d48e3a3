"""Prediction cascades: the cheapest model that is sure enough answers.

``cascade.__all__`` is what is public; docs/reference.md has a line for each name. Everything else may move between
versions. A name is loaded when it is first used, so ``import cascade`` loads neither NumPy nor PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.answers import Answers
    from cascade.backends.backend import Backend
    from cascade.backends.fake_backend import FakeBackend
    from cascade.calibration import (
        Evaluation,
        Judgement,
        OperatingPoint,
        Policy,
        PolicySet,
        ScoreTable,
        calibrate,
        calibrate_gears,
        choose_cascade,
        evaluate,
        frontier,
        judge,
    )
    from cascade.calibration.costs.arrivals import RowsAtRate, RowsTogether
    from cascade.cascade import Cascade, check_table, last_stage_policy, load_stages
    from cascade.collection.collect import collect
    from cascade.config import CascadeConfig
    from cascade.detection.detections import Detections
    from cascade.detection.detector import Detector
    from cascade.errors import (
        CascadeError,
        CheckFailed,
        ConfigError,
        DataError,
        InfeasibleTarget,
        InputError,
        ObjectiveMissed,
        PolicyError,
        RowsError,
        ScoreTableError,
        StageError,
        WeightsError,
    )
    from cascade.estimators.cascade_classifier import CascadeClassifier
    from cascade.explanation import Explanation, explain
    from cascade.prediction import Prediction
    from cascade.reports import ReportTable, write_report
    from cascade.routers import answering_stage
    from cascade.rows.labels import label_ids
    from cascade.rows.rows_file import load_rows, save_rows
    from cascade.serving.deploy.cluster import running_cascade
    from cascade.stage import Stage

__all__ = [
    "Answers",
    "Backend",
    "Cascade",
    "CascadeClassifier",
    "CascadeConfig",
    "CascadeError",
    "CheckFailed",
    "ConfigError",
    "DataError",
    "Detections",
    "Detector",
    "Evaluation",
    "Explanation",
    "FakeBackend",
    "InfeasibleTarget",
    "InputError",
    "Judgement",
    "ObjectiveMissed",
    "OperatingPoint",
    "Policy",
    "PolicyError",
    "PolicySet",
    "Prediction",
    "ReportTable",
    "RowsAtRate",
    "RowsError",
    "RowsTogether",
    "ScoreTable",
    "ScoreTableError",
    "Stage",
    "StageError",
    "WeightsError",
    "__version__",
    "answering_stage",
    "calibrate",
    "calibrate_gears",
    "check_table",
    "choose_cascade",
    "collect",
    "evaluate",
    "explain",
    "frontier",
    "judge",
    "label_ids",
    "last_stage_policy",
    "load_rows",
    "load_stages",
    "running_cascade",
    "save_rows",
    "write_report",
]

__version__ = "0.1.0"

_HOMES = {
    "Answers": "answers",
    "Backend": "backends.backend",
    "Cascade": "cascade",
    "CascadeClassifier": "estimators.cascade_classifier",
    "CascadeConfig": "config",
    "Detections": "detection.detections",
    "Detector": "detection.detector",
    "Evaluation": "calibration",
    "Explanation": "explanation",
    "FakeBackend": "backends.fake_backend",
    "Judgement": "calibration",
    "OperatingPoint": "calibration",
    "Policy": "calibration",
    "PolicySet": "calibration",
    "Prediction": "prediction",
    "ReportTable": "reports",
    "RowsAtRate": "calibration.costs.arrivals",
    "RowsTogether": "calibration.costs.arrivals",
    "ScoreTable": "calibration",
    "Stage": "stage",
    "answering_stage": "routers",
    "calibrate": "calibration",
    "calibrate_gears": "calibration",
    "check_table": "cascade",
    "choose_cascade": "calibration",
    "collect": "collection.collect",
    "evaluate": "calibration",
    "explain": "explanation",
    "frontier": "calibration",
    "judge": "calibration",
    "label_ids": "rows.labels",
    "last_stage_policy": "cascade",
    "load_rows": "rows.rows_file",
    "load_stages": "cascade",
    "running_cascade": "serving.deploy.cluster",
    "save_rows": "rows.rows_file",
    "write_report": "reports",
}
"""The module of each public name that is not an error."""


if not TYPE_CHECKING:  # a type checker would take every name to be there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(_refusal(name))
        value = getattr(import_module(f"cascade.{_HOMES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refusal(name: str) -> str:
    wanted = name.replace("_", "").lower()
    near = [public for public in __all__ if public.replace("_", "").lower() == wanted]
    hint = f"did you mean {near[0]!r}?" if near else "the public names are in cascade.__all__"
    return f"module 'cascade' has no attribute {name!r}; {hint}"
