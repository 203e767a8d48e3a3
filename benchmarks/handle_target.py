"""A target in the running Ray: a served cascade, called through its handle."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.target import Reply

__all__ = ["HandleTarget"]


class HandleTarget:
    """``handle.predict.remote(rows)`` of a Ray Serve application; no HTTP in between.

    Args:
        application: its name.
        stages: names of the config's stages.
        timeout_s: a request without an answer by then counts as failed.
    """

    def __init__(self, application: str, stages: Sequence[str], timeout_s: float = 30.0) -> None:
        self.application = application
        self.stages = tuple(stages)
        self.timeout_s = timeout_s
        self._handle: Any = None
        self._joined = False

    async def open(self) -> None:
        """Joins the running Ray: the one of ``RAY_ADDRESS``, else the one found on this machine.

        Raises:
            TargetError: there is none, or the application does not run there.
        """
        import ray
        from ray import serve
        from ray.serve.exceptions import RayServeException

        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS") or "auto"
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise TargetError(
                    f"no running Ray can be joined at {address!r}; start 'cascade serve CONFIG', or set RAY_ADDRESS"
                ) from error
            self._joined = True
        try:
            self._handle = serve.get_app_handle(self.application)
        except RayServeException as error:
            await self.close()
            raise TargetError(
                f"the application {self.application!r} does not run in this Ray; start 'cascade serve CONFIG'"
            ) from error

    async def send(self, rows: np.ndarray) -> Reply:
        """One call of the handle."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        try:
            columns = await asyncio.wait_for(self._call(rows), self.timeout_s)
        except asyncio.TimeoutError as error:
            raise RequestFailed("timeout", f"no answer within {self.timeout_s:g} s") from error
        except RayTaskError as error:
            raise RequestFailed(type(error.cause).__name__, str(error.cause)) from error
        except (RayError, RayServeException) as error:
            raise RequestFailed(type(error).__name__, str(error)) from error
        return Reply.from_columns(columns, self.stages, len(rows))

    async def _call(self, rows: np.ndarray) -> Any:
        return await self._handle.predict.remote(rows)

    async def close(self) -> None:
        """Leaves Ray, if this target joined it."""
        import ray

        self._handle = None
        if self._joined:
            ray.shutdown()
            self._joined = False
