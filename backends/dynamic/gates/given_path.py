"""A path that is read off the row: its program, its task."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy
from cascade.backends.dynamic.inputs import Inputs
from cascade.errors import ConfigError, RowsError

__all__ = ["GivenPath"]


class GivenPath(PathPolicy):
    """Nothing is learned: a slice of the row is the path.

    Args:
        name: of the slice, (n, K) integers.
        alternatives: (K,), the number of alternatives of each column; 0 for keys, which are any number.
    """

    looks_at_features = False
    scored = False

    def __init__(self, name: str, alternatives: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        self.alternatives = np.asarray(alternatives, dtype=np.int64)

    def begin(self, images: Inputs) -> None:
        """No state, and no work."""

    @override
    def paths(self, inputs: Inputs, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The path of each row.

        Raises:
            ConfigError: the input has no such slice.
            RowsError: a path has another length, a value that is no integer, or an alternative that does not exist.
        """
        if isinstance(inputs, torch.Tensor) or self.name not in inputs:
            raise ConfigError(f"the paths are read from {self.name!r}, which is no slice of the input; name it there")
        read = inputs[self.name].cpu().numpy()
        if read.ndim != 2 or read.shape[1] != len(self.alternatives):
            raise RowsError(
                f"{self.name!r} must have {len(self.alternatives)} columns, one for each decision; got {read.shape[1:]}"
            )
        with np.errstate(invalid="ignore"):
            paths = read.astype(np.int64)
        wrong = (paths != read) | ((self.alternatives > 0) & ((paths < 0) | (paths >= self.alternatives)))
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            most = self.alternatives[column]
            allowed = f"an alternative is an integer from 0 to {most - 1}" if most else "a key is an integer"
            raise RowsError(f"row {row}: {self.name!r} has {read[row, column]} in column {column}; {allowed}")
        return paths
