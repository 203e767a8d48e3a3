"""A gateway in this process: what a request may override."""

import asyncio
import gc
import socket
import warnings

import numpy as np
import pytest
from local_gateway import STAGES, local_gateway, new_config, new_policy

from cascade.errors import ConfigError, RowsError
from cascade.serving.policy.request_overrides import RequestOverrides

pytestmark = [
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("segments", [[list(STAGES)], [[name] for name in STAGES]], ids=["one process", "each apart"])
def test_a_request_overrides_the_last_stage_and_leaves_no_coroutine_that_is_never_awaited(segments, tmp_path):
    async def main():
        async with local_gateway(new_config(segments), new_policy(), tmp_path) as gateway:
            answers = [
                await gateway.service.answer_rows(np.arange(4), RequestOverrides(max_stage=name))
                for name in (None, *STAGES)
            ]
            with pytest.raises(RowsError, match="max_stage must be one of"):
                await gateway.service.answer_rows(np.arange(4), RequestOverrides(max_stage="none"))
            return answers

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answers = asyncio.run(main())
        gc.collect()
    assert [str(each.message) for each in caught if "never awaited" in str(each.message)] == []
    whole = ["small", "small", "middle", "big"]
    assert [each["stage"] for each in answers] == [whole, ["small"] * 4, ["small"] * 2 + ["middle"] * 2, whole]
    degraded = [[row for row in range(4) if each["degraded"][row]] for each in answers]
    assert degraded == [[], [2, 3], [3], []]


def test_a_taken_port_is_found_before_the_models_load(tmp_path, monkeypatch):
    from cascade.serving.replica import gateway_factory

    monkeypatch.setattr(gateway_factory, "new_batcher", lambda *_: pytest.fail("the models were loaded"))
    config = new_config([list(STAGES)])

    async def main():
        async with local_gateway(config, new_policy(), tmp_path):
            pass

    with (
        socket.create_server(("127.0.0.1", config.serving.port)),
        pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{config.serving.port}"),
    ):
        asyncio.run(main())
