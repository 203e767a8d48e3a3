"""Everything that needs a CUDA device, in one command: `make gpu`.

    python -m cascade.benchmarks.experiments.gpu.all_steps --data parts
    python -m cascade.benchmarks.experiments.gpu.all_steps --rehearse

For a machine with one CUDA device and no network, on which a command may take ten minutes: the steps of `steps.py` run
one after the other until ``--minutes`` are over. Each has a time limit; one that fails, finds too little memory or a
driver without graphs, or exceeds its limit is reported, and the others run. The same command again skips what is
finished, and continues trainings from their last epoch. ``--data`` is a folder with CIFAR-10 in parts, as written by
`cascade data cifar10 --pack parts` on a machine with a network.

All is written to ``--folder``: the results in ``results``, weights in ``weights``, logs, and ``steps.json``. With
``--copy-to`` they are also copied to another folder after every step, for machines that keep only one.
``--rehearse`` runs the same steps on the processor, with small networks, random images and few seconds, in a folder of
its own, ``FOLDER/rehearsal``.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from cascade import datasets
from cascade.backends.torch_device import torch_device
from cascade.benchmarks.experiments.gpu.steps import steps_of
from cascade.benchmarks.harness.steps import Steps
from cascade.cli.shared.console import console
from cascade.errors import CascadeError, CheckFailed, ConfigError

COPIED = ("steps.json", "results/*", "weights/*.json", "weights/*.safetensors", "logs/*")
REHEARSED_ROWS = {"train": 96, "test": 240}
CROWDED_SHARE = 0.05


def prepare_data(cache: Path, data: Path | None) -> None:
    """Makes sure that CIFAR-10 is in a cache folder.

    Args:
        cache: the folder.
        data: folder of its parts; ``None`` if it is in the cache, or can be downloaded.

    Raises:
        DataError: a part is missing or damaged.
    """
    os.environ["IDK_CASCADE_CACHE"] = str(cache)
    datasets.fetch("cifar10", on_note=console.print, parts=data)


def random_data(cache: Path) -> None:
    """Writes random images where CIFAR-10 is looked for."""
    folder, random = cache / "cifar10", np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in REHEARSED_ROWS.items():
        np.save(folder / f"{split}_rows.npy", random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8))
        np.save(folder / f"{split}_labels.npy", random.integers(0, 10, n))


def describe_device() -> str:
    """The CUDA device, with a warning if other processes use it.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    try:
        torch_device("cuda")
    except ConfigError as error:
        raise ConfigError(f"{error}; --rehearse runs the same steps on the processor, with small settings") from error
    device = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    taken = 1 - free / total
    crowded = f"; other processes hold {taken:.0%} of its memory: times will be wrong" if taken > CROWDED_SHARE else ""
    return (
        f"{device.name}, compute capability {device.major}.{device.minor}, {total / 2**30:.0f} GiB, "
        f"CUDA {torch.version.cuda}{crowded}"
    )


def main(
    folder: Annotated[Path, typer.Option(help="For all that is written, and kept until the next run.")] = Path(".gpu"),
    data: Annotated[Path | None, typer.Option(help="Folder with CIFAR-10 in parts.", show_default="the cache")] = None,
    copy_to: Annotated[Path | None, typer.Option(help="Folder to which results are copied after every step.")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="For this run.")] = 9.5,
    only: Annotated[str, typer.Option(help="Names of steps that contain this text.")] = "",
    rehearse: Annotated[bool, typer.Option("--rehearse", help="On the processor, with small settings.")] = False,
) -> None:
    """Run all steps that need a CUDA device; exit code 5 if one is not done."""
    folder = folder.resolve() / ("rehearsal" if rehearse else "")
    own = folder / "cache"
    cache = own if rehearse or data is not None or (own / "cifar10").exists() else datasets.cache_folder()
    if rehearse:
        random_data(cache)
    else:
        console.print(describe_device(), highlight=False)
        prepare_data(cache, data)
    environment = os.environ | {"IDK_CASCADE_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}
    copies = None if copy_to is None else (copy_to, COPIED)
    steps = Steps(folder, environment, copies, lambda line: console.print(line, highlight=False, soft_wrap=True))
    wanted = [step for step in steps_of(folder, cache, rehearse) if only in step.name]
    if not wanted:
        raise ConfigError(f"no step has a name with {only!r}")
    if not steps.run(wanted, 60 * minutes):
        left = [step.name for step in wanted if steps.states[step.name]["state"] != "done"]
        raise CheckFailed(f"not done: {', '.join(left)}; the same command runs them again")


if __name__ == "__main__":
    # A step has a process group of its own; it is stopped with this process.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: sys.exit(143))
    app = typer.Typer(add_completion=False)
    app.command()(main)
    try:
        app(standalone_mode=True)
    except CascadeError as error:
        console.print(f"error: {error}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
