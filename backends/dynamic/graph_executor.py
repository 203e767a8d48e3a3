"""Runs a batch in which every row has its own path, by CUDA graphs."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch

from cascade.backends.dynamic.executor import Outcome, chosen, even_works
from cascade.backends.dynamic.feature_rows import put_rows, some_rows
from cascade.backends.dynamic.gates import PathPolicy
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import PickOne

__all__ = ["GraphExecutor", "bucket", "replayable"]

WARM_UP_CALLS = 3  # before a capture, in which libraries choose kernels and allocate memory


class GraphExecutor:
    """Runs a network along the paths that a policy chooses from the images, with CUDA graphs.

    Each alternative of a site has one CUDA graph per size of its group of rows, rounded up to a bucket: it gathers
    the rows, runs them, and scatters them back. Buckets are padded with an unused row. The processor waits for the
    device twice per batch: for the paths, and for the answers.

    Graphs are captured at their first use. On a processor the same steps run without graphs.

    Args:
        network: in evaluation mode.
        policy: in evaluation mode; decides everything from the images, by scores.
        price: see :class:`~cascade.backends.dynamic.executor.Executor`.

    Raises:
        ValueError: the policy needs features, so that paths are not known in advance; or it has no scores; or a site is
            of another kind than "pick one".
    """

    def __init__(self, network: SiteNetwork, policy: PathPolicy, price: float = 0.0) -> None:
        if policy.looks_at_features:
            raise ValueError("graphs need a policy that decides from the image alone; this one needs features")
        if not policy.scored or not all(isinstance(site, PickOne) for site in network.sites):
            raise ValueError("graphs need sites of the kind 'pick one' and a policy that scores their alternatives")
        self.network = network
        self.policy = policy
        self.price = price
        self._even_works = even_works(network.alternatives)
        self._batches: dict[tuple[int, torch.Size, torch.dtype], _GraphedBatch] = {}
        self._lock = threading.Lock()

    def run(self, images: torch.Tensor, works: np.ndarray | None = None) -> Outcome:
        """Runs a batch: (n, 3, h, w), n >= 0; ``works`` as for the executor without graphs."""
        works = self._even_works if works is None else works
        size = bucket(max(len(images), 1))
        key = (size, images.shape[1:], images.dtype)
        with self._lock, torch.inference_mode():
            if key not in self._batches:
                self._batches[key] = _GraphedBatch(self.network, self.policy, images, size)
            return self._batches[key].run(images, self.price, works)


class _GraphedBatch:
    """Memory and graphs for batches of images of one size.

    Args:
        network: of sites that pick one.
        policy: decides everything at once.
        images: (n, 3, h, w), as an example.
        size: maximum number of images. All features have one more row, which pads the buckets.
    """

    def __init__(self, network: SiteNetwork, policy: PathPolicy, images: torch.Tensor, size: int) -> None:
        self.network, self.policy, self.size = network, policy, size
        self._device = images.device
        empty = images.new_zeros(size + 1, *images.shape[1:])
        self._images = empty.contiguous(memory_format=torch.channels_last)
        self._features = list(_features(network, self._images))
        self._logits = network.head(self._features[-1][:size]).clone()
        self._scores = policy.whole(self._images[:size]).clone()
        rows = torch.full((len(network.sites), self._scores.shape[2], size), size)
        self._rows = rows.pin_memory() if images.is_cuda else rows
        self._device_rows = self._rows.to(self._device, copy=True)
        self._pool = torch.cuda.graph_pool_handle() if images.is_cuda else None
        self._begin, self._end = self._replayable(self._start), self._replayable(self._answer)
        self._graphs: dict[tuple[int, int, int], Callable[[], None]] = {}

    def run(self, images: torch.Tensor, price: float, works: np.ndarray) -> Outcome:
        """Runs up to ``size`` images."""
        n = len(images)
        self._images[:n].copy_(images)
        self._begin()
        paths = chosen(self._scores[:n].float().cpu().numpy(), price, works)
        steps = list(self._steps(paths))
        self._device_rows.copy_(self._rows, non_blocking=True)
        for step in steps:
            step()
        self._end()
        return Outcome(self._logits[:n].clone(), torch.from_numpy(paths))

    def _steps(self, paths: np.ndarray) -> Iterator[Callable[[], None]]:
        """The graphs of a batch, in order; writes the indices of their rows."""
        indices = self._rows.numpy()
        indices.fill(self.size)
        for d, site in enumerate(self.network.sites):
            for alternative in range(site.alternatives):
                mine = np.flatnonzero(paths[:, d] == alternative)
                if len(mine) and not site.is_identity(alternative):
                    indices[d, alternative, : len(mine)] = mine
                    yield self._graph(d, alternative, bucket(len(mine)))

    def _graph(self, d: int, alternative: int, rows: int) -> Callable[[], None]:
        key = (d, alternative, rows)
        if key not in self._graphs:
            self._device_rows.fill_(self.size)  # a capture runs the function, here on the unused row
            self._graphs[key] = self._replayable(lambda: self._run_rows(*key))
        return self._graphs[key]

    def _start(self) -> None:
        self._scores.copy_(self.policy.whole(self._images[: self.size]))
        self._features[0].copy_(self.network.stem(self._images))

    def _run_rows(self, d: int, alternative: int, rows: int) -> None:
        mine = self._device_rows[d, alternative, :rows]
        part = _picking(self.network)[d].run(alternative, some_rows(self._features[d], mine))
        put_rows(self._features[d + 1], mine, part)

    def _answer(self) -> None:
        self._logits.copy_(self.network.head(self._features[-1][: self.size]))

    def _replayable(self, function: Callable[[], None]) -> Callable[[], None]:
        return replayable(function, self._device, self._pool)


def bucket(rows: int) -> int:
    """The number of rows, rounded up to the next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    power = 1 << (rows - 1).bit_length()
    return power * 3 // 4 if power >= 4 and rows <= power * 3 // 4 else power


def replayable(function: Callable[[], None], device: torch.device, pool: Any = None) -> Callable[[], None]:
    """A function as a CUDA graph; on a processor, the function itself.

    Args:
        function: works on tensors with fixed addresses; it is called a few times here.
        device: of the tensors.
        pool: memory pool shared by graphs that never run at the same time.
    """
    if device.type != "cuda":
        return function
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        function()
    return graph.replay


def _features(network: SiteNetwork, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Memory of the input of each site and of the head; shared if a site keeps the shape."""
    x = network.stem(images).contiguous(memory_format=torch.channels_last).clone()
    yield x
    for site in _picking(network):
        y = site.run(site.alternatives - 1, x)
        if y.shape != x.shape:
            x = y.contiguous(memory_format=torch.channels_last).clone()
        yield x


def _picking(network: SiteNetwork) -> tuple[PickOne, ...]:
    return cast(tuple[PickOne, ...], network.sites)
