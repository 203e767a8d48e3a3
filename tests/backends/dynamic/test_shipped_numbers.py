"""The shipped networks give the numbers that were recorded: ``recorded.npz``.

Recorded by ``python tests/backends/dynamic/test_shipped_numbers.py``, last when two of them were stored in int8. On the
processor and the build of PyTorch of the record they are equal bit for bit; elsewhere kernels differ, and numbers are
close.
"""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.backends.config import DynamicConfig
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic_backend import DynamicBackend
from cascade.backends.images import ImageInput
from cascade.backends.networks.packing import can_pack

WEIGHTS = Path(__file__).parents[3] / "examples" / "dynamic" / "weights"
NETWORKS = {
    "blockdrop32": "BlockDrop",
    "blockdrop32-reinforce": "BlockDrop",
    "skipnet32": "SkipNet",
    "skipnet32-supervised": "SkipNet",
}
PRICES = (0.0, 1.0, -1.0)
RECORD = Path(__file__).with_name("recorded.npz")
INPUT = ImageInput(mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7))
ROWS = 24


def machine():
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {cpu} {vectors} torch {torch.__version__} threads {torch.get_num_threads()}"


def pictures():
    """(24, 32, 32, 3) uint8: smooth colours with noise, so that paths differ."""
    generator = np.random.default_rng(7)
    coarse = generator.uniform(0, 255, (ROWS, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noise = generator.normal(size=(ROWS, 32, 32, 3)) * generator.uniform(0, 60, (ROWS, 1, 1, 1))
    return np.clip(coarse + noise, 0, 255).astype(np.uint8)


def numbers(name):
    """Arrays by what they are."""
    where = f"cascade.backends.dynamic.dynamic_network:{NETWORKS[name]}"
    values = {"network": where, "arguments": {"depth": 32}, "weights": WEIGHTS / f"{name}.safetensors", "input": INPUT}
    rows, found = pictures(), {}
    for packed in (False, True) if can_pack() else (False,):
        backend = DynamicBackend(DynamicConfig(type="dynamic", packed=packed, **values))
        predicted = backend.predict(rows)
        found |= {f"{packed}/mflop": predicted.mflop, f"{packed}/probabilities": predicted.probabilities}
        for price in PRICES:
            executor = Executor(backend.network.sites, backend.network.policy, price)
            outcome = executor.run(INPUT.tensor(rows))
            alone = [executor.run(INPUT.tensor(rows[i : i + 1])).logits for i in range(4)]
            found[f"{packed}/{price}/logits"] = outcome.logits.numpy()
            found[f"{packed}/{price}/paths"] = outcome.paths.numpy()
            found[f"{packed}/{price}/alone"] = torch.cat(alone).numpy()
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_those_of_the_record(name):
    with np.load(RECORD) as record:
        same_machine = str(record["machine"]) == machine()
        for key, value in numbers(name).items():
            recorded = record[f"{name}/{key}"]
            if same_machine:
                np.testing.assert_array_equal(value, recorded, key)
            elif key.endswith("paths"):
                assert (value == recorded).mean() > 0.99
            elif key.startswith("False/0.0"):
                np.testing.assert_allclose(value, recorded, rtol=1e-2, atol=1e-2 * np.abs(recorded).max())


if __name__ == "__main__":
    arrays = {f"{name}/{key}": value for name in NETWORKS for key, value in numbers(name).items()}
    np.savez_compressed(RECORD, machine=machine(), **arrays)
