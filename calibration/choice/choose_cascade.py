"""Which models of a pool to put into a cascade, in which order, for a target.

The winner among thousands of candidates looks better on the rows that chose it than it is. So one half of the rows
chooses models, order and thresholds, and all figures that are reported come from the other half.
"""

from collections.abc import Callable, Iterable

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.choice.candidate_screen import CandidateScreen, Stages
from cascade.calibration.choice.candidate_search import MOST_CANDIDATES, screen_candidates
from cascade.calibration.choice.cascade_choice import Alternative, CascadeChoice
from cascade.calibration.choice.cascade_judge import Candidate, CascadeJudge, replay
from cascade.calibration.choice.exclusion import exclusion
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget

__all__ = ["choose_cascade"]

MOST_STAGES = 12  # beyond, two thresholds a stage are more than the screen's grid holds
MAX_STAGES = 4  # longer ones rarely gain, and their thresholds need more rows
CHOICES = 5
REFINED = 24
POLISHED = 3
QUICK_GRID = 20_000
LONGEST_LADDER = 16  # two thresholds a stage fill the grid of the threshold search

OnStep = Callable[[str, int, int], None]


def choose_cascade(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
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
    agreement, whether it is chosen or not. The confidences of the table count as they are.

    Args:
        table: n rows, M stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest cascade is the best.
        max_accuracy_drop: most accuracy lost against the last stage, in [0, 1]; the cheapest cascade is the best.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: most mean cost of a row, hops included; the most accurate cascade is the best.
        hop_cost: cost >= 0, in the table's unit, of every stage after the first that a row reaches.
        deadline: most that a row may cost if it runs through all stages, each at its highest cost in the table.
        max_stages: most models in a cascade, in [1, 12].
        arrivals: how many rows come together, where the table has cost curves.
        seed: of the split of the rows and of the resamples.
        level: of the intervals, in (0, 1).
        most_candidates: bound up to which all orders, or all subsets, are looked at.
        on_step: called with the name of a step, how much of it is done, and its total.

    Raises:
        ValueError: not exactly one target, or an argument out of its range.
        ScoreTableError: the target needs labels that the table lacks.
        InfeasibleTarget: no cascade found reaches the target within the deadline on the rows that choose.
    """
    ScoreTable.require(table)
    goal = Goal.of(
        target_accuracy=target_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        target_agreement=target_agreement,
        max_cost=max_cost,
    )
    _check(goal, hop_cost, deadline, max_stages, level)
    if len(table) < 2:
        raise InfeasibleTarget("one row cannot both choose a cascade and judge it; more rows are needed")
    pool = ModelPool.of(table, goal.gains_agreement(table), hop_cost, arrivals=arrivals)
    unbounded = [str(name) for name, most in zip(table.stage, table.highest_work, strict=True) if most == np.inf]
    if deadline is not None and unbounded:
        raise InfeasibleTarget(
            f"a deadline needs the most that a row may cost at every stage, and the score table declares none for "
            f"{', '.join(map(repr, unbounded))} (highest_cost; docs/tune.md, 'Bounds of costs')"
        )
    if deadline is not None and pool.worst_cost.min() > deadline:
        raise InfeasibleTarget(
            f"no model keeps the deadline of {deadline:g} {table.cost_unit}: "
            f"the fastest takes {pool.worst_cost.min():g} {table.cost_unit} at worst"
        )
    ladder = tuple(range(pool.models))
    choosing, judging = pool.halves(seed)
    target = goal.search_target(choosing.problem(ladder))
    screen = CandidateScreen(choosing, target, deadline)
    method = screen_candidates(
        screen, min(max_stages, pool.models), most_candidates, lambda done, total: on_step("candidates", done, total)
    )
    found = _refined(choosing, target, _worth_refining(screen), on_step)
    if not found:
        raise _refusal(goal, choosing, target, screen, table.cost_unit)
    ranked = list(found)
    best = ranked[0]
    full, why_no_ladder = _full_ladder(choosing, target, screen, found)
    names = tuple(map(str, table.stage))
    judge = CascadeJudge(judging, names, goal.search_target(judging.problem(ladder)), list(found.values()), level, seed)

    def first(suits: Callable[[Stages], bool]) -> Alternative | None:
        return next((judge.alternative(best, stages) for stages in ranked if suits(stages)), None)

    def first_with(model: int) -> Alternative | None:
        return first(lambda stages: len(stages) >= min(2, max_stages) and model in stages)

    outside = [m for m in ladder if m not in best]
    with_model = {names[m]: found_with for m in outside if (found_with := first_with(m)) is not None}
    return CascadeChoice(
        goal=goal,
        gain="agreement" if goal.gains_agreement(table) else "accuracy",
        models=names,
        cost_unit=table.cost_unit,
        hop_cost=hop_cost,
        method=method,
        candidates=len(screen.standings),
        choosing_rows=len(choosing),
        judging_rows=len(judging),
        choices=tuple(judge.cascade(stages) for stages in ranked[:CHOICES]),
        full_ladder=None if full is None else judge.alternative(best, full),
        why_no_ladder=why_no_ladder,
        best_single=first(lambda stages: len(stages) == 1),
        best_several=first(lambda stages: len(stages) > 1),
        best_shorter=first(lambda stages: 1 < len(stages) < len(best)),
        arrivals=arrivals if table.has_curves else None,
        deadline=deadline,
        left_out={names[m]: exclusion(screen, names, m, max_stages, names[m] in with_model) for m in outside},
        with_model=with_model,
        level=level,
    )


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


def _worth_refining(screen: CandidateScreen) -> list[Stages]:
    """The best candidates, all single models, the best of several models, and the best with each model."""
    ranked = screen.ranked()
    singles = [stages for stages in ranked if len(stages) == 1]
    several = [stages for stages in ranked if len(stages) > 1]
    with_model = [next((s for s in several if m in s), None) for m in range(screen.pool.models)]
    chosen = dict.fromkeys([*ranked[:REFINED], *singles, *several[:POLISHED], *with_model])
    return [stages for stages in chosen if stages is not None]


def _refined(pool: ModelPool, target: Target, candidates: list[Stages], on_step: OnStep) -> dict[Stages, Candidate]:
    """Searches the thresholds of all candidates quickly, then of the best ones thoroughly; best first."""
    found: dict[Stages, Candidate] = {}
    for done, stages in enumerate(candidates):
        _keep(found, target, _candidate(pool, target, stages, QUICK_GRID))
        on_step("thresholds", done + 1, len(candidates) + POLISHED)
    for done, stages in enumerate(_ranked(found, target)[:POLISHED]):
        _keep(found, target, _candidate(pool, target, stages))
        on_step("thresholds", len(candidates) + done + 1, len(candidates) + POLISHED)
    return {stages: found[stages] for stages in _ranked(found, target)}


def _candidate(pool: ModelPool, target: Target, stages: Stages, *largest: int) -> Candidate | None:
    """The best thresholds of a cascade; stages that answer no row are left out, which changes no answer."""
    thresholds = best_thresholds(pool.problem(stages), target, *largest)
    if thresholds is None:
        return None
    stage, _, _ = replay(pool, stages, thresholds)
    answering = np.unique(stage)
    kept, thresholds = tuple(stages[k] for k in answering), thresholds[answering[:-1]]
    return Candidate(kept, thresholds, *pool.problem(kept).value(thresholds))


def _keep(found: dict[Stages, Candidate], target: Target, candidate: Candidate | None) -> None:
    if candidate is None:
        return
    other = found.get(candidate.stages)
    if other is None or _merit(candidate, target) < _merit(other, target):
        found[candidate.stages] = candidate


def _merit(candidate: Candidate, target: Target) -> tuple[float, float]:
    """The smaller the better, among candidates that reach the target."""
    # Rounded, so that equal means that were summed in another order are equal.
    cost, gain = round(candidate.cost, 12), round(candidate.gain, 12)
    return (cost, -gain) if target.least_gain is not None else (-gain, cost)


def _ranked(found: dict[Stages, Candidate], target: Target) -> list[Stages]:
    """Best first; of equally good ones the shortest."""
    return sorted(found, key=lambda stages: (_merit(found[stages], target), len(stages), stages))


def _full_ladder(
    pool: ModelPool, target: Target, screen: CandidateScreen, found: dict[Stages, Candidate]
) -> tuple[Stages | None, str]:
    """All models in the order of the table, which joins the found ones, or why they cannot be used."""
    ladder = tuple(range(pool.models))
    if ladder in found:
        return ladder, ""
    if len(ladder) > LONGEST_LADDER:
        return None, f"it has more than {LONGEST_LADDER} stages, too many for a threshold search"
    if not screen.fits(ladder):
        return None, f"it misses the deadline: {pool.longest(ladder):g} at worst"
    thresholds = best_thresholds(pool.problem(ladder), target)
    if thresholds is None:
        return None, "no thresholds were found with which it reaches the target"
    found[ladder] = Candidate(ladder, thresholds, *pool.problem(ladder).value(thresholds))
    return ladder, ""


def _refusal(goal: Goal, pool: ModelPool, target: Target, screen: CandidateScreen, cost_unit: str) -> InfeasibleTarget:
    """Names the nearest value of the target that the candidates reach."""
    candidates: Iterable[Stages] = screen.ranked()[:REFINED]
    if target.least_gain is None:
        nearest = min(float(pool.cost[:, m].mean()) for m in range(pool.models) if screen.fits((m,)))
        return InfeasibleTarget(
            f"no cascade costs at most {goal.value:g} {cost_unit} a row: the cheapest model that may be used costs "
            f"{nearest:.6g} {cost_unit}",
            float(nearest),
        )
    anything = Target(most_cost=np.inf)
    gains = [found.gain for s in candidates if (found := _candidate(pool, anything, s, QUICK_GRID)) is not None]
    nearest = goal.value + target.least_gain - max(gains) if goal.name == "max_accuracy_drop" else max(gains)
    return InfeasibleTarget(
        f"no cascade of these {pool.models} models reaches {goal.quantity} {goal.value:.6g} on the {len(pool)} "
        f"rows that choose; the nearest found is {nearest:.6g}",
        float(nearest),
    )
