"""``cascade check``: whether config, models, policy and score table fit each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.console import JsonOption, print_result

if TYPE_CHECKING:
    import numpy as np

    from cascade.stage import Stage

__all__ = ["check"]


def check(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration (YAML).")],
    policy_path: Annotated[Path | None, typer.Option("--policy", help="Policy [default: the config's].")] = None,
    scores: Annotated[Path | None, typer.Option(help="Score table to hold against the config.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Load everything and push one row through all stages; nothing is written or served."""
    from cascade.calibration import PolicySet, ScoreTable
    from cascade.cascade import check_models, check_table, load_stages
    from cascade.config import CascadeConfig
    from cascade.rows import example_row

    config = CascadeConfig.load(config_path)
    names = [stage.name for stage in config.stages]
    stages = load_stages(config.stages, config_path.resolve().parent)
    row = example_row(config.rows)
    for stage in stages:
        _try(stage, row)
    result: dict[str, object] = {"config": str(config_path), "stages": names, "policy": None}
    path = policy_path or config.policy
    if policy_path is not None or path.exists():
        policies = PolicySet.load(path)
        for policy in policies.gears:
            check_models(policy, config.stages)
        result["policy"] = policies.version
        result["guarantee"] = policies.best.certificate.get("guarantee", "none")
    if scores is not None:
        table = ScoreTable.load(scores)
        check_table(table, config)
        result["score_table_rows"] = len(table)
    print_result(result, as_json)


def _try(stage: "Stage", row: "np.ndarray") -> None:
    from cascade.errors import CascadeError, CheckFailed

    try:
        stage.raw_confidence(stage.predict(row))
    except CascadeError:
        raise
    except Exception as error:  # a model may raise anything
        raise CheckFailed(
            f"stage {stage.name!r} cannot answer a row of shape {row.shape[1:]} and type {row.dtype}: "
            f"{type(error).__name__}: {error}"
        ) from error
