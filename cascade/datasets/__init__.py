"""Data sets: fetched once into the user's cache, verified, never part of the package."""

from cascade.datasets.cifar10 import CIFAR10_CLASSES
from cascade.datasets.fashion_mnist import FASHION_MNIST_CLASSES
from cascade.datasets.registry import DATASETS, Split, cache_folder, fetch, load, load_array, pack

__all__ = [
    "CIFAR10_CLASSES",
    "DATASETS",
    "FASHION_MNIST_CLASSES",
    "Split",
    "cache_folder",
    "fetch",
    "load",
    "load_array",
    "pack",
]
