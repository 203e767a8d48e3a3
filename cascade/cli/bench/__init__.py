"""``cascade bench``: throughput, latency, accuracy and cost together."""

from typing import Any

import typer
from typer.core import TyperGroup

from cascade.cli.bench.replay import replay
from cascade.cli.bench.results import compare, plot
from cascade.cli.bench.run import run
from cascade.cli.bench.sweep import sweep

__all__ = ["bench"]


class _Verbs(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Names the verb that has replaced ``cascade bench CONFIG``."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(
                f"the verbs of 'cascade bench' are {', '.join(self.commands)}; got {args[0]!r}. What was "
                "'cascade bench CONFIG' is now 'cascade bench run CONFIG'"
            )
        return super().resolve_command(ctx, args)


bench = typer.Typer(
    name="bench", cls=_Verbs, no_args_is_help=True, help="Measure throughput, latency, accuracy and cost under load."
)
for verb in (run, sweep, replay, compare, plot):
    bench.command()(verb)
