"""A path that is learned once, and the same for all rows of a task."""

from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy
from cascade.backends.dynamic.inputs import Inputs, row_count
from cascade.errors import RowsError

__all__ = ["TaskPath"]


class TaskPath(PathPolicy):
    """A static path for each task: logits that are parameters.

    Sun, Panda, Feris, Saenko, "AdaShare: Learning What To Share For Efficient Deep Multi-Task Learning", NeurIPS 2020,
    https://arxiv.org/abs/1911.12423

    Args:
        sizes: (columns, alternatives) of each site, see ``SiteNetwork.sizes``.
        tasks: their number.
        name: of the slice of the row with the number of its task, from 0; without such a slice all rows have task 0.
    """

    looks_at_features = False

    def __init__(self, sizes: Sequence[tuple[int, int]], tasks: int = 1, name: str = "task") -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.tasks = tasks
        self.name = name
        most = max(alternatives for _, alternatives in self.sizes)
        missing = torch.tensor([[a >= own for a in range(most)] for columns, own in self.sizes for _ in range(columns)])
        self.missing: torch.Tensor
        self.register_buffer("missing", missing, persistent=False)
        self.logits = nn.Parameter(torch.zeros(tasks, *missing.shape))

    @override
    def begin(self, images: Inputs) -> torch.Tensor:
        """(n, K, A) logits.

        Raises:
            RowsError: a task that was not trained.
        """
        if isinstance(images, torch.Tensor) or self.name not in images:
            task = torch.zeros(row_count(images), dtype=torch.int64, device=self.logits.device)
        else:
            read = images[self.name].reshape(row_count(images))
            task = read.long()
            wrong = torch.zeros(()) if read.is_meta else ((task != read) | (task < 0) | (task >= self.tasks)).cpu()
            if wrong.any():
                row = int(wrong.nonzero()[0])
                raise RowsError(f"row {row} is of task {read[row].item()}; trained are 0 to {self.tasks - 1}")
        return self.logits[task].masked_fill(self.missing, -torch.inf)

    @override
    def step(self, d: int, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of site ``d``."""
        start = sum(columns for columns, _ in self.sizes[:d])
        columns, alternatives = self.sizes[d]
        own = state[:, start : start + columns, :alternatives]
        return own[:, 0] if columns == 1 else own, state

    @override
    def whole(self, images: Inputs) -> torch.Tensor:
        return self.begin(images)
