"""Labels: from texts or integers to class ids."""

import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from cascade.errors import DataError

__all__ = ["checked_ids", "integers_are_names", "label_ids", "label_values"]

MOST_LISTED = 1000
LARGEST_ID = np.iinfo(np.int64).max
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")


def label_ids(label: Any, classes: Sequence[str] | None = None) -> np.ndarray:
    """The id of every label.

    With ``classes``, texts are class names, and so are integers if :func:`integers_are_names`; otherwise integers are
    ids. Without ``classes``, labels must be integers >= 0, and are ids.

    Args:
        label: (n,) texts, UTF-8 bytes, integers or booleans.
        classes: (C,) different names of the ids 0 to C - 1; ``None`` if there are none.

    Returns:
        (n,) int64 >= 0, below C if classes are given.

    Raises:
        DataError: a label is not one of the classes, is missing, or is neither a text nor an integer; or two classes
            have the same name.
    """
    values = label_values(label)
    if classes is not None:
        return _ids_in(values, classes)
    if values.dtype.kind == "U" or (values < 0).any():
        raise DataError(_needs_classes(values))
    return _as_ids(values)


def integers_are_names(classes: Collection[str]) -> bool:
    """Whether integers are class names, as for classes called "-1" and "1"; otherwise they are ids.

    This depends on the classes alone, never on the values; otherwise 1 could be a name in one file or model, and an id
    in another.

    Args:
        classes: (C,) names.
    """
    return any(WHOLE_NUMBER.fullmatch(name) for name in classes)


def checked_ids(label: Any, classes: Sequence[str] | None = None) -> np.ndarray:
    """Checks labels that are class ids already, not names.

    Args:
        label: (n,) integers or booleans.
        classes: (C,) names of the ids 0 to C - 1; ``None`` if there are none.

    Returns:
        (n,) int64 >= 0, below C if classes are given.

    Raises:
        DataError: a label is not an id.
    """
    values = label_values(label)
    if values.dtype.kind == "U":
        raise DataError("label must be ids of classes; got texts (cascade.label_ids maps names to ids)")
    end = np.inf if classes is None else len(classes)
    row = _first((values < 0) | (values >= end))
    if row is not None:
        wanted = "from 0 on" if classes is None else f"from 0 to {len(classes) - 1}"
        raise DataError(f"label must be ids {wanted}; got {values[row].item()} at row {row}")
    return _as_ids(values)


def label_values(label: Any) -> np.ndarray:
    """Labels as a plain array.

    Args:
        label: (n,) texts, UTF-8 bytes, integers or booleans.

    Returns:
        (n,) str, int or bool; bytes become str.

    Raises:
        DataError: a label is missing, or is neither a text nor an integer.
    """
    if np.ma.isMaskedArray(label) and (row := _first(np.ma.getmaskarray(label).ravel())) is not None:
        raise DataError(f"every row must have a label; row {row} is masked (leave such rows out)")
    # NumPy would convert numbers and missing values among texts to texts, such as 'nan'.
    array = np.array(label, dtype=object) if isinstance(label, list | tuple) else np.asarray(label)
    if array.ndim != 1:
        raise DataError(f"label must be (n,), one label per row; got shape {array.shape}")
    if array.dtype.kind in "OS":
        return _from_objects(array.tolist())
    if array.dtype.kind not in "biuU":
        raise DataError(_wrong_type(array))
    return array


def _from_objects(objects: list[Any]) -> np.ndarray:
    values = [_decoded(value, row) if isinstance(value, bytes) else value for row, value in enumerate(objects)]
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=str)
    if all(isinstance(value, int | np.integer) for value in values):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError as error:
            raise DataError("label must be integers of 64 bits; one is too large") from error
    row = next((row for row, v in enumerate(values) if not isinstance(v, str | int | np.integer)), None)
    if row is None:
        raise DataError("label must be all texts or all integers; got both")
    raise DataError(f"label must be texts or integers; got {values[row]!r} at row {row}")


def _decoded(value: bytes, row: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"label must be UTF-8; got {value!r} at row {row}") from error


def _wrong_type(array: np.ndarray) -> str:
    wrong = f"label must be {len(array)} integers or texts; got {array.dtype}"
    if array.dtype.kind != "f":
        return wrong
    row = _first(~np.isfinite(array))
    if row is not None:
        return f"{wrong}, with {array[row]} at row {row} (leave rows without a label out)"
    return f"{wrong} (if they are ids, store label.astype(int))"


def _ids_in(values: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    place = {name: index for index, name in enumerate(classes)}
    if len(place) < len(classes):
        raise DataError(f"classes must have different names; got {_listed(classes)}")
    if values.dtype.kind == "b" and {"True", "False"}.isdisjoint(place):
        values = values.astype(np.int64)
    if values.dtype.kind in "Ub" or integers_are_names(place):
        found, inverse = np.unique(values, return_inverse=True)
        ids = np.array([place.get(str(value), -1) for value in found.tolist()], dtype=np.int64)[inverse.ravel()]
        wrong, wanted = ids < 0, "a name"
    else:
        wrong, wanted = (values < 0) | (values >= len(classes)), f"an id from 0 to {len(classes) - 1}"
        ids = np.where(wrong, 0, values).astype(np.int64)
    row = _first(wrong)
    if row is None:
        return ids
    got = values[row].item()
    hint = _nearly(got, classes)
    raise DataError(f"label must be {wanted} of the classes {_listed(classes)}; got {got!r} at row {row}{hint}")


def _nearly(got: Any, classes: Sequence[str]) -> str:
    """A hint if a class has nearly the same name; the two may look alike on a screen."""
    near = next((name for name in classes if _plain(name) == _plain(str(got))), None)
    if near is None:
        return ""
    return (
        f"; the class {near!a} is spelled differently: {str(got)!a} (spaces, case, or the form of an accented letter)"
    )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _as_ids(values: np.ndarray) -> np.ndarray:
    if len(values) and values.max() > LARGEST_ID:
        raise DataError(f"label must be at most {LARGEST_ID}; got {values.max()} at row {values.argmax()}")
    return values.astype(np.int64)


def _needs_classes(values: np.ndarray) -> str:
    found = np.unique(values).tolist()
    kind = "texts" if values.dtype.kind == "U" else "negative integers"
    wrong = f"label holds {kind}, and there are no classes with these names; add to the configuration"
    if len(found) > MOST_LISTED:
        return f"{wrong} a line 'classes: [...]' with all {len(found)} of them"
    names = ", ".join(json.dumps(name, ensure_ascii=not name.isprintable()) for name in map(str, found))
    missing = "" if kind == "texts" else "\n(or leave the rows out, if a negative label means that there is none)"
    return f"{wrong}\nclasses: [{names}]{missing}"


def _listed(classes: Sequence[str]) -> str:
    names = ", ".join(map(repr, classes[:20]))
    return f"[{names}, ... {len(classes)} in total]" if len(classes) > 20 else f"[{names}]"


def _first(wrong: np.ndarray) -> int | None:
    """Index of the first True; ``None`` if there is none."""
    return int(wrong.argmax()) if wrong.any() else None
