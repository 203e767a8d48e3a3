"""Reading of text files that anyone may have written."""

import zipfile
from pathlib import Path

from cascade.errors import InputError

__all__ = ["read_text"]


def read_text(path: Path | str, what: str, error_type: type[InputError]) -> str:
    """The text of a file.

    Args:
        path: of the file.
        what: it should be, with its article: "a policy (JSON)".
        error_type: raised when the file cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: of ``error_type``: it is a folder, may not be read, or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise error_type(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        came = "an archive, such as .npz" if zipfile.is_zipfile(path) else "no text in UTF-8"
        raise error_type(f"{path} is {came}, where {what} is expected; give the path of that file") from error
