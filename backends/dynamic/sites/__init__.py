"""The kinds of sites."""

from cascade.backends.dynamic.sites.keyed import Keyed
from cascade.backends.dynamic.sites.parts import Parts
from cascade.backends.dynamic.sites.pick_one import Branch, PickOne
from cascade.backends.dynamic.sites.skip import SkipSite
from cascade.backends.dynamic.sites.subset import Subset

__all__ = ["Branch", "Keyed", "Parts", "PickOne", "SkipSite", "Subset"]
