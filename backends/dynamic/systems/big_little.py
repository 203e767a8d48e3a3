"""Big-Little Net in which a row runs the big branch of a stage, or leaves it out."""

from typing import Any, cast

import torch
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.gates import LayerGates
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import PickOne
from cascade.backends.networks.big_little import BigLittle, BigLittleStage

__all__ = ["BigBranch", "GatedBigLittle"]


class BigBranch(PickOne):
    """A stage without (alternative 0) or with its big branch.

    Args:
        stage: owns the weights.
    """

    alternatives = 2

    def __init__(self, stage: BigLittleStage) -> None:
        self.stage = stage

    @override
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        return self.stage(x) if alternative else self.stage.without_big(x)


class GatedBigLittle(DynamicNetwork):
    """A linear gate before each stage decides from the means of its input; an extension of the paper.

    Args:
        **arguments: of the :class:`~cascade.backends.networks.big_little.BigLittle`.
    """

    counts_sites = False

    def __init__(self, **arguments: Any) -> None:
        base = BigLittle(**arguments)
        stages = [cast(BigLittleStage, stage) for stage in base.stages]
        super().__init__(base, LayerGates([stage.channels for stage in stages], [1] * len(stages)))

    @property
    @override
    def sites(self) -> SiteNetwork[BigBranch]:
        """One site for each stage."""
        base = cast(BigLittle, self.base)
        sites = tuple(BigBranch(cast(BigLittleStage, stage)) for stage in base.stages)
        return SiteNetwork(base.stem, sites, base.classify)
