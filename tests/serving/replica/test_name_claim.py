"""Claims on the name of an application on a cluster."""

import pytest
from local_service import MemoryStore

from cascade.errors import ConfigError
from cascade.serving.replica.name_claim import NameClaim


@pytest.fixture
def new_claim():
    store, jobs = MemoryStore(), {"01", "02"}

    def new_claim(run, name="digits"):
        return NameClaim(store, name, run, lambda: jobs)

    new_claim.jobs = jobs
    return new_claim


def test_the_name_of_a_running_cascade_is_refused(new_claim):
    assert not new_claim("a").take("01")
    with pytest.raises(ConfigError, match="'digits' already, started by process"):
        new_claim("b").take("02")
    with pytest.raises(ConfigError, match="'digits' already"):
        new_claim("b").check()
    new_claim("a").check()
    assert not new_claim("b", "letters").take("02")


def test_the_claim_of_a_dead_program_does_not_block(new_claim):
    new_claim("a").take("01")
    new_claim.jobs.remove("01")
    new_claim("b").check()
    assert new_claim("b").take("02")
    with pytest.raises(ConfigError, match="already"):
        new_claim("a").check()


def test_a_released_name_is_free(new_claim):
    claim = new_claim("a")
    claim.take("01")
    claim.release()
    new_claim("b").check()
    assert not new_claim("b").take("02")
