"""The audit of two real gateways with the last stage in a process of its own."""

import time

import httpx
import pytest
from serving_process import NO_CERTIFICATES, serving_process
from sleeping_cascade import make_rows, write_sleeping_cascade

from cascade.calibration import Policy
from cascade.calibration.policies.reference import Reference

pytestmark = [
    pytest.mark.serve,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    config = write_sleeping_cascade(folder, serving="gateways: 2, audit: {share: 1.0}")
    policy = Policy.load(folder / "policy.json").to_dict()
    # Half of the rows were even, of which the first stage is sure.
    policy["certificate"] = {"reference": Reference(2000, (1000, 1000), 1990, (1000,)).to_dict()}
    Policy.from_dict(policy).save(folder / "policy.json")
    with serving_process(config, folder / "log") as url:
        yield url


def send(url, numbers, requests):
    for _ in range(requests):
        # A connection for each, so that both gateways are asked.
        httpx.post(
            f"{url}/predict", json={"rows": make_rows(numbers, 0).tolist()}, verify=NO_CERTIFICATES
        ).raise_for_status()


def test_accepted_rows_are_audited_and_drift_raises_an_alarm(url, run):
    send(url, [0, 1, 2, 3], 30)
    deadline = time.monotonic() + 20
    while (found := run("audit", url, "--json")).json["audited_rows"] < 120:
        assert time.monotonic() < deadline, found.json
        time.sleep(0.1)
    assert (found.code, found.json["gateways_seen"]) == (0, 2)
    assert found.json["answered_rows"] == {"small": 60, "big": 60}
    assert found.json["agreement"]["rate"] == 1.0
    assert found.json["accepted_agreement"]["rows"] == 60
    assert {each["name"]: each["rate"] for each in found.json["watched"]} == {
        "agreement": 1.0,
        "forward rate of stage small": 0.5,
        "repeat rate of stage small": 1.0,
    }

    send(url, [1, 3], 300)
    time.sleep(0.5)
    found = run("audit", url)
    assert found.code == 5
    assert "forward rate of stage small" in found.err
