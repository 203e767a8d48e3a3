"""The score table: what every stage said on every row of a set, collected once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration.npz import load_arrays
from cascade.errors import ScoreTableError

__all__ = ["ScoreTable"]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """What K stages said on n rows.

    Attributes:
        prediction: (n, K) int >= 0, the class that each stage answers.
        confidence: (n, K) float in [0, 1], how sure each stage was, before calibration.
        cost: (K,) or (n, K) float >= 0, cost of running a stage on a row.
        stage: (K,) str, names of the stages, cheapest first.
        cost_unit: unit of ``cost``, such as "ms" (measured time) or "MFLOP".
        label: (n,) int >= 0, the right classes; ``None`` if they are not known.
        scores: (n, K, C) float in [0, 1], class probabilities; ``None`` if they were not kept.
        model: (K,) str, digest of each stage's model; ``None`` if it is not known.
        cost_per_mflop: (K,) float >= 0, above 0 for the stages whose models count the operations of every row: their
            ``cost`` is this times millions of operations; ``None`` if there are none.
        classes: (C,) str, different names of the classes 0 to C - 1; ``None`` where numbers suffice.

    Raises:
        ScoreTableError: the arrays contradict each other; the text lists every problem.
    """

    prediction: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray
    stage: np.ndarray
    cost_unit: str = "ms"
    label: np.ndarray | None = None
    scores: np.ndarray | None = None
    model: np.ndarray | None = None
    cost_per_mflop: np.ndarray | None = None
    classes: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = []
        for field in fields(self):
            value = getattr(self, field.name)
            if np.ma.is_masked(value):
                problems.append(f"{field.name} must have a value everywhere; got a masked array")
            if value is not None and field.name != "cost_unit":
                object.__setattr__(self, field.name, np.asarray(value))
        object.__setattr__(self, "cost_unit", str(self.cost_unit))
        problems += _problems(self)
        if problems:
            raise ScoreTableError("\n  ".join(["the score table cannot be used:", *problems]))

    def __len__(self) -> int:
        return len(self.prediction)

    def __repr__(self) -> str:
        return f"ScoreTable({len(self)} rows, stages {', '.join(self.stage)}, cost in {self.cost_unit})"

    @property
    def stages(self) -> int:
        """K, the number of stages."""
        return len(self.stage)

    @property
    def correct(self) -> np.ndarray:
        """(n, K) bool, whether each stage's answer is right.

        Raises:
            ScoreTableError: the table has no labels.
        """
        if self.label is None:
            raise ScoreTableError(
                "the score table has no labels ('label'), so accuracy is not known; "
                "ask for agreement with the last stage instead (target_agreement)"
            )
        return np.asarray(self.prediction == self.label[:, None])

    @property
    def agrees(self) -> np.ndarray:
        """(n, K) bool, whether each stage's answer is the last stage's."""
        return np.asarray(self.prediction == self.prediction[:, -1:])

    @property
    def cumulative_cost(self) -> np.ndarray:
        """(n, K) float, cost of a row that is answered at each stage: that stage and all before it."""
        return np.cumsum(np.broadcast_to(self.cost, self.prediction.shape), axis=1)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        state = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                array = np.ascontiguousarray(value)
                state.update(f"{field.name} {array.dtype.str} {array.shape}".encode())
                state.update(array.tobytes())
        return state.hexdigest()

    def take(self, rows: np.ndarray) -> "ScoreTable":
        """The table of some rows.

        Args:
            rows: (m,) int indices, or (n,) bool.
        """
        return ScoreTable(
            self.prediction[rows],
            self.confidence[rows],
            self.cost if self.cost.ndim == 1 else self.cost[rows],
            self.stage,
            self.cost_unit,
            None if self.label is None else self.label[rows],
            None if self.scores is None else self.scores[rows],
            self.model,
            self.cost_per_mflop,
            self.classes,
        )

    def select(self, stages: Sequence[int | str]) -> "ScoreTable":
        """The table of some stages, in the given order.

        Args:
            stages: indices from 0, or names; each stage at most once.

        Raises:
            ScoreTableError: a stage is not in the table, comes twice, or none is given.
        """
        names = self.stage.tolist()
        unknown = [s for s in stages if (s not in names if isinstance(s, str) else not 0 <= s < len(names))]
        columns = [] if unknown else [names.index(s) if isinstance(s, str) else int(s) for s in stages]
        if not columns or len(set(columns)) < len(columns):
            raise ScoreTableError(f"stages to select must be different ones of {names}; got {list(stages)}")
        return ScoreTable(
            self.prediction[:, columns],
            self.confidence[:, columns],
            self.cost[..., columns],
            self.stage[columns],
            self.cost_unit,
            self.label,
            None if self.scores is None else self.scores[:, columns],
            None if self.model is None else self.model[columns],
            None if self.cost_per_mflop is None else self.cost_per_mflop[columns],
            self.classes,
        )

    def save(self, path: Path | str) -> None:
        """Writes an ``.npz`` file without any pickle in it."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **{key: value for key, value in arrays.items() if value is not None})

    @classmethod
    def load(cls, path: Path | str) -> "ScoreTable":
        """Reads an ``.npz`` file; anyone may have written it.

        Raises:
            ScoreTableError: it is missing, is no ``.npz`` file, holds pickled objects or arrays that are not listed
                here, or contradicts itself.
        """
        known = [field.name for field in fields(cls)]
        try:
            arrays: dict[str, Any] = {**load_arrays(path, known, ScoreTableError)}
        except FileNotFoundError as error:
            raise ScoreTableError(f"{path} does not exist; 'cascade collect' makes it") from error
        missing = [name for name in ("prediction", "confidence", "cost", "stage") if name not in arrays]
        if missing:
            raise ScoreTableError(f"{path} lacks the arrays {', '.join(missing)}")
        unit = arrays.get("cost_unit", np.array("ms"))
        if unit.dtype.kind != "U" or unit.size != 1:
            raise ScoreTableError(f"{path}: cost_unit must be one text; got {unit.dtype} of shape {unit.shape}")
        arrays["cost_unit"] = unit.item()
        try:
            return cls(**arrays)
        except ScoreTableError as error:
            raise ScoreTableError(f"{path}: {error}") from error


def _problems(table: ScoreTable) -> list[str]:
    """What is wrong, a line each; the shape of ``prediction`` decides about all others."""
    prediction = table.prediction
    if prediction.ndim != 2 or 0 in prediction.shape:
        return [f"prediction must be (n, K) with n, K >= 1; got shape {prediction.shape}"]
    n, stages = prediction.shape
    problems = []
    if not np.issubdtype(prediction.dtype, np.integer):
        problems.append(f"prediction must be integers; got {prediction.dtype}")
    if table.confidence.shape != (n, stages):
        problems.append(f"confidence must be {(n, stages)} like prediction; got {table.confidence.shape}")
    problems += _number_problems("confidence", table.confidence, 1.0)
    if table.cost.shape not in ((stages,), (n, stages)):
        problems.append(f"cost must be {(stages,)} or {(n, stages)}; got {table.cost.shape}")
    problems += _number_problems("cost", table.cost, np.inf)
    if table.stage.shape != (stages,) or table.stage.dtype.kind != "U":
        problems.append(f"stage must be {stages} names; got {table.stage.dtype} of shape {table.stage.shape}")
    elif len(set(table.stage.tolist())) < stages:
        problems.append(f"stage must have {stages} different names; got {table.stage.tolist()}")
    if table.model is not None and (table.model.shape != (stages,) or table.model.dtype.kind != "U"):
        problems.append(f"model must be {stages} texts; got {table.model.dtype} of shape {table.model.shape}")
    if table.cost_per_mflop is not None:
        if table.cost_per_mflop.shape != (stages,):
            problems.append(f"cost_per_mflop must be {(stages,)}; got {table.cost_per_mflop.shape}")
        problems += _number_problems("cost_per_mflop", table.cost_per_mflop, np.inf)
    if table.label is not None and (table.label.shape != (n,) or not np.issubdtype(table.label.dtype, np.integer)):
        hint = " (cascade.labels.label_ids makes ids of names)" if table.label.dtype.kind == "U" else ""
        problems.append(f"label must be {n} integers; got {table.label.dtype} of shape {table.label.shape}{hint}")
    if table.scores is not None:
        if table.scores.ndim != 3 or table.scores.shape[:2] != (n, stages):
            problems.append(f"scores must be (n, K, C) = ({n}, {stages}, C); got {table.scores.shape}")
        problems += _number_problems("scores", table.scores, 1.0)
    return problems or _class_problems(table)


def _class_problems(table: ScoreTable) -> list[str]:
    """What is wrong with the classes of a table whose shapes and types are right."""
    classes, scores = table.classes, table.scores
    count = None if scores is None else scores.shape[2]
    if classes is not None:
        if classes.ndim != 1 or classes.dtype.kind != "U":
            return [f"classes must be (C,) names; got {classes.dtype} of shape {classes.shape}"]
        if len(np.unique(classes)) < len(classes):
            return [f"classes must be different names; got {classes.tolist()}"]
        if count not in (None, len(classes)):
            return [f"scores must have a column for each of the {len(classes)} classes; got {count}"]
        count = len(classes)
    problems = _id_problems("prediction", table.prediction, count)
    if table.label is not None:
        remedy = " (leave rows without a label out)"
        problems += [problem + remedy for problem in _id_problems("label", table.label, count)]
    return problems


def _id_problems(name: str, ids: np.ndarray, count: int | None) -> list[str]:
    wrong = (ids < 0) if count is None else (ids < 0) | (ids >= count)
    if not wrong.any():
        return []
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    bounds = "classes >= 0" if count is None else f"classes from 0 to {count - 1}"
    return [f"{name} must be {bounds}; {int(wrong.sum())} values are not, first {name}{list(place)} = {ids[place]}"]


def _number_problems(name: str, array: np.ndarray, highest: float) -> list[str]:
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
        return [f"{name} must be numbers; got {array.dtype}"]
    # Rounding may carry a probability a little above 1.
    wrong = ~((array >= 0) & (array <= highest * (1 + 1e-6)) & np.isfinite(array))
    if not wrong.any():
        return []
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    bounds = "[0, 1]" if highest == 1.0 else "finite and >= 0"
    return [f"{name} must be {bounds}; {int(wrong.sum())} values are not, first {name}{list(place)} = {array[place]}"]
