"""The status of an error: the caller's or the server's."""

import asyncio

import numpy as np
import pytest
from local_service import LocalService, ask

from cascade.errors import CascadeError, InfeasibleTarget, RowsError, StageError
from cascade.serving import errors
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import MethodNotAllowed, http_status, request_error


def all_errors(root=CascadeError):
    return [root, *(found for each in root.__subclasses__() for found in all_errors(each))]


def made(kind):
    return kind("no", "GET") if kind in (MethodNotAllowed, InfeasibleTarget, StageError) else kind("no")


# A model refuses rows that are at fault themselves by a RowsError.
KINDS = [k for k in all_errors() if k.__module__.startswith("cascade.") and not issubclass(k, RowsError)]
WHATEVER = [ValueError("no"), MemoryError(), KeyError("no"), *map(made, KINDS)]
each_error = pytest.mark.parametrize("error", WHATEVER, ids=lambda error: type(error).__name__)


@each_error
def test_every_error_in_a_stage_is_a_server_error(config, error):
    """The rows were checked before, so the caller could not correct them; only a RowsError is the caller's."""

    def raises(*_):
        raise error

    service = LocalService(config)
    service.batcher = Batcher(single_step(raises), None, BatcherOptions(8, 100))
    rows = {"method": "POST", "url": "/predict", "json": {"rows": [[1, 2]]}}
    tensor = {"name": "rows", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}
    infer = {"method": "POST", "url": "/v2/models/fake/infer", "json": {"inputs": [tensor]}}
    for response in ask(service, rows, infer):
        assert response.status_code >= 500


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@each_error
def test_every_error_in_a_later_segment_is_a_server_error(error):
    from ray.exceptions import RayTaskError

    from cascade.serving.batching.segment_client import _result

    class Failed(RayTaskError):
        def __init__(self):
            self.cause = error

    async def fail():
        raise Failed

    with pytest.raises(CascadeError) as caught:
        asyncio.run(_result(fail()))
    assert http_status(caught.value) >= 500


def test_errors_of_the_server_keep_their_message():
    for kind in (errors.Overloaded, errors.Unavailable, errors.DeadlineExceeded, errors.StageFailed):
        error = kind("why")
        assert request_error(error) is error


def test_invalid_rows_stay_the_callers_error(config):
    service = LocalService(config)
    wrong = np.zeros((1, 3)).tolist()
    (response,) = ask(service, {"method": "POST", "url": "/predict", "json": {"rows": wrong}})
    assert response.status_code == 400
