"""oneDNN convolutions of one image, called without PyTorch.

PyTorch uses oneDNN as well, but prepares every call, which takes 20 to 40 us: longer than a small convolution itself.
Here a convolution is prepared once and then called with two addresses, in 2 us. oneDNN's C API
(https://uxlfoundation.github.io/oneDNN/) is stable within version 3; any such library works, such as that of the extra
``onednn``.
"""

import contextlib
import ctypes
import functools
import sys
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Literal

import torch

__all__ = ["After", "Convolution", "can_call"]

After = Literal["none", "relu", "add", "add, relu"]
"""Operations after a convolution: none, a ReLU, an addition to the values at the target, or that and then a ReLU."""

LIBRARY = "libdnnl.so.3"
ALIGNMENT = 64  # bytes, of packed weights: a cache line
MOST_AXES = 12

# Values of the enumerations in dnnl_types.h and dnnl_common_types.h, and of its macros DNNL_ARG_*.
CPU, IN_ORDER = 1, 1
FLOAT32, ANY_ORDER = 3, 1
INFERENCE, DIRECT, RELU = 96, 1, 0x20
WEIGHTS_DESCRIPTOR = 131
SOURCE, TARGET, WEIGHTS, BIAS = 1, 17, 33, 41

Axes = c_int64 * MOST_AXES


class Argument(ctypes.Structure):
    """``dnnl_exec_arg_t``."""

    _fields_ = (("index", c_int), ("memory", c_void_p))


@functools.cache
def can_call() -> bool:
    """Whether a oneDNN library is installed."""
    try:
        _Library.get()
    except OSError:
        return False
    return True


class Convolution:
    """A convolution of one channels-last float32 image.

    It uses as many threads as PyTorch at construction.

    Args:
        weight: (o, c, k, l) float32, contiguous.
        bias: (o,) float32.
        stride: of rows and columns.
        padding: zeros on each side, of rows and columns.
        dilation: of rows and columns, 1 for none.
        size: (h, w) of the image.
        after: operations after the convolution.

    Attributes:
        shape: (o, h', w') of the result.

    Raises:
        OSError: the library is missing, or does not support the convolution.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        size: Sequence[int],
        after: After = "none",
    ) -> None:
        library = _Library.get()
        self._place, self._execute, self._stream = library.place, library.execute, library.stream
        library.use_threads(torch.get_num_threads())
        o, c, *kernel = weight.shape
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
        )
        self.shape = (o, height, width)
        source, target = library.image(c, *size), library.image(*self.shape)
        bias_descriptor = library.dense([o])
        attributes = library.attributes(after)
        descriptor = library.new(
            "dnnl_convolution_forward_primitive_desc_create",
            *(library.engine, INFERENCE, DIRECT, source, library.any_order(weight.shape), bias_descriptor, target),
            *(Axes(*stride), Axes(*(each - 1 for each in dilation)), Axes(*padding), Axes(*padding), attributes),
        )
        packed = c_void_p(library.call.dnnl_primitive_desc_query_md(descriptor, WEIGHTS_DESCRIPTOR, 0))
        # Keeps the memory alive that the library reads.
        self._tensors = bias, _aligned(library.call.dnnl_memory_desc_get_size(packed))
        weights = library.memory(packed, _aligned_address(self._tensors[1]))
        library.reorder(library.dense(weight.shape), weight.data_ptr(), packed, weights)
        self._source, self._target = library.memory(source, 0), library.memory(target, 0)
        self._arguments = (Argument * 4)(
            Argument(SOURCE, self._source),
            Argument(WEIGHTS, weights),
            Argument(BIAS, library.memory(bias_descriptor, bias.data_ptr())),
            Argument(TARGET, self._target),
        )
        self._address = ctypes.addressof(self._arguments)
        self._primitive = library.new("dnnl_primitive_create", descriptor)

    def read_from(self, address: int) -> None:
        """Sets the address of the (h, w, c) float32 image."""
        self._place(self._source, address)

    def write_to(self, address: int) -> None:
        """Sets the address of the (h', w', o) float32 result."""
        self._place(self._target, address)

    def __call__(self) -> None:
        """Runs the convolution in the calling thread; not thread-safe."""
        status = self._execute(self._primitive, self._stream, 4, self._address)
        if status:
            raise RuntimeError(f"oneDNN could not run a convolution: status {status}")


class _Library:
    """The oneDNN functions in use, an engine and a stream.

    Its objects are never freed: the convolutions of a network live as long as the process that serves it.
    """

    @classmethod
    @functools.cache
    def get(cls) -> "_Library":
        """The library of this process; OSError if there is none."""
        return cls()

    def __init__(self) -> None:
        self.call = call = _load()
        call.dnnl_primitive_desc_query_md.restype = c_void_p
        call.dnnl_memory_desc_get_size.restype = c_size_t
        call.dnnl_post_ops_append_sum.argtypes = (c_void_p, c_float, c_int32, c_int)
        call.dnnl_post_ops_append_eltwise.argtypes = (c_void_p, c_int, c_float, c_float)
        self.place = call.dnnl_memory_set_data_handle
        self.place.argtypes = (c_void_p, c_void_p)
        self.execute = call.dnnl_primitive_execute
        self.execute.argtypes = (c_void_p, c_void_p, c_int, c_void_p)
        self.engine = self.new("dnnl_engine_create", CPU, c_size_t(0))
        self.stream = self.new("dnnl_stream_create", self.engine, IN_ORDER)

    def use_threads(self, threads: int) -> None:
        """Sets the number of threads for objects that this thread creates; without OpenMP it has no effect."""
        with contextlib.suppress(AttributeError):
            self.call.omp_set_num_threads(threads)

    def new(self, function: str, *arguments: object) -> c_void_p:
        """Calls a function that writes a handle to its first argument."""
        handle = c_void_p()
        status = getattr(self.call, function)(byref(handle), *arguments)
        if status:
            raise OSError(f"oneDNN: {function} failed with status {status}")
        return handle

    def image(self, channels: int, height: int, width: int) -> c_void_p:
        """Descriptor of a channels-last image."""
        strides = Axes(height * width * channels, 1, width * channels, channels)
        shape = Axes(1, channels, height, width)
        return self.new("dnnl_memory_desc_create_with_strides", 4, shape, FLOAT32, strides)

    def dense(self, shape: Sequence[int]) -> c_void_p:
        """Descriptor of a contiguous array."""
        strides = [1]
        for n in reversed(shape[1:]):
            strides.insert(0, strides[0] * n)
        return self.new("dnnl_memory_desc_create_with_strides", len(shape), Axes(*shape), FLOAT32, Axes(*strides))

    def any_order(self, shape: Sequence[int]) -> c_void_p:
        """Descriptor of an array in the order that the library prefers."""
        return self.new("dnnl_memory_desc_create_with_tag", len(shape), Axes(*shape), FLOAT32, ANY_ORDER)

    def memory(self, descriptor: c_void_p, address: int) -> c_void_p:
        """An array at an address."""
        return self.new("dnnl_memory_create", descriptor, self.engine, c_void_p(address))

    def attributes(self, after: After) -> c_void_p:
        """Attributes for the operations after a convolution."""
        steps, attributes = self.new("dnnl_post_ops_create"), self.new("dnnl_primitive_attr_create")
        if "add" in after:
            self.call.dnnl_post_ops_append_sum(steps, 1.0, 0, 0)
        if "relu" in after:
            self.call.dnnl_post_ops_append_eltwise(steps, RELU, 0.0, 0.0)
        self.call.dnnl_primitive_attr_set_post_ops(attributes, steps)
        return attributes

    def reorder(self, descriptor: c_void_p, address: int, target_descriptor: c_void_p, target: c_void_p) -> None:
        """Copies an array into another order."""
        plan = self.new(
            "dnnl_reorder_primitive_desc_create", descriptor, self.engine, target_descriptor, self.engine, None
        )
        arguments = (Argument * 2)(Argument(SOURCE, self.memory(descriptor, address)), Argument(TARGET, target))
        status = self.execute(self.new("dnnl_primitive_create", plan), self.stream, 2, ctypes.addressof(arguments))
        if status:
            raise OSError(f"oneDNN: weights could not be reordered: status {status}")


def _load() -> ctypes.CDLL:
    """The library of this environment, otherwise that of the system."""
    own = Path(sys.prefix, "lib", LIBRARY)
    return ctypes.CDLL(str(own) if own.exists() else LIBRARY)


def _aligned(size: int) -> torch.Tensor:
    return torch.empty(size + ALIGNMENT, dtype=torch.uint8)


def _aligned_address(memory: torch.Tensor) -> int:
    return -(-memory.data_ptr() // ALIGNMENT) * ALIGNMENT
