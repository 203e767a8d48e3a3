"""Which models of a pool make a cascade, and in which order, for a target.

The best of thousands of candidates looks better on the rows that chose it than it is. So one half of the rows chooses
models, order and thresholds, and all reported figures come from the other half.
"""

from collections.abc import Callable

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.more_rows import refuse_without_positives
from cascade.calibration.choice.candidate_screen import CandidateScreen, Stages
from cascade.calibration.choice.candidate_search import MOST_CANDIDATES, screen_candidates
from cascade.calibration.choice.cascade_choice import Alternative, CascadeChoice
from cascade.calibration.choice.cascade_judge import CascadeJudge
from cascade.calibration.choice.exclusion import exclusion
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.choice.refinement import REFINED, best_candidate, full_ladder, refined
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.detection import positive_class
from cascade.calibration.search.best_thresholds import Target
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget

__all__ = ["choose_cascade"]

MOST_STAGES = 12  # beyond, two thresholds per stage are more than the grid of the screen holds
MAX_STAGES = 4  # longer ones rarely gain, and their thresholds need more rows
CHOICES = 5
QUICK_GRID = 20_000

OnStep = Callable[[str, int, int], None]


def choose_cascade(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
    min_recall: float | None = None,
    positive: str | int | None = None,
    hop_cost: float = 0.0,
    deadline: float | None = None,
    max_stages: int = MAX_STAGES,
    arrivals: Arrivals = DEFAULT_ARRIVALS,
    seed: int = 0,
    level: float = 0.95,
    most_candidates: int = MOST_CANDIDATES,
    on_step: OnStep = lambda name, done, total: None,
) -> CascadeChoice:
    """Chooses models of a pool, their order and their thresholds for a target.

    Exactly one target is given. The stages of the table are the pool; its last one is the reference of a drop and of
    agreement, whether it is chosen or not. The table's confidences are used as they are.

    Args:
        table: n rows, M stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest cascade is the best.
        max_accuracy_drop: most accuracy lost compared with the last stage, in [0, 1]; the cheapest cascade is the best.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: largest mean cost per row, hops included; the most accurate cascade is the best.
        min_recall: least share of the rows labelled ``positive`` that are answered as it, in [0, 1]; the cheapest
            cascade is the best.
        positive: class of ``min_recall``, as for :func:`~cascade.calibration.calibrate`.
        hop_cost: cost >= 0, in the table's unit, of every stage after the first that a row reaches.
        deadline: largest cost of a row that runs through all stages, each at its highest cost in the table.
        max_stages: most models in a cascade, in [1, 12].
        arrivals: how many rows come together, where the table has cost curves.
        seed: of the split of the rows and of the resamples.
        level: of the intervals, in (0, 1).
        most_candidates: bound up to which all orders of all subsets are screened.
        on_step: called with the name of a step, how much of it is done, and its total.

    Raises:
        ValueError: not exactly one target, or an argument out of its range.
        ScoreTableError: the target needs labels that the table lacks.
        InfeasibleTarget: no cascade found reaches the target within the deadline on the rows that choose.
    """
    ScoreTable.require(table)
    goal = Goal.of(
        None if min_recall is None and positive is None else positive_class(table, positive),
        target_accuracy=target_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        target_agreement=target_agreement,
        max_cost=max_cost,
        min_recall=min_recall,
    )
    _check(goal, hop_cost, deadline, max_stages, level)
    _check_rows(goal, table)
    pool = ModelPool.of(table, goal.gains_agreement(table), hop_cost, arrivals=arrivals, positive=goal.positive)
    _check_deadline(deadline, table, pool)
    choosing, judging = _halves(pool, seed)
    ladder = tuple(range(pool.models))
    screen = CandidateScreen(choosing, goal.search_target(choosing.problem(ladder)), deadline)
    method = screen_candidates(
        screen, min(max_stages, pool.models), most_candidates, lambda done, total: on_step("candidates", done, total)
    )
    found = refined(screen, lambda done, total: on_step("thresholds", done, total))
    if not found:
        raise _refusal(goal, screen, table.cost_unit)
    ranked = list(found)
    best = ranked[0]
    whole, why_no_ladder = full_ladder(screen, found)
    names = tuple(map(str, table.stage))
    candidates = list((found if whole is None else found | {ladder: whole}).values())
    target = goal.search_target(judging.problem(ladder))
    judge = CascadeJudge(judging, names, target, candidates, level, seed, choosing.most_gain)

    def first(suits: Callable[[Stages], bool]) -> Alternative | None:
        return next((judge.alternative(best, stages) for stages in ranked if suits(stages)), None)

    def first_with(model: int) -> Alternative | None:
        return first(lambda stages: len(stages) >= min(2, max_stages) and model in stages)

    left_out = [m for m in ladder if m not in best]
    with_model = {names[m]: found_with for m in left_out if (found_with := first_with(m)) is not None}
    return CascadeChoice(
        goal=goal,
        gain="recall" if goal.positive is not None else "agreement" if goal.gains_agreement(table) else "accuracy",
        models=names,
        cost_unit=table.cost_unit,
        hop_cost=hop_cost,
        method=method,
        candidates=len(screen.standings),
        choosing_rows=len(choosing),
        judging_rows=len(judging),
        choices=tuple(judge.cascade(stages) for stages in ranked[:CHOICES]),
        full_ladder=None if whole is None else judge.alternative(best, ladder),
        why_no_ladder=why_no_ladder,
        best_single=first(lambda stages: len(stages) == 1),
        best_several=first(lambda stages: len(stages) > 1),
        best_shorter=first(lambda stages: 1 < len(stages) < len(best)),
        arrivals=arrivals if table.has_curves else None,
        deadline=deadline,
        left_out={names[m]: exclusion(screen, names, m, max_stages, names[m] in with_model) for m in left_out},
        with_model=with_model,
        level=level,
    )


def _check_rows(goal: Goal, table: ScoreTable) -> None:
    """Refuses a table with too few rows for two halves."""
    if len(table) < 2:
        raise InfeasibleTarget("one row cannot both choose a cascade and judge it; more rows are needed")
    refuse_without_positives(goal, table, 2)


def _halves(pool: ModelPool, seed: int) -> tuple[ModelPool, ModelPool]:
    """The rows that choose and those that judge, both with positive rows where only these gain."""
    choosing, judging = pool.halves(seed)
    if not (choosing.most_gain and judging.most_gain):
        raise InfeasibleTarget("all positive rows are in one half of the rows; label more of them, or try another seed")
    return choosing, judging


def _check(goal: Goal, hop_cost: float, deadline: float | None, max_stages: int, level: float) -> None:
    """Refuses arguments out of their range."""
    if goal.budget is not None:
        raise ValueError(f"give one of the targets, not two; got {', '.join(goal.targets)}")
    if not (np.isfinite(hop_cost) and hop_cost >= 0):
        raise ValueError(f"hop_cost must be a finite number of at least 0; got {hop_cost!r}")
    if deadline is not None and not deadline > 0:
        raise ValueError(f"deadline must be above 0; got {deadline!r}")
    if not 1 <= max_stages <= MOST_STAGES:
        raise ValueError(f"max_stages must be in [1, {MOST_STAGES}]; got {max_stages!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1); got {level!r}")


def _check_deadline(deadline: float | None, table: ScoreTable, pool: ModelPool) -> None:
    """Refuses a deadline that no model meets, or that needs bounds which the table lacks."""
    if deadline is None:
        return
    unbounded = [str(name) for name, most in zip(table.stage, table.highest_work, strict=True) if most == np.inf]
    if unbounded:
        raise InfeasibleTarget(
            f"a deadline needs the highest cost per row of every stage, and the score table declares none for "
            f"{', '.join(map(repr, unbounded))} (highest_cost; docs/tune.md, 'Bounds of costs')"
        )
    if pool.worst_cost.min() > deadline:
        raise InfeasibleTarget(
            f"no model meets the deadline of {deadline:g} {table.cost_unit}: "
            f"the fastest takes {pool.worst_cost.min():g} {table.cost_unit} at worst"
        )


def _refusal(goal: Goal, screen: CandidateScreen, cost_unit: str) -> InfeasibleTarget:
    """Names the nearest value of the target that the candidates reach."""
    pool, target = screen.pool, screen.target
    if target.least_gain is None:
        nearest = min(float(pool.cost[:, m].mean()) for m in range(pool.models) if screen.fits((m,)))
        return InfeasibleTarget(
            f"no cascade costs at most {goal.value:g} {cost_unit} per row: the cheapest model that may be used costs "
            f"{nearest:.6g} {cost_unit}",
            float(nearest),
        )
    anything = Target(most_cost=np.inf)
    candidates = [best_candidate(pool, anything, stages, QUICK_GRID) for stages in screen.ranked()[:REFINED]]
    most = max(candidate.gain for candidate in candidates if candidate is not None)
    nearest = goal.value + target.least_gain - most if goal.name == "max_accuracy_drop" else most / pool.most_gain
    return InfeasibleTarget(
        f"no cascade of these {pool.models} models reaches {goal.quantity} {goal.value:.6g} on the {len(pool)} "
        f"rows that choose; the nearest found is {nearest:.6g}",
        float(nearest),
    )
