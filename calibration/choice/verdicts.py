"""The verdicts of a choice of a cascade, in sentences that the held-out rows support."""

import numpy as np

from cascade.calibration.choice.cascade_choice import CascadeChoice, ChosenCascade, Comparison, Interval

__all__ = ["verdicts"]


def verdicts(choice: CascadeChoice) -> tuple[str, ...]:
    """Compares the best choice with one model, with the full ladder, and with each model that is left out.

    A difference is clear if its confidence interval excludes 0. With a budget the accuracy is compared, else the
    cost.
    """
    sentences = [*_on_one_model(choice), *_on_fewer_stages(choice), *_on_the_ladder(choice)]
    sentences += [_on_left_out(choice, name) for name in choice.left_out]
    sentences += _on_the_target(choice)
    return tuple(sentences)


def _on_one_model(choice: CascadeChoice) -> list[str]:
    best, single, several = choice.best, choice.best_single, choice.best_several
    if len(choice.models) == 1:
        return [f"the pool has one model, {best.stages[0]!r}: there is nothing to choose"]
    if len(best.stages) == 1:
        if several is None:
            return [f"no cascade: model {best.stages[0]!r} alone is better than every cascade screened"]
        return [
            f"no cascade: model {best.stages[0]!r} alone is better; it {_worth(choice, several.comparison)} the best "
            f"cascade, {_name(several.cascade)}{_doubt(choice, several.comparison)}"
        ]
    if single is None:
        return ["no model alone reaches the target"]
    name = single.cascade.stages[0]
    if _is_clear(choice, single.comparison) and _value(choice, single.comparison) < 0:
        return [f"no cascade: model {name!r} alone is better; the best cascade {_worth(choice, single.comparison)} it"]
    sentence = (
        f"the cascade {_name(best)} {_worth(choice, single.comparison)} model {name!r} alone, the best single one"
    )
    doubt = _doubt(choice, single.comparison, f"; {name!r} alone is simpler")
    return [sentence + _beside(choice, single.comparison) + doubt]


def _on_fewer_stages(choice: CascadeChoice) -> list[str]:
    shorter = choice.best_shorter
    if shorter is None or (_is_clear(choice, shorter.comparison) and _value(choice, shorter.comparison) > 0):
        return []
    comparison, names = shorter.comparison, _name(shorter.cascade)
    doubt = _doubt(choice, comparison, f"; {names} is simpler")
    return [f"the best choice {_worth(choice, comparison)} the best shorter cascade, {names}{doubt}"]


def _on_the_ladder(choice: CascadeChoice) -> list[str]:
    ladder = choice.full_ladder
    if len(choice.models) < 2:
        return []
    if ladder is None:
        return [f"the full ladder of all {len(choice.models)} models cannot be compared: {choice.why_no_ladder}"]
    if ladder.cascade.stages == choice.best.stages:
        return ["the best choice is the full ladder of all models"]
    comparison = ladder.comparison
    beside = _beside(choice, comparison)
    return [f"the best choice {_worth(choice, comparison)} the full ladder{beside}{_doubt(choice, comparison)}"]


def _on_left_out(choice: CascadeChoice, name: str) -> str:
    left_out, unit = choice.left_out[name], choice.cost_unit
    slow = f"{left_out.worst_cost:g} {unit} at worst, the deadline is {choice.deadline or np.inf:g} {unit}"
    within = "" if choice.deadline is None else " within the deadline"
    why = {
        "too slow": f"is too slow for the deadline: {slow}",
        "too slow in a cascade": f"is too slow for the deadline beside any other model: at least {slow}",
        "misses the target": f"cannot be used: every cascade with it that was screened{within} misses the target",
        "answers no row": "never pays: drop it; in the best cascade with it, it would answer no row, or every row",
    }.get(left_out.reason) or _against_the_best_with(choice, name)
    dominated = (
        ""
        if left_out.better is None
        else f" (dominated: {left_out.better!r} has no less {choice.gain} alone and costs no more)"
    )
    return f"stage {_stage(choice, name)}{dominated} {why}"


def _against_the_best_with(choice: CascadeChoice, name: str) -> str:
    alternative = choice.with_model[name]
    comparison = alternative.comparison
    without = f"the best choice {_worth(choice, comparison)} the best cascade with it, {_name(alternative.cascade)}"
    if not _is_clear(choice, comparison):
        return f"is not needed: {without}{_doubt(choice, comparison)}"
    if _value(choice, comparison) > 0:
        return f"never pays: drop it; {without}"
    return f"may pay after all: on the judging rows, {without}; choose again with more rows"


def _on_the_target(choice: CascadeChoice) -> list[str]:
    if choice.best.reaches_target:
        return []
    return [
        f"the best choice misses its target on the {choice.judging_rows} judging rows, by chance or because it only "
        "just reached it on the rows that chose; certify it with 'cascade calibrate'"
    ]


def _value(choice: CascadeChoice, comparison: Comparison) -> float:
    return comparison.gain_difference if choice.goal.name == "max_cost" else comparison.cost_saving


def _interval(choice: CascadeChoice, comparison: Comparison) -> Interval:
    with_budget = choice.goal.name == "max_cost"
    return comparison.gain_difference_interval if with_budget else comparison.cost_saving_interval


def _is_clear(choice: CascadeChoice, comparison: Comparison) -> bool:
    low, high = _interval(choice, comparison)
    return low > 0 or high < 0


def _doubt(choice: CascadeChoice, comparison: Comparison, remedy: str = "") -> str:
    doubt = f", which on these rows cannot be distinguished from no difference{remedy}"
    return "" if _is_clear(choice, comparison) else doubt


def _worth(choice: CascadeChoice, comparison: Comparison) -> str:
    """Such as "costs 41.2 % less [38.0, 44.1] than"."""
    value, (low, high) = _value(choice, comparison), _interval(choice, comparison)
    if value < 0:
        value, low, high = -value, -high, -low
        comparative = "less" if choice.goal.name == "max_cost" else "more"
    else:
        comparative = "more" if choice.goal.name == "max_cost" else "less"
    numbers = f"[{100 * low:.1f}, {100 * high:.1f}]"
    if choice.goal.name == "max_cost":
        return f"has {100 * value:.2f} points {comparative} {choice.gain} [{100 * low:.2f}, {100 * high:.2f}] than"
    return f"costs {100 * value:.1f} % {comparative} {numbers} than"


def _beside(choice: CascadeChoice, comparison: Comparison) -> str:
    """The other quantity, which the target does not constrain."""
    if choice.goal.name == "max_cost":
        more, (low, high), what = -comparison.cost_saving, comparison.cost_saving_interval, "% cost"
        low, high = -high, -low
    else:
        more, (low, high) = comparison.gain_difference, comparison.gain_difference_interval
        what = f"points {choice.gain}"
    return f" ({100 * more:+.2f} {what} [{100 * low:+.2f}, {100 * high:+.2f}])"


def _stage(choice: CascadeChoice, name: str) -> str:
    return f"{choice.models.index(name) + 1} ({name})"


def _name(cascade: ChosenCascade) -> str:
    return " -> ".join(cascade.stages)
