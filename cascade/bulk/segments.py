"""Segments of a bulk job: which stages share a process, what it needs, and what it does with deferred rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.engine import Segment
from cascade.errors import InputError
from cascade.routers import Evidence
from cascade.rows.checks import RowForm, check_rows

__all__ = ["Deferred", "run_segment", "with_bulk_segments"]


@dataclass(frozen=True, eq=False)
class Deferred:
    """Rows that reach a segment.

    Attributes:
        rows: (m, ...).
        evidence: (m, W) of the segments before, where the policy needs it; see :meth:`Evidence.to_array`.
        cost: (m,) of the stages that ran on the rows; ``None`` for the first segment.
        place: of the rows in the input, for messages.
    """

    rows: np.ndarray
    evidence: np.ndarray | None = None
    cost: np.ndarray | None = None
    place: str = ""

    @classmethod
    def join(cls, batches: "Sequence[Deferred]") -> "Deferred":
        """Rows of several parts, one after the other."""
        if len(batches) == 1:
            return batches[0]
        return cls(*(_joined([getattr(batch, name) for batch in batches]) for name in ("rows", "evidence", "cost")))


def _joined(arrays: Sequence[np.ndarray | None]) -> Any:
    known = [array for array in arrays if array is not None]
    return np.concatenate(known) if known else None


def with_bulk_segments(config: CascadeConfig) -> CascadeConfig:
    """A configuration with ``serving.segments``.

    Where it has none, a segment begins with each stage that requests resources. The other stages gain nothing from a
    process of their own, since parts are large batches already.
    """
    if config.serving.segments is not None:
        return config
    groups: list[list[str]] = []
    for stage in config.stages:
        if not groups or stage.deployment.get("ray_actor_options"):
            groups.append([])
        groups[-1].append(stage.name)
    serving = config.serving.model_copy(update={"segments": tuple(map(tuple, groups))})
    return config.model_copy(update={"serving": serving})


def run_segment(segment: Segment, policy: Policy, form: RowForm, batch: Deferred) -> tuple[Answers, Deferred | None]:
    """Runs the stages of a segment on rows.

    The stages run one by one, so that the costs of a row are added in the order in which
    :meth:`cascade.cascade.Cascade.predict` adds them, and have the same bits.

    Args:
        segment: the stages.
        policy: of the whole cascade.
        form: the configuration's ``rows``, for the first segment's check.
        batch: m rows.

    Returns:
        The m answers so far, without evidence, and the rows that are pending; ``None`` if there are none.

    Raises:
        RowsError: the rows do not have the configured shape or type, or a model refuses them.
        StageError: a model failed, or broke the stage contract.
    """
    try:
        rows = batch.rows if batch.cost is not None else np.ascontiguousarray(check_rows(batch.rows, form))
        return _run(segment, policy, rows, batch)
    except InputError as error:
        raise type(error)(f"{batch.place}: {error}" if batch.place else str(error)) from error


def _run(segment: Segment, policy: Policy, rows: np.ndarray, batch: Deferred) -> tuple[Answers, Deferred | None]:
    answers = Answers.empty(len(rows))
    if batch.cost is not None:
        answers.cost[:] = batch.cost
    evidence = None
    if batch.evidence is not None:
        evidence = Evidence.from_array(batch.evidence, policy.needs_evidence, policy.defers_early)
    places = np.arange(len(rows))
    for stage in range(segment.first, segment.first + len(segment.stages)):
        if not len(places):
            break
        if not policy.runs[stage]:
            continue
        found = segment.part(stage, stage + 1).run(rows, policy, evidence)
        answers.put(places, found)
        pending, evidence = found.stage == PENDING, found.evidence
        rows, places = rows[pending], places[pending]
    if not len(places):
        return answers, None
    passed = None if evidence is None else evidence.to_array()
    return answers, Deferred(rows, passed, answers.cost[places])
