"""A later segment under Ray Serve's autoscaling: replicas are added under load and removed after it."""

import uuid

import pytest
from replica_load import Load, replica_pids, wait_for_replicas
from serving_process import serving_process
from sleeping_cascade import write_sleeping_cascade

pytestmark = [pytest.mark.serve, pytest.mark.slow]

SCALING = (
    "{min_replicas: 1, max_replicas: 2, target_ongoing_requests: 1, upscale_delay_s: 1, downscale_delay_s: 3, "
    "metrics_interval_s: 1, look_back_period_s: 2}"
)


def test_replicas_are_added_under_load_and_removed_after_it(tmp_path):
    name = f"scale-{uuid.uuid4().hex[:12]}"
    path = write_sleeping_cascade(tmp_path, name, serving="max_batch_rows: 2")
    text = path.read_text()
    assert "num_replicas: 1" in text
    path.write_text(text.replace("num_replicas: 1", f"autoscaling_config: {SCALING}"))
    with serving_process(path, tmp_path / "log") as url:
        assert len(replica_pids(name, "segment-big")) == 1
        with Load(url) as load:
            wait_for_replicas(name, "segment-big", 2)
        wait_for_replicas(name, "segment-big", 1)
        with Load(url) as again:
            wait_for_replicas(name, "segment-big", 2)
    assert (load.outcomes + again.outcomes).keys() == {"right"}
