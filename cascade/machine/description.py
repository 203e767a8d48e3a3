"""Description of the machine of a measurement; without anything that identifies its owner."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "machine_line"]

PACKAGES = ("idk-cascade", "numpy", "torch", "ray", "scikit-learn", "onnxruntime", "aiohttp")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, graphics processors and versions; no host name, no path."""
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_bytes": _memory_bytes(),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch_threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def machine_line() -> str:
    """Processor, cores, threads of torch if it is loaded, and graphics processors, in one line."""
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    parts = [_cpu_model(), f"{_usable_cores()} cores", *([f"{threads} torch threads"] if threads else [])]
    return ", ".join([*parts, *_gpus()])


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[str]:
    """Uses torch only if it is already loaded: importing it takes seconds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
