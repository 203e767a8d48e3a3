"""Runs a batch in which every row has its own path, and computes only what is on the paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from cascade.backends.dynamic.gates import PathPolicy
from cascade.backends.dynamic.inputs import Inputs, row_count
from cascade.backends.dynamic.site import Route, Site, routes
from cascade.backends.dynamic.site_network import SiteNetwork

__all__ = ["Executor", "Outcome", "chosen", "even_works"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a batch.

    Attributes:
        logits: (n, C).
        paths: (n, K) int64, what each row took in each column of the sites; in the processor's memory.
    """

    logits: torch.Tensor
    paths: torch.Tensor


class Executor:
    """Runs a network along the paths that a policy chooses.

    At each site the rows of each alternative are gathered, run together, and scattered back; packed convolutions run
    them in place (:meth:`~cascade.backends.dynamic.site.Site.take`). An alternative that returns its input costs
    nothing; one that all rows take runs without gathering.

    The processor needs the paths, since it sets the sizes of all tensors. If the policy decides everything at once, the
    paths are copied from the device once per batch, and the indices of all sites are copied to it once. With gates
    inside the network, the processor waits for the device at every site.

    Args:
        network: in evaluation mode.
        policy: in evaluation mode; its weights must not change afterwards.
        price: of work, in units of the policy's logits: ``price * works`` is subtracted from them. 0 is the policy as
            trained, above 0 is cheaper.
    """

    def __init__(self, network: SiteNetwork, policy: PathPolicy, price: float = 0.0) -> None:
        self.network = network
        self.policy = policy
        self.price = price
        self._even_works = even_works(network.alternatives)
        self._scorer = policy.scorer()
        starts = np.cumsum([0, *(site.columns for site in network.sites)]).tolist()
        self._columns = [slice(*ends) for ends in pairwise(starts)]
        self._identities = [_identities(site) for site in network.sites]

    def run(self, inputs: Inputs, works: np.ndarray | None = None) -> Outcome:
        """Runs a batch.

        Args:
            inputs: n >= 0 rows.
            works: (K, A) relative work of each alternative, on which the price is; see :func:`even_works`, the default.
        """
        works = self._even_works if works is None else works
        with torch.inference_mode():
            x = self.network.stem(inputs)
            if self.policy.looks_at_features:
                x, paths = self._find(inputs, x, works)
            else:
                paths = self.policy.paths(inputs, lambda logits: chosen(logits, self.price, works))
                x = self._follow(x, paths)
            return Outcome(self.network.head(x), torch.from_numpy(paths))

    def _follow(self, x: torch.Tensor, paths: np.ndarray) -> torch.Tensor:
        """Runs known paths: (n, ...) features, (n, K) paths."""
        network = self.network
        if len(paths) == 1:
            path = paths[0].tolist()
            for site, columns, identities in zip(network.sites, self._columns, self._identities, strict=True):
                if path[columns.start] not in identities:
                    x = site.take_one(x, path[columns])
            return x
        for site, route in zip(network.sites, routes(paths, network.sizes, x.device), strict=True):
            x = site.take(x, route)
        return x

    def _find(self, inputs: Inputs, x: torch.Tensor, works: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Lets the policy decide at every site, and runs its decision; returns features and paths."""
        state = self._scorer.begin(inputs)
        n = row_count(inputs)
        paths = np.empty((n, self._columns[-1].stop if self._columns else 0), dtype=np.int64)
        changed = True
        for d, site in enumerate(self.network.sites):
            columns = self._columns[d]
            logits, state = self._scorer.step(d, x, state, changed)
            scores = logits.reshape(n, site.columns, logits.shape[-1])
            paths[:, columns] = own = chosen(scores, self.price, works[columns, : scores.shape[2]])
            if n == 1:
                changed = own[0, 0] not in self._identities[d]
                x = site.take_one(x, own[0].tolist()) if changed else x
                continue
            route = Route.of(own, site.alternatives, x.device)
            changed = route.groups[0][0] not in self._identities[d]
            x = site.take(x, route) if changed else x
        return x, paths


def chosen(logits: np.ndarray, price: float, works: np.ndarray) -> np.ndarray:
    """(..., A) -> (...) int64, the best alternative; the last one of equals, and for a NaN.

    Args:
        logits: of the alternatives; minus infinity where a column has fewer than A.
        price: of work.
        works: (..., A), see :func:`even_works`.
    """
    last = logits.shape[-1] - 1
    if price:
        logits = logits - np.asarray(price * works, dtype=logits.dtype)
    return np.asarray(last - logits[..., ::-1].argmax(axis=-1))


def even_works(alternatives: Sequence[int]) -> np.ndarray:
    """(K, A) relative works that rise evenly from 0 to 1 in each column; 0 where a column has fewer alternatives."""
    works = np.zeros((len(alternatives), max(alternatives, default=0)))
    for column, own in enumerate(alternatives):
        works[column, :own] = np.linspace(0, 1, own) if own else 0.0
    return works


def _identities(site: Site) -> frozenset[int]:
    """The alternatives of a site of one column that return their input."""
    return frozenset(a for a in range(site.alternatives) if site.columns == 1 and site.is_identity(a))
