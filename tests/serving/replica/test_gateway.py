"""A gateway in this process: what a request may ask for."""

import asyncio
import gc
import warnings

import numpy as np
import pytest
from local_gateway import STAGES, local_gateway, new_config, new_policy

from cascade.errors import RowsError

pytestmark = [
    # What importing Ray says of itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_no_request_leaves_work_behind_that_nobody_awaits(tmp_path):
    async def main():
        async with local_gateway(new_config([list(STAGES)]), new_policy(), tmp_path) as gateway:
            said = [await gateway.service.answer_rows(np.arange(4), max_stage=name) for name in (None, *STAGES)]
            with pytest.raises(RowsError, match="max_stage must be one of"):
                await gateway.service.answer_rows(np.arange(4), max_stage="none")
            return said

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = asyncio.run(main())
        gc.collect()
    assert [str(each.message) for each in caught if "never awaited" in str(each.message)] == []
    assert [set(each["stage"]) for each in said] == [set(STAGES), {"small"}, {"small", "middle"}, set(STAGES)]
