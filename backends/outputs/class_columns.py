"""From a model's own classes to those of the cascade."""

from collections.abc import Sequence

import numpy as np

from cascade.errors import ConfigError
from cascade.rows.labels import integers_are_names

__all__ = ["ClassColumns"]

MOST_SPARSE_COLUMNS = 1000
"""Larger ids with most numbers unused are names rather than ids."""


class ClassColumns:
    """Maps a model's classes to ids: by name, or directly if they are ids.

    Whole numbers are names if the configuration's classes include whole numbers (``integers_are_names``), regardless of
    this model's classes; otherwise they are ids.

    Args:
        own: (M,) the model's classes, in the order of its columns.
        names: of the cascade's classes 0 to C - 1; ``None`` if the configuration has none.
        source: name of the model in messages.

    Attributes:
        ids: (M,) int64, the id of each of the model's classes.
        columns: C; without names, the largest id plus one.

    Raises:
        ConfigError: a class has no id.
    """

    def __init__(self, own: np.ndarray, names: Sequence[str] | None, source: str) -> None:
        self._own = own
        self._order = np.argsort(own, kind="stable")
        self.ids = _ids(own, names, source)
        self.columns = int(self.ids.max()) + 1 if names is None else len(names)
        if len(set(self.ids.tolist())) < len(own):
            raise ConfigError(f"{source} has classes that share an id: {own.tolist()}")
        if names is None and self.columns > max(MOST_SPARSE_COLUMNS, 10 * len(own)):
            raise ConfigError(
                f"{source} has {len(own)} classes up to {own.max()}, too sparse for ids; name them in the config: "
                f"{_line(own)}"
            )
        self._is_identity = self.ids.tolist() == list(range(self.columns))

    def spread(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, M) in the model's order -> (n, C) in the order of the ids, 0 for classes that the model lacks."""
        if self._is_identity:
            return probabilities
        wide = np.zeros((len(probabilities), self.columns), probabilities.dtype)
        wide[:, self.ids] = probabilities
        return wide

    def places(self, answers: np.ndarray) -> np.ndarray:
        """(n,) of the model's classes -> (n,) int, their columns in the model's order.

        Raises:
            ConfigError: an answer is not one of its classes.
        """
        found = np.searchsorted(self._own, answers, sorter=self._order).clip(max=len(self._own) - 1)
        places = self._order[found]
        if not np.array_equal(self._own[places], answers):
            raise ConfigError(f"predict() returned classes that are not in classes_: {self._own.tolist()}")
        return np.asarray(places)


def _ids(own: np.ndarray, names: Sequence[str] | None, source: str) -> np.ndarray:
    texts = [str(each) for each in own.tolist()]
    whole = own.dtype.kind in "iub" or (own.dtype.kind == "f" and bool((own == np.floor(own)).all()))
    by_name = {name: place for place, name in enumerate(names or ())}
    if whole and not set(texts) <= set(by_name):
        texts = [str(int(each)) for each in own.tolist()]  # 1.0 and True are 1
    if set(texts) <= set(by_name):
        return np.array([by_name[text] for text in texts], dtype=np.int64)
    end = np.inf if names is None else len(names)
    if whole and own.min() >= 0 and own.max() < end and not integers_are_names(by_name):
        return own.astype(np.int64)
    if names is None:
        raise ConfigError(
            f"{source} has the classes {texts}, which are not ids (whole numbers from 0 on); name all classes of the "
            f"cascade in the config, in the order of their ids: {_line(own)}"
        )
    unknown = [text for text in texts if text not in names]
    raise ConfigError(
        f"{source} has classes that are not in the config's 'classes': {unknown}; the config has {list(names)}. Use "
        "the model's names"
    )


def _line(own: np.ndarray) -> str:
    """The line for the configuration."""
    names = [str(each) for each in own.tolist()]
    return f"classes: [{', '.join(name if name.isidentifier() else repr(name) for name in names)}]"
