"""How tests are dealt out to workers (pytest-xdist): files stay whole, and one worker starts every Ray.

Two Rays at once take each other's fixed ports and starve on two processors. The groups of ``--dist loadgroup`` would
be enough, but pytest-xdist 3.8 writes them where pytest 9.2 does not read them, and deals out single tests instead.
"""

from functools import cache

import pytest


def pytest_collection_modifyitems(items):
    """What starts Ray takes longest and comes first."""
    items.sort(key=lambda item: item.get_closest_marker("serve") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """The scheduler of ``--dist loadfile``, for which all files that start Ray are one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneRayAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "ray" if starts_ray(config.rootpath / file) else file

    return OneRayAtATime(config, log)


@cache
def starts_ray(path):
    """Whether a test of a file is marked ``serve``."""
    return "pytest.mark.serve" in path.read_text()
