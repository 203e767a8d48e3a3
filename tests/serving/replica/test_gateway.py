"""A gateway in this process: what a request may override."""

import asyncio
import gc
import warnings

import numpy as np
import pytest
from local_gateway import STAGES, local_gateway, new_config, new_policy

from cascade.errors import RowsError
from cascade.serving.policy.request_overrides import RequestOverrides

pytestmark = [
    # What importing Ray says of itself.
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
