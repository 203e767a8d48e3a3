"""What chosen cascades cost on whole images, where the first stage evaluates pyramid levels."""

from cascade.calibration.choice.cascade_choice import CascadeChoice, ChosenCascade
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["on_levels"]


def on_levels(choice: CascadeChoice, table: ScoreTable) -> tuple[str, ...]:
    """Sentences about the first stages whose ``level_share`` the table has; none without them.

    Every row reaches the first stage, so a cascade costs less by ``1 - level_share`` of that stage's cost alone.

    Args:
        choice: from this table.
        table: of the pool.
    """
    if table.level_share is None:
        return ()
    compared = (choice.best_single, choice.best_several, choice.best_shorter, choice.full_ladder)
    others = [*compared, *choice.with_model.values()]
    cascades = [*choice.choices, *(other.cascade for other in others if other is not None)]
    costs = {cascade.stages: _cost(cascade, choice, table) for cascade in cascades}
    cheapest = min(costs, key=lambda stages: costs[stages])
    listed = ", ".join(f"{' -> '.join(stages)} {cost:.4g} {choice.cost_unit}" for stages, cost in costs.items())
    sentences = [
        "all costs above are of gathered windows, as 'POST /detect' runs them; on whole images, as 'cascade detect' "
        f"runs them, the first stage evaluates pyramid levels, which makes the costs: {listed}"
    ]
    if choice.goal.name != "max_cost" and cheapest != choice.best.stages:
        sentences.append(f"for 'cascade detect', {' -> '.join(cheapest)} is cheaper than the best choice above")
    return tuple(sentences)


def _cost(cascade: ChosenCascade, choice: CascadeChoice, table: ScoreTable) -> float:
    """Mean cost of a row."""
    first = table.select(cascade.stages[:1])
    prices = first.prices(choice.arrivals or DEFAULT_ARRIVALS)
    alone = float(first.cost.mean()) if prices is None else prices.total(first.work.mean(axis=0))
    share = 1.0 if first.level_share is None else float(first.level_share[0])
    return cascade.mean_cost - (1 - share) * alone if share == share else cascade.mean_cost
