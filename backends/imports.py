"""Objects named in a configuration as "module:name"."""

import importlib
from typing import Any

from cascade.errors import ConfigError

__all__ = ["import_object"]


def import_object(path: str) -> Any:
    """Imports what "module:name" names; dots after the colon reach into classes.

    Raises:
        ConfigError: the text has another form, the module cannot be imported, or it lacks the name.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{path!r} must have the form 'module:name', for example 'my_models:SmallNet'")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(
            f"{path!r} cannot be imported: {error}; is its module on the Python path, or beside the config?"
        ) from error
    return found
