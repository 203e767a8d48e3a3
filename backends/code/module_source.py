"""The source file of a user's module, found without running it."""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

__all__ = ["module_source"]

OWN = "cascade"


def module_source(path: str, folder: Path) -> Path | None:
    """The file of the module in "module:name".

    The search is that of an import: the folder of the configuration, then the Python path.

    Args:
        path: "module:name".
        folder: of the configuration.

    Returns:
        The file; ``None`` if there is none, and for modules of this package, whose releases must not invalidate
        policies.
    """
    module = path.partition(":")[0]
    parts = module.split(".")
    if parts[0] == OWN:
        return None
    spec = _top_level(parts[0], folder)
    for end in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), list(spec.submodule_search_locations))
    source = None if spec is None or spec.origin is None else Path(spec.origin)
    return source if source is not None and source.is_file() else None


def _top_level(name: str, folder: Path) -> ModuleSpec | None:
    for finder in sys.meta_path:
        path = [str(folder), *sys.path] if finder is PathFinder else None
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None
