"""The rows in the inputs of a request: one tensor "rows", or one tensor for each named column."""

from collections.abc import Sequence

import numpy as np

from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.serving.oip.column_tensors import are_column_tensors, decode_columns
from cascade.serving.oip.tensors import INPUT, InputTensor, check_tensor, decode_raw, decode_values

__all__ = ["decode_inputs"]


def decode_inputs(inputs: Sequence[InputTensor], config: CascadeConfig) -> np.ndarray:
    """Rows from the inputs of a request.

    Returns:
        (n, *shape), of the configured dtype; (n,) structured array of named columns.

    Raises:
        RowsError: the inputs are not such rows.
        BodyTooLarge: n exceeds ``serving.max_request_rows``.
    """
    if are_column_tensors(inputs, config.rows.columns):
        return decode_columns(inputs, config)
    if len(inputs) != 1:
        raise RowsError(f"there must be one input, {INPUT!r}; got {len(inputs)}")
    (tensor,) = inputs
    shape = check_tensor(tensor.name, tensor.datatype, tensor.shape, config)
    if isinstance(tensor.content, list):
        return decode_values(tensor.content, shape, config.rows)
    return decode_raw(tensor.content, shape, config.rows)
