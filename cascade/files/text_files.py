"""Text files from any source."""

import zipfile
from pathlib import Path

from cascade.errors import InputError

__all__ = ["read_text"]


def read_text(path: Path | str, what: str, error_type: type[InputError]) -> str:
    """The text of a file.

    Args:
        path: of the file.
        what: the expected content, with its article: "a policy (JSON)".
        error_type: raised if the file cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: of ``error_type``: it is a folder, is not readable, or is not text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise error_type(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        found = "an archive, such as .npz" if zipfile.is_zipfile(path) else "not UTF-8 text"
        raise error_type(f"{path} is {found}, where {what} is expected; give the path of that file") from error
