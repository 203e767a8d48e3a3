r"""Which part of the operations that a dynamic network saves does it save in time, against itself run whole?

    python -m cascade.benchmarks.experiments.networks.realised_saving
    python -m cascade.benchmarks.experiments.networks.realised_saving --device cuda --precision bfloat16 \
        --out benchmarks/results/gpu/realised_saving_cuda.json

Realised saving = (1 - time / dense time) / (1 - operations / dense operations); the gates count in both. Rows take
random paths: every block of every row runs with the probability that was published (0.31 for BlockDrop's ResNet-110 on
32 x 32 pixels, 0.75 for its ResNet-101 on 224 x 224), each on its own, so that nearly every row has a path of its own,
which is the worst case; "few paths" draws them from ten. The policies do their whole work, then the random paths
replace the paths that they choose. Weights are random, which changes no time.

All ways are measured in turn, some batches in a row, and each batch has new paths. The dense time is the better of two:
batch norms folded and channels-last, and the same with packed convolutions, or on a graphics processor as one CUDA
graph. Two known ways are measured beside it: "masked" computes every block and multiplies by 0 or 1 (SkipNet), "any
row" leaves out the blocks that no row of the batch needs (BlockDrop). A cell that fails, for lack of memory for
instance, is recorded with its error; where CUDA graphs cannot be captured, it is measured without them, and names the
reason.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.graph_executor import GraphExecutor, replayable
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import skippable
from cascade.backends.networks.packing import pack_convolutions
from cascade.benchmarks.experiments.networks.dynamic_networks import run_whole
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.random_networks import GivenPaths, base_network, masked, policy_of, ready
from cascade.cli.shared.console import console

KEEP = {"resnet110": 0.31, "resnet101": 0.75}
SIZE = {"resnet110": 32, "resnet101": 224}
BATCHES = {
    "cpu": {"resnet110": (1, 8, 64, 256), "resnet101": (1, 8, 64)},
    "cuda": {"resnet110": (1, 64, 256, 1024), "resnet101": (1, 64, 256)},
}
# The convolutional gate of a bottleneck block would cost more than the block.
GATES = {"resnet110": ("one-shot", "recurrent", "convolutional"), "resnet101": ("one-shot", "recurrent")}
FEW_PATHS = 10
LEAST_REPEATS = 3
TURN_S = 0.1
LARGE_BATCH = 64


class Race:
    """One network with one kind of gate, in every way.

    Args:
        name: of the network.
        gate: kind of the policy.
        eager: the network, where and in the numbers that it is to run in.
        clock: seconds.
        policy: width and stride of the stem of the one-shot policy of ResNet-110.
    """

    def __init__(
        self, name: str, gate: str, eager: nn.Module, clock: Callable[[], float], policy: tuple[int, int] = (16, 1)
    ) -> None:
        self.name, self.gate, self.eager, self.clock = name, gate, eager, clock
        weight = next(eager.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        keep_first = gate != "one-shot"
        network = skippable(eager, keep_first)  # type: ignore[arg-type]
        gates = ready(policy_of(name, gate, network, *policy)).to(weight)
        self.costs = PathCosts.count(network, gates, self.images(1))  # type: ignore[arg-type]
        if self.device.type == "cpu":
            network = skippable(pack_convolutions(copy.deepcopy(eager)), keep_first)  # type: ignore[arg-type]
            pack_convolutions(gates)
        self.network, self.given = network, GivenPaths(gates, self.device)  # type: ignore[arg-type]
        self.use_graphs(self.device.type == "cuda")

    def use_graphs(self, use: bool) -> None:
        """Whether to use CUDA graphs, for the whole network and where paths are known before it runs."""
        self.graphs = use
        graphed = use and self.gate == "one-shot"
        self.executor = (GraphExecutor if graphed else Executor)(self.network, self.given)

    def images(self, batch: int) -> torch.Tensor:
        """(batch, 3, size, size) of noise."""
        size = SIZE[self.name]
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        return images.to(self.device, self.dtype)

    @property
    def best_dense_name(self) -> str:
        """How the whole network runs: as a CUDA graph, packed, or block by block in place."""
        return "dense_graph" if self.graphs else "dense_packed" if self.device.type == "cpu" else "dense_in_place"

    def best_dense(self, images: torch.Tensor) -> Callable[[], object]:
        """The whole network at its fastest."""
        if not self.graphs:
            return lambda: run_whole(self.network, images)
        result = self.eager(images)
        return replayable(lambda: result.copy_(self.eager(images)), self.device)

    def cell(self, batch: int, seconds: float, few: bool, others: bool) -> dict[str, Any]:
        """Like ``run``; without graphs if they cannot be captured, and with only "error" if it fails."""
        known: dict[str, Any] = {"network": self.name, "gate": self.gate, "batch": batch, "few_paths": few}
        known["policy_flops_share"] = self.costs.policy / self.costs.dense
        for graphs in (True, False) if self.graphs else (False,):
            self.use_graphs(graphs)
            try:
                return known | self.run(batch, seconds, few, others)
            except (RuntimeError, AssertionError) as error:
                if not graphs or isinstance(error, torch.cuda.OutOfMemoryError):
                    return known | {"error": f"{type(error).__name__}: {error}"}
                known["without_graphs"] = f"{type(error).__name__}: {error}"
        raise AssertionError("unreachable")

    def run(self, batch: int, seconds: float, few: bool, others: bool) -> dict[str, Any]:
        """Times everything until the seconds are over; returns the medians and the realised savings."""
        images, blocks = self.images(batch), len(self.network.sites)
        few_paths = (torch.rand(FEW_PATHS, blocks) < KEEP[self.name]).long()

        def draw() -> torch.Tensor:
            paths = (torch.rand(batch, blocks) < KEEP[self.name]).long()
            return few_paths[torch.randint(FEW_PATHS, (batch,))] if few else paths

        def dynamic(paths: torch.Tensor) -> None:
            self.given.take(paths)
            self.executor.run(images)

        with torch.inference_mode():
            best_dense = self.best_dense(images)
        ways: dict[str, Callable[[torch.Tensor], object]] = {
            "dense_eager": lambda _: self.eager(images),
            self.best_dense_name: lambda _: best_dense(),
            "dynamic": dynamic,
        }
        if others:
            ways["masked"] = lambda paths: masked(self.network, images, paths, some_only=False)
            ways["any_row"] = lambda paths: masked(self.network, images, paths, some_only=True)
        with torch.inference_mode():
            self._warm_up(dynamic, draw, seconds / 3)
            rounds = list(self._rounds(ways, draw, seconds))
        return summary(rounds, self.costs.dense)

    def _warm_up(
        self, dynamic: Callable[[torch.Tensor], None], draw: Callable[[], torch.Tensor], seconds: float
    ) -> None:
        """oneDNN compiles a convolution for every number of rows at its first use."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            dynamic(draw())

    def _rounds(
        self, ways: dict[str, Callable[[torch.Tensor], object]], draw: Callable[[], torch.Tensor], seconds: float
    ) -> Iterator[dict[str, float]]:
        """Of each repeat: mean operations of a row, and the seconds of a batch in every way."""
        end, done = time.perf_counter() + seconds, 0
        calls = self._calls_a_turn(ways["dense_eager"], draw())
        while done < LEAST_REPEATS or time.perf_counter() < end:
            drawn = [draw() for _ in range(calls)]
            times = {"flops": float(self.costs.of(torch.cat(drawn)).mean())}
            for name, way in ways.items():
                way(drawn[0])
                begin = self.clock()
                for paths in drawn:
                    way(paths)
                times[name] = (self.clock() - begin) / calls
            yield times
            done += 1

    def _calls_a_turn(self, way: Callable[[torch.Tensor], object], paths: torch.Tensor) -> int:
        """Batches that a way runs one after the other, as it would in service, before it is another's turn."""
        begin = time.perf_counter()
        way(paths)
        return math.ceil(TURN_S / (time.perf_counter() - begin))


def synchronized() -> float:
    """Seconds, when the device has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def summary(rounds: list[dict[str, float]], dense_flops: float) -> dict[str, Any]:
    """Medians over the repeats, and realised savings with their quartiles."""
    columns = {name: np.array([each[name] for each in rounds]) for name in rounds[0]}
    dense = min((column for name, column in columns.items() if name.startswith("dense")), key=np.median)
    saved_flops = 1 - columns["flops"] / dense_flops
    found: dict[str, Any] = {
        "repeats": len(rounds),
        "ms": {name: float(np.median(column) * 1e3) for name, column in columns.items() if name != "flops"},
        "least_ms": {name: float(column.min() * 1e3) for name, column in columns.items() if name != "flops"},
        "saved_flops": float(saved_flops.mean()),
        "saved_time": float(1 - np.median(columns["dynamic"]) / np.median(dense)),
        "realised": {},
    }
    for name in [name for name in columns if name != "flops" and not name.startswith("dense")]:
        paired = (1 - columns[name] / dense) / saved_flops
        found["realised"][name] = {
            "of_medians": float((1 - np.median(columns[name]) / np.median(dense)) / saved_flops.mean()),
            "of_minima": float((1 - columns[name].min() / dense.min()) / saved_flops.mean()),
            "quartiles": np.quantile(paired, [0.25, 0.5, 0.75]).tolist(),
        }
    return found


def main(
    networks: Annotated[str, typer.Option(help="With commas.")] = "resnet110,resnet101",
    batches: Annotated[str, typer.Option(help="With commas; by default 1, 8 and more, as the network allows.")] = "",
    gates: Annotated[
        str, typer.Option(help="With commas; by default one-shot, recurrent, and convolutional where it may pay.")
    ] = "",
    policy_width: Annotated[int, typer.Option(min=1, help="Of the one-shot policy of ResNet-110.")] = 16,
    policy_stem_stride: Annotated[int, typer.Option(min=1, help="Of the same; 1 in the paper.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16; the latter on cuda.")] = "float32",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="For each batch size, warm-up not counted.")] = 5.0,
    processor_time: Annotated[
        bool, typer.Option("--processor-time", help="Measure processor time, on a machine with other work.")
    ] = False,
) -> Iterator[Found]:
    """Measure the realised saving of dynamic networks on this machine."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = time.process_time if processor_time else time.perf_counter if device == "cpu" else synchronized
    options = {
        "device": device,
        "precision": precision,
        "policy": {"width": policy_width, "stem_stride": policy_stem_stride},
        "threads": threads,
        "seconds": seconds,
        "clock": "processor" if processor_time else "wall",
    }
    cells: list[dict[str, Any]] = []
    for name in networks.split(","):
        eager = base_network(name, device, getattr(torch, precision))
        for gate in gates.split(",") if gates else GATES[name]:
            race = Race(name, gate, eager, clock, (policy_width, policy_stem_stride))
            for batch in map(int, batches.split(",")) if batches else BATCHES[device][name]:
                for few in (False, True) if gate == "one-shot" and batch >= LARGE_BATCH else (False,):
                    cells.append(race.cell(batch, seconds, few, others=gate == "one-shot" and not few))
                    console.print(line_of(cells[-1]), highlight=False)
                    yield {"options": options, "keep_rate": KEEP, "cells": cells}


def line_of(cell: dict[str, Any]) -> str:
    """A cell in one line."""
    name = f"{cell['network']} {cell['gate']}{' few paths' if cell['few_paths'] else ''} batch {cell['batch']}"
    if "error" in cell:
        return f"{name}: {cell['error']}"
    realised = ", ".join(f"{way} {value['of_medians']:.3f}" for way, value in cell["realised"].items())
    saved = f"saved {cell['saved_flops']:.3f} of the operations, {cell['saved_time']:.3f} of the time"
    return f"{name}: {saved}; realised {realised}"


def figures(found: Found) -> Figures:
    """Of the medians, paths of their own for each row."""
    return {
        f"realised saving, {cell['network']}, {cell['gate']}, batches of {cell['batch']}": Figure(
            cell["realised"]["dynamic"]["of_medians"]
        )
        for cell in found["cells"]
        if not cell["few_paths"] and "error" not in cell
    }


if __name__ == "__main__":
    run_experiment(main, figures)
