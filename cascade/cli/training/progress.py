"""Progress of a training run."""

from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self

from cascade.cli.shared.console import console

if TYPE_CHECKING:
    from cascade.backends.training.recipe import Recipe
    from cascade.backends.training.trainer import Progress as Step

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """A progress bar over all steps with the running loss, and one line per epoch.

    Args:
        recipe: has the number of epochs.
        quiet: show nothing.
    """

    def __init__(self, recipe: "Recipe", quiet: bool = False) -> None:
        self.recipe, self.quiet = recipe, quiet
        columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet)

    def __enter__(self) -> Self:
        self.bar.start()
        self.task = self.bar.add_task("train", total=None, epoch="", loss=float("nan"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, step: "Step") -> None:
        """Moves the bar to the current step."""
        self.bar.update(
            self.task,
            total=self.recipe.epochs * step.steps,
            completed=step.epoch * step.steps + step.step,
            epoch=f"{step.epoch + 1}/{self.recipe.epochs}",
            loss=step.loss,
        )

    def print_epoch(self, record: dict[str, float]) -> None:
        """Prints the record of an epoch, also where the output is a file and there is no bar."""
        if self.quiet:
            return
        figures = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in record.items() if name != "epoch")
        self.bar.console.print(f"epoch {record['epoch'] + 1:.0f}/{self.recipe.epochs}: {figures}")
