"""The score table: the predictions of every stage on every row of a set, collected once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.costs.cost_curve import CostCurve, curve_arrays
from cascade.calibration.costs.stage_prices import StagePrices
from cascade.calibration.tables.answer_log import read_answer_log
from cascade.errors import ScoreTableError
from cascade.files.npz import load_arrays
from cascade.files.tables import is_table_file
from cascade.html_table import html_table

__all__ = ["ScoreTable"]

LEAST_COST = 1e-12

TEXTS = ("cost_unit", "curve_machine")
PER_STAGE = (
    "stage",
    "model",
    "cost_per_mflop",
    "highest_cost",
    "curve_ms",
    "curve_spread",
    "curve_cost",
    "cost_per_ms",
    "level_share",
)
CURVES = ("curve_rows", "curve_ms", "curve_spread", "curve_cost", "cost_per_ms")


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Predictions of K stages on n rows.

    Attributes:
        prediction: (n, K) int >= 0, the class that each stage predicts.
        confidence: (n, K) float in [0, 1], of each stage, before calibration.
        cost: (K,) or (n, K) float >= 0, cost per row of each stage.
        stage: (K,) str, names of the stages, cheapest first.
        cost_unit: unit of ``cost``, such as "ms" (measured time) or "MFLOP".
        label: (n,) int >= 0, the right classes; ``None`` without labels.
        scores: (n, K, C) float in [0, 1], class probabilities; ``None`` if they were not kept.
        model: (K,) str, digest of each stage's model; ``None`` if it is not recorded.
        highest_cost: (K,) float >= 0, bound of the cost of any row at each stage, future rows included: declared from
            knowledge of the model, not estimated from these rows; inf without a bound. ``None`` means no bound where
            rows differ in cost; where ``cost`` is (K,), it is the bound itself.
        cost_per_mflop: (K,) float >= 0, above 0 for the stages whose models count the operations of every row: their
            ``cost`` is this times millions of operations; ``None`` if there are none.
        classes: (C,) str, different names of the classes 0 to C - 1; ``None`` where numbers suffice.
        curve_rows: (m,) int >= 1, rising, sizes of the timed calls; ``None``, like the next four, without timed calls:
            then ``cost`` is a constant per row at any size of a call.
        curve_ms: (K, m) float > 0, never falling along a row, median time of a call; NaN where it was not measured.
        curve_spread: (K, m) float >= 0, interquartile range of these times over their median.
        curve_cost: (K,) float >= 0, ``cost`` of the mean row of the timed calls; 0 for a stage whose ``cost`` is not a
            time (money per token, operations), and therefore a constant per row.
        cost_per_ms: (K,) float >= 0, in ``cost_unit``; 0 where ``curve_cost`` is.
        curve_machine: the machine of the measured times and its load; ``None`` if it is not recorded.
        level_share: (K,) float > 0, of rows that are windows of images: time of a row where the stage is the first one
            and gets whole pyramid levels, over that of a gathered row, which ``cost`` is about; NaN for stages whose
            rows are always gathered; ``None`` if it was not measured.

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
    highest_cost: np.ndarray | None = None
    classes: np.ndarray | None = None
    curve_rows: np.ndarray | None = None
    curve_ms: np.ndarray | None = None
    curve_spread: np.ndarray | None = None
    curve_cost: np.ndarray | None = None
    cost_per_ms: np.ndarray | None = None
    curve_machine: str | None = None
    level_share: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = []
        for field in fields(self):
            value = getattr(self, field.name)
            if np.ma.is_masked(value):
                problems.append(f"{field.name} must have a value everywhere; got a masked array")
            if value is not None:
                object.__setattr__(self, field.name, str(value) if field.name in TEXTS else np.asarray(value))
        problems += _problems(self)
        if problems:
            raise ScoreTableError("\n  ".join(["the score table cannot be used:", *problems]))

    def __len__(self) -> int:
        return len(self.prediction)

    def __repr__(self) -> str:
        return f"ScoreTable({len(self)} rows, stages {', '.join(self.stage)}, cost in {self.cost_unit})"

    def _repr_html_(self) -> str:
        gain_name, gain = ("accuracy", self.correct) if self.label is not None else ("agreement", self.agrees)
        cost = np.broadcast_to(self.cost, self.prediction.shape).mean(axis=0)
        header = ("stage", gain_name, "mean confidence", f"mean cost in {self.cost_unit}")
        rows = list(zip(self.stage, gain.mean(axis=0), self.confidence.mean(axis=0), cost, strict=True))
        return html_table(f"Score table of {len(self):,} rows", header, rows)

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
                "the score table has no labels ('label'), so accuracy cannot be computed; "
                "ask for agreement with the last stage instead (target_agreement)"
            )
        return np.asarray(self.prediction == self.label[:, None])

    @property
    def agrees(self) -> np.ndarray:
        """(n, K) bool, whether each stage's answer is the last stage's."""
        return np.asarray(self.prediction == self.prediction[:, -1:])

    @property
    def cumulative_cost(self) -> np.ndarray:
        """(n, K) float, cost of a row that is answered at each stage: of that stage and all before it."""
        return np.cumsum(np.broadcast_to(self.cost, self.prediction.shape), axis=1)

    @cached_property
    def curves(self) -> tuple[CostCurve | None, ...]:
        """K cost curves; ``None`` for a stage that was not timed."""
        if self.curve_rows is None or self.curve_ms is None or self.curve_spread is None:
            return (None,) * self.stages
        found: list[CostCurve | None] = []
        for ms, spread in zip(self.curve_ms, self.curve_spread, strict=True):
            there = np.isfinite(ms)
            found.append(CostCurve(self.curve_rows[there], ms[there], spread[there]) if there.any() else None)
        return tuple(found)

    def with_curves(
        self,
        curves: Sequence[CostCurve | None],
        cost_per_ms: np.ndarray | None = None,
        machine: str | None = None,
    ) -> "ScoreTable":
        """The table with other cost curves; its mean row is that of the timed calls.

        Args:
            curves: K, ``None`` for stages with a constant cost; or empty for no curves.
            cost_per_ms: (K,) >= 0, 0 for stages whose costs are not times; by default 1, for costs in ms.
            machine: on which they were measured.
        """
        timed = np.array([curve is not None for curve in curves])
        if not timed.any():
            none: dict[str, Any] = dict.fromkeys(CURVES)
            return replace(self, **none, curve_machine=None)
        rows, ms, spread = curve_arrays(curves)
        factor = np.where(timed, 1.0 if cost_per_ms is None else cost_per_ms, 0.0)
        mean = np.broadcast_to(self.cost, self.prediction.shape).mean(axis=0)
        return replace(
            self,
            curve_rows=rows,
            curve_ms=ms,
            curve_spread=spread,
            curve_cost=np.where(factor > 0, np.maximum(mean, LEAST_COST), 0.0),
            cost_per_ms=factor,
            curve_machine=machine,
        )

    @property
    def has_curves(self) -> bool:
        """Whether some stage has a cost curve."""
        return any(curve is not None for curve in self.curves)

    @property
    def work(self) -> np.ndarray:
        """(n, K) float, work of a row at each stage: in mean rows for a stage with a curve, else its cost."""
        cost = np.broadcast_to(self.cost, self.prediction.shape).astype(np.float64)
        return cost if self.curve_cost is None else cost / np.where(self.curve_cost > 0, self.curve_cost, 1.0)

    @property
    def highest_work(self) -> np.ndarray:
        """(K,) float, bound of the work of a row at each stage; inf without a declared bound."""
        bound = np.full(self.stages, np.inf) if self.cost.ndim == 2 else self.cost
        bound = bound if self.highest_cost is None else self.highest_cost
        mean = 1.0 if self.curve_cost is None else np.where(self.curve_cost > 0, self.curve_cost, 1.0)
        return np.asarray(bound / mean)

    def prices(self, arrivals: Arrivals) -> StagePrices | None:
        """Mean cost per row as a function of shares of ``work``; ``None`` where costs are constants per row."""
        if self.cost_per_ms is None or not self.cost_per_ms.any():
            return None
        timed = [curve if factor else None for curve, factor in zip(self.curves, self.cost_per_ms, strict=True)]
        return StagePrices.of(timed, arrivals, self.cost_per_ms)

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
        per_row = ("prediction", "confidence", "label", "scores", *(("cost",) if self.cost.ndim == 2 else ()))
        taken = {name: getattr(self, name)[rows] for name in per_row if getattr(self, name) is not None}
        return replace(self, **taken)

    def select(self, stages: Sequence[int | str]) -> "ScoreTable":
        """The table of some stages, in the given order.

        Args:
            stages: indices from 0, or names; each stage at most once.

        Raises:
            ScoreTableError: a stage is not in the table or appears twice, or there is none.
        """
        names = self.stage.tolist()
        unknown = [s for s in stages if (s not in names if isinstance(s, str) else not 0 <= s < len(names))]
        columns = [] if unknown else [names.index(s) if isinstance(s, str) else int(s) for s in stages]
        if not columns or len(set(columns)) < len(columns):
            raise ScoreTableError(f"stages to select must be different ones of {names}; got {list(stages)}")
        chosen = {name: getattr(self, name)[columns] for name in PER_STAGE if getattr(self, name) is not None}
        chosen |= {name: getattr(self, name)[:, columns] for name in ("prediction", "confidence")}
        scores = None if self.scores is None else self.scores[:, columns]
        return replace(self, cost=self.cost[..., columns], scores=scores, **chosen)

    def save(self, path: Path | str) -> None:
        """Writes an ``.npz`` file without pickled objects."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **{key: value for key, value in arrays.items() if value is not None})

    @classmethod
    def require(cls, value: object) -> None:
        """Refuses an argument that is not a table.

        Raises:
            ScoreTableError: it is something else, such as a path.
        """
        if not isinstance(value, cls):
            raise ScoreTableError(f"a ScoreTable is needed; got {type(value).__name__}. ScoreTable.load reads a file")

    @classmethod
    def from_log(
        cls,
        path: Path | str,
        columns: Mapping[str, str] | None = None,
        costs: Mapping[str, float] | None = None,
        stages: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        *,
        cost_unit: str = "ms",
        ignore_others: bool = False,
    ) -> "ScoreTable":
        """Reads the answers of models from a CSV, Parquet, Arrow or JSONL file, a row for each input.

        Args:
            path: of the file, with the columns ``label`` and, for each stage, ``STAGE.prediction``,
                ``STAGE.confidence`` and ``STAGE.cost``.
            columns: other names of columns, such as ``{"small.prediction": "pred_a", "label": "truth"}``.
            costs: constant costs per row of stages that have no such column.
            stages: names, cheapest first; by default all of the file, in its order.
            classes: (C,) names of the classes 0 to C - 1; by default the sorted names in the file, or none if they
                are all whole numbers.
            cost_unit: unit of the costs.
            ignore_others: whether other columns are left out; else they are refused.

        Raises:
            ScoreTableError: the file cannot be read, or lacks a column or a value.
        """
        log = read_answer_log(path, columns, costs, stages, classes, ignore_others)
        try:
            return cls(**log.arrays, cost_unit=cost_unit)
        except ScoreTableError as error:
            raise ScoreTableError(f"{path}: {error}") from error

    @classmethod
    def load(cls, path: Path | str) -> "ScoreTable":
        """Reads an ``.npz`` file from any source, or a log of answers (:meth:`from_log`).

        Raises:
            ScoreTableError: it is missing or damaged, contains pickled objects or unknown arrays or columns, or
                contradicts itself.
        """
        if is_table_file(path):
            return cls.from_log(path)
        known = [field.name for field in fields(cls)]
        try:
            arrays: dict[str, Any] = {**load_arrays(path, known, ScoreTableError)}
        except FileNotFoundError as error:
            raise ScoreTableError(f"{path} does not exist; 'cascade collect' makes it") from error
        missing = [name for name in ("prediction", "confidence", "cost", "stage") if name not in arrays]
        if missing:
            raise ScoreTableError(f"{path} lacks the arrays {', '.join(missing)}")
        for name in arrays.keys() & TEXTS:
            text = arrays[name]
            if text.dtype.kind != "U" or text.size != 1:
                raise ScoreTableError(f"{path}: {name} must be one text; got {text.dtype} of shape {text.shape}")
            arrays[name] = text.item()
        try:
            return cls(**arrays)
        except ScoreTableError as error:
            raise ScoreTableError(f"{path}: {error}") from error


def _problems(table: ScoreTable) -> list[str]:
    """The problems, one line each; the shape of ``prediction`` determines all others."""
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
    elif "" in table.stage.tolist():
        problems.append(f"stage must have names that are not empty; got {table.stage.tolist()}")
    if not table.cost_unit:
        problems.append('cost_unit must not be empty; "ms" where it is left out')
    if table.model is not None and (table.model.shape != (stages,) or table.model.dtype.kind != "U"):
        problems.append(f"model must be {stages} texts; got {table.model.dtype} of shape {table.model.shape}")
    if table.cost_per_mflop is not None:
        if table.cost_per_mflop.shape != (stages,):
            problems.append(f"cost_per_mflop must be {(stages,)}; got {table.cost_per_mflop.shape}")
        problems += _number_problems("cost_per_mflop", table.cost_per_mflop, np.inf)
    problems += [] if problems or table.highest_cost is None else _bound_problems(table)
    if table.label is not None and (table.label.shape != (n,) or not np.issubdtype(table.label.dtype, np.integer)):
        hint = " (cascade.label_ids maps names to ids)" if table.label.dtype.kind == "U" else ""
        problems.append(f"label must be {n} integers; got {table.label.dtype} of shape {table.label.shape}{hint}")
    problems += _level_problems(table.level_share, stages)
    if table.scores is not None:
        if table.scores.ndim != 3 or table.scores.shape[:2] != (n, stages):
            problems.append(f"scores must be (n, K, C) = ({n}, {stages}, C); got {table.scores.shape}")
        problems += _number_problems("scores", table.scores, 1.0)
    return problems or [*_class_problems(table), *_curve_problems(table)]


def _level_problems(share: np.ndarray | None, stages: int) -> list[str]:
    if share is None or (share.shape == (stages,) and share.dtype.kind == "f" and not (share <= 0).any()):
        return []
    return [f"level_share must be {stages} float numbers above 0, or NaN; got {share!r}"]


def _bound_problems(table: ScoreTable) -> list[str]:
    """The problems of the declared bounds, of a table with valid costs."""
    bound = table.highest_cost
    if bound is None or bound.shape != (table.stages,) or not np.issubdtype(bound.dtype, np.floating):
        return [f"highest_cost must be {table.stages} float numbers; got {bound!r}"]
    above = ~(np.broadcast_to(table.cost, table.prediction.shape) <= bound)
    if not above.any():
        return []
    row, k = map(int, np.argwhere(above)[0])
    cost = table.cost[row, k] if table.cost.ndim == 2 else table.cost[k]
    return [
        f"{int(above.sum())} costs are above the declared highest_cost: "
        f"row {row} costs {cost:g} at stage {str(table.stage[k])!r}, of which {bound[k]:g} is declared"
    ]


def _curve_problems(table: ScoreTable) -> list[str]:
    given = [name for name in CURVES if getattr(table, name) is not None]
    if not given:
        return []
    rows, ms, spread, cost, cost_per_ms = (getattr(table, name) for name in CURVES)
    if len(given) < len(CURVES):
        return [f"{', '.join(CURVES)} go together; got {', '.join(given)} only"]
    stages, sizes = table.prediction.shape[1], rows.shape
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        return [f"curve_rows must be whole numbers (m,); got {rows.dtype} of shape {rows.shape}"]
    if not ms.shape == spread.shape == (stages, *sizes):
        return [f"curve_ms and curve_spread must be {(stages, *sizes)}; got {ms.shape} and {spread.shape}"]
    if not cost.shape == cost_per_ms.shape == (stages,):
        return [f"curve_cost and cost_per_ms must be {(stages,)}; got {cost.shape} and {cost_per_ms.shape}"]
    problems = _number_problems("curve_cost", cost, np.inf) + _number_problems("cost_per_ms", cost_per_ms, np.inf)
    if not problems and ((cost > 0) != (cost_per_ms > 0)).any():
        problems.append(f"curve_cost and cost_per_ms must be above 0 for the same stages; got {cost}, {cost_per_ms}")
    for name, own, own_spread in zip(table.stage, ms, spread, strict=True):
        there = np.isfinite(own)
        problem = CostCurve(rows[there], own[there], own_spread[there]).problem() if there.any() else None
        problems += [f"the cost curve of stage {str(name)!r} {problem}"] if problem else []
    untimed = [
        str(name) for name, own, factor in zip(table.stage, ms, cost_per_ms) if factor and not np.isfinite(own).any()
    ]
    if untimed:
        problems.append(f"cost_per_ms must be 0 where curve_ms has no times; got more for {untimed}")
    return problems


def _class_problems(table: ScoreTable) -> list[str]:
    """The problems of the classes, of a table with valid shapes and types."""
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
    # Rounding may make a probability slightly larger than 1.
    wrong = ~((array >= 0) & (array <= highest * (1 + 1e-6)) & np.isfinite(array))
    if not wrong.any():
        return []
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    bounds = "[0, 1]" if highest == 1.0 else "finite and >= 0"
    return [f"{name} must be {bounds}; {int(wrong.sum())} values are not, first {name}{list(place)} = {array[place]}"]
