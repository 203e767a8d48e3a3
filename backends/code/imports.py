"""Objects named in a configuration as "module:name"."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from cascade.backends.code.module_source import module_source
from cascade.errors import ConfigError

__all__ = ["import_object"]


def import_object(path: str, folder: Path | None = None) -> Any:
    """Imports the object "module:name"; dots after the colon are attributes.

    Args:
        path: "module:name".
        folder: of the configuration, whose modules take precedence; ``None`` if there is none.

    Raises:
        ConfigError: the text has another form, or the module cannot be imported or lacks the name; or this process has
            already imported another module of this name.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{path!r} must have the form 'module:name', for example 'my_models:SmallNet'")
    try:
        found: Any = importlib.import_module(module_name)
        if folder is not None:
            _check_source(found, module_source(path, folder))
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(
            f"{path!r} cannot be imported: {error}; is its module on the Python path, or beside the config?"
        ) from error
    return found


def _check_source(module: ModuleType, source: Path | None) -> None:
    loaded = getattr(module, "__file__", None)
    if source is None or loaded is None or Path(loaded).resolve() == source.resolve():
        return
    if not Path(loaded).is_file() or Path(loaded).read_bytes() != source.read_bytes():
        raise ConfigError(
            f"the module {module.__name__!r} of this configuration is {source}, but this process has already imported "
            f"{loaded} by this name; rename one of them, or load each in its own process"
        )
