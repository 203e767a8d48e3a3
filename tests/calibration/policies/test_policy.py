"""A policy as a file: round trip, stable bytes, and a PolicyError for a broken one."""

import copy
import hashlib
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import Identity, Isotonic, Platt, Policy, Temperature
from cascade.errors import PolicyError
from cascade.prediction import Prediction
from cascade.routers import NEVER, Agreement, Layer, LearnedHead, Router, new_evidence

HEAD = LearnedHead("confidence", True, (Layer(np.eye(2, 5), np.zeros(2)), Layer([[0.1, -2.0]], [0.3])))


def example():
    routers = (
        Router("margin", Platt(1.25, -0.5)),
        Router("maximum_probability", Temperature(1.5)),
        Router(None, Isotonic((0.1, 0.5), (0.2, 0.9)), HEAD),
        Router("negative_entropy", Identity()),
    )
    certificate = {"guarantee": "none", "target": {"target_accuracy": 0.94}, "observed": {"stage_share": [0.5, 0.5]}}
    return Policy(("a", "b", "c", "d"), routers, np.array([0.1 + 0.2, 1.0, NEVER]), np.arange(4.0), "ms", certificate)


def heads(stage):
    """Logistic heads of a stage, on the scores of all so far."""
    size = 3 * (stage + 1) + stage
    numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=size + 1, max_size=size + 1)
    return numbers.map(lambda n: LearnedHead("probabilities", True, (Layer([n[1:]], n[:1]),)))


@st.composite
def policies(draw):
    stages = draw(st.integers(1, 4))
    unit = st.floats(0, 1) | st.just(NEVER)
    thresholds = draw(st.lists(unit, min_size=stages - 1, max_size=stages - 1))
    routers = [
        Router(
            draw(st.sampled_from([None, "margin", "maximum_probability", "negative_entropy"])),
            draw(
                st.builds(Temperature, st.floats(0.01, 100))
                | st.builds(Platt, st.floats(0, 9), st.floats(-9, 9))
                | st.just(Identity())
            ),
            draw(st.none() | st.just(Agreement()) | heads(k)),
        )
        for k in range(stages)
    ]
    cost = draw(st.lists(st.floats(0, 1e9), min_size=stages, max_size=stages))
    lowest = draw(st.lists(st.just(0.0) | st.floats(0, 1), min_size=stages - 1, max_size=stages - 1))
    rate = draw(st.lists(st.just(0.0) | st.floats(0, 1e9), min_size=stages, max_size=stages))
    names = tuple(f"s{k}" for k in range(stages))
    below = draw(st.just(0.0) | unit) if not any(lowest) or routers[-1].head is None else 0.0
    numbers = {"defer_below": np.array(lowest), "cost_per_mflop": np.array(rate), "abstain_below": below}
    return Policy(names, tuple(routers), np.array(thresholds), np.array(cost), **numbers)


def served(policy):
    """What ``GET /policy`` answers."""
    return policy.to_dict() | {"version": policy.version, "revision": 3, "gear": {"index": 0}}


@given(policies())
def test_a_downloaded_policy_is_the_policy(policy):
    assert Policy.from_json(json.dumps(served(policy))) == policy


def test_a_downloaded_policy_that_was_changed_is_refused():
    values = served(example())
    values["stages"][0]["threshold"] = 0.5
    with pytest.raises(PolicyError, match="changed since"):
        Policy.from_dict(values)
    with pytest.raises(PolicyError, match="changed since"):
        Policy.from_dict(served(example()) | {"version": None})


@pytest.mark.parametrize("key", ["version", "revision", "gear"])
def test_only_some_of_the_keys_of_a_server_are_refused(key):
    values = {k: v for k, v in served(example()).items() if k != key}
    with pytest.raises(PolicyError, match="this key is not known"):
        Policy.from_dict(values)


@given(policies())
def test_text_and_back_gives_an_equal_policy_bit_for_bit(policy):
    again = Policy.from_json(policy.to_json())
    assert again == policy
    assert again.thresholds.tobytes() == policy.thresholds.tobytes()
    assert again.routers == policy.routers
    assert again.abstain_below == policy.abstain_below
    assert again.version == policy.version
    assert hash(again) == hash(policy)


def test_a_file_and_back(tmp_path):
    path = tmp_path / "policy.json"
    example().save(path)
    assert Policy.load(path) == example()
    assert path.read_text() == example().to_json()
    assert [file.name for file in tmp_path.iterdir()] == ["policy.json"]


def test_the_text_does_not_depend_on_the_order_in_which_things_were_put_in():
    backwards = dict(reversed(list(example().certificate.items())))
    policy = example()
    other = Policy(policy.stages, policy.routers, policy.thresholds, policy.cost, "ms", backwards)
    assert list(backwards) != list(policy.certificate)
    assert other.to_json() == policy.to_json()


def change(**updates):
    policy = example()
    fields = ("stages", "routers", "thresholds", "cost", "cost_unit", "certificate")
    return Policy(*(updates.get(field, getattr(policy, field)) for field in fields))


def test_every_part_of_the_content_changes_the_version():
    policy = example()
    changed = [
        change(stages=("a", "b", "c", "e")),
        change(routers=(*policy.routers[:3], Router("margin", Identity()))),
        change(routers=(Router("margin", Platt(1.25, np.nextafter(-0.5, 0))), *policy.routers[1:])),
        change(routers=(*policy.routers[:2], Router(None, policy.routers[2].calibrator), policy.routers[3])),
        change(routers=(*policy.routers[:3], Router("negative_entropy", Identity(), Agreement()))),
        change(thresholds=np.array([np.nextafter(0.1 + 0.2, 1), 1.0, NEVER])),
        change(thresholds=np.array([0.1 + 0.2, 1.0, 1.0])),
        change(cost=np.array([0, 1, 2, 4])),
        change(cost_unit="MFLOP"),
        change(certificate={}),
        replace(policy, abstain_below=0.5),
    ]
    versions = {policy.version, *(other.version for other in changed)}
    assert len(versions) == len(changed) + 1
    assert all(other != policy for other in changed)
    assert all(len(version) == 12 for version in versions)


def test_a_policy_that_answers_everything_is_written_as_ever():
    assert "abstain_below" not in example().to_json()
    assert not example().abstains


@pytest.mark.parametrize("below", [-0.1, np.nan, 1.1, np.nextafter(NEVER, 2)])
def test_a_threshold_of_abstaining_out_of_range_is_refused(below):
    with pytest.raises(PolicyError, match="abstain_below"):
        replace(example(), abstain_below=below)


def test_only_the_last_stage_abstains():
    values = replace(example(), abstain_below=0.25).to_dict()
    values["stages"][1]["abstain_below"] = 0.5
    with pytest.raises(PolicyError, match="only the last stage can have 'abstain_below'"):
        Policy.from_dict(values)
    values["stages"][1].pop("abstain_below")
    values["stages"][3]["abstain_below"] = "0.5"
    with pytest.raises(PolicyError, match=r"stages.3.abstain_below: Input should be a valid number"):
        Policy.from_dict(values)


def test_early_deferral_does_not_go_with_abstaining_by_a_head():
    policy = example()
    headed = replace(policy, routers=(*policy.routers[:3], Router("margin", Identity(), Agreement())))
    early = replace(headed, defer_below=np.array([0.1, 0.0, 0.0]))
    with pytest.raises(PolicyError, match="early deferral does not go with"):
        replace(early, abstain_below=0.5)
    assert replace(headed, abstain_below=0.5).abstains
    assert replace(early, routers=policy.routers, abstain_below=0.5).abstains


def test_a_policy_survives_pickling():
    assert pickle.loads(pickle.dumps(example())) == example()


def test_threshold_of_the_last_stage_is_none():
    assert [example().threshold(k) for k in range(4)] == [0.1 + 0.2, 1.0, NEVER, None]


def test_the_repr_has_the_thresholds():
    text = repr(example())
    assert example().version in text
    assert "a >= 0.3, b >= 1, c never, d" in text
    assert "d (abstain < 0.25)" in repr(replace(example(), abstain_below=0.25))


@pytest.mark.parametrize(
    "updates",
    [
        {"stages": ()},
        {"stages": ("a", "b", "c", "a")},
        {"routers": (Router(None, Identity()),)},
        {"thresholds": np.array([0.5, 0.5])},
        {"thresholds": np.array([[0.5, 0.5, 0.5]])},
        {"thresholds": np.array([0.5, np.nan, 0.5])},
        {"thresholds": np.array([0.5, -0.1, 0.5])},
        {"thresholds": np.array([0.5, np.nextafter(NEVER, 2), 0.5])},
        {"routers": (Router(None, Identity(), HEAD), *[Router(None, Identity())] * 3)},
        {"cost": np.ones(3)},
        {"cost": np.array([1, 2, 3, np.inf])},
        {"cost": np.array([1, 2, -3, 4])},
    ],
    ids=str,
)
def test_contradictory_values_are_refused(updates):
    with pytest.raises(PolicyError):
        change(**updates)


def test_all_problems_of_a_file_are_listed_at_once(tmp_path):
    values = example().to_dict()
    values["stages"][0] |= {"threshold": 1.5, "cost": -1, "score": "entropy"}
    values["stages"][1] |= {"threshold": "0.5", "calibrator": {"type": "platt", "slope": -1}}
    values["stages"][2] |= {"cost": "high", "calibrator": []}
    values["stages"][3] = "last"
    values["stages"].append(values["stages"][1] | {"name": "e", "head": {"type": "oracle"}, "threshold": 0.5})
    values |= {"certificate": 3, "cost_unit": 7}
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(values))
    with pytest.raises(PolicyError) as caught:
        Policy.load(path)
    text = str(caught.value)
    assert str(path) in text
    for problem in (
        "stages.0.threshold: Input should be less than or equal to 1.0000000000000002 (got 1.5)",
        "stages.0.cost: Input should be greater than or equal to 0 (got -1)",
        "stages.0.score: must be null or one of ['margin'",
        "stages.1.threshold: Input should be a valid number (got '0.5')",
        "stages.1.calibrator.platt.slope: Input should be greater than or equal to 0 (got -1)",
        "stages.2.cost: Input should be a valid number (got 'high')",
        "stages.2.calibrator: Input should be a valid dictionary",
        "stages.3: Input should be a valid dictionary",
        "stages.4.head: Input tag 'oracle'",
        "certificate: Input should be a valid dictionary",
        "cost_unit: must be a text",
    ):
        assert problem in text


def test_all_keys_that_do_not_fit_each_other_are_listed_at_once():
    values = example().to_dict()
    values["stages"][0] |= {"threshold": None, "abstain_below": 0.5}
    values["stages"][3]["defer_below"] = 0.5
    values["certificate"] = {"reference": {"rows": 1, "stage_rows": [1], "agreed_rows": 1, "repeated_rows": []}}
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict(values)
    for problem in (
        "stages.0 needs a 'threshold'",
        "only the last stage can have 'abstain_below'",
        "the last stage cannot have 'defer_below'",
        "certificate.reference must be of 4 stages",
    ):
        assert problem in str(caught.value)
    with pytest.raises(PolicyError, match=r"different names.*4 routers.*3 values of thresholds.*4 values of cost "):
        change(stages=("a", "b", "c", "a"), routers=(), thresholds=np.zeros(9), cost=np.array([-1.0, 0, 0, 0]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 100_000,
        '{"stages": []}',
        '{"schema_version": 2, "stages": [{}]}',
        "1" * 5000,
        example().to_json().replace("0.5", "NaN"),
        example().to_json().replace("0.5", "Infinity"),
        example().to_json().replace("0.5", "1e999"),
        example().to_json().replace('"cost": 3.0', f'"cost": {10**400}'),
    ],
    ids=lambda text: text[:30],
)
def test_text_that_is_no_policy_is_refused(text):
    with pytest.raises(PolicyError):
        Policy.from_json(text)


def test_missing_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(PolicyError, match="'cascade calibrate' makes it"):
        Policy.load(tmp_path / "none.json")
    with pytest.raises(PolicyError, match=r"cannot be read|not UTF-8 text"):
        Policy.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="not UTF-8 text"):
        Policy.load(tmp_path / "binary.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(values, path=()):
    """The path of every value in nested objects and lists."""
    yield path
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


PLACES = [path for path in places(example().to_dict()) if path]


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.none() | JSON.map(lambda v: (v,))), min_size=1, max_size=3))
def test_a_mutated_policy_is_a_policy_or_a_policy_error(mutations):
    values = copy.deepcopy(example().to_dict())
    for path, replacement in mutations:
        target = values
        try:
            for key in path[:-1]:
                target = target[key]
            if replacement is None:
                del target[path[-1]]
            else:
                target[path[-1]] = replacement[0]
        except (TypeError, KeyError, IndexError):
            continue  # an earlier mutation removed this place
    try:
        policy = Policy.from_json(json.dumps(values))
    except PolicyError:
        return
    assert Policy.from_json(policy.to_json()) == policy
    confidence = np.array([0.0, 0.5, 1.0])
    probabilities = np.array([[0.2, 0.8]] * 3)
    said = new_evidence(np.array([0, 1, 1]), confidence, probabilities)
    for k, router in enumerate(policy.routers, 1):
        assert router.confidence(probabilities, confidence, np.tile(said, k)).shape == (3,)


def test_a_policy_without_heads_is_written_as_before_there_were_any():
    policy = change(routers=tuple(Router(router.score, router.calibrator) for router in example().routers))
    assert not policy.needs_evidence
    assert example().needs_evidence
    assert not example().needs_probabilities
    assert all("head" not in stage for stage in policy.to_dict()["stages"])


def test_early_deferral_thresholds_are_an_optional_key_of_a_stage():
    plain = example()
    assert "defer_below" not in plain.to_json()
    assert not plain.defers_early
    two_sided = replace(plain, defer_below=np.array([0.25, 0.0, 0.0]))
    assert [stage.get("defer_below") for stage in two_sided.to_dict()["stages"]] == [0.25, None, None, None]
    assert two_sided.defers_early
    assert two_sided.version != plain.version
    assert "a >= 0.3 (defer < 0.25), b >= 1, c never, d" in repr(two_sided)
    with pytest.raises(PolicyError, match=r"3 values of defer_below in \[0, 1\]"):
        replace(plain, defer_below=np.array([0.25, 1.5, 0.0]))


def with_the_old_key(values):
    stages = [{"skip_below" if k == "defer_below" else k: v for k, v in stage.items()} for stage in values["stages"]]
    return values | {"stages": stages}


def test_files_and_downloads_with_the_old_name_of_the_early_deferral_threshold_are_read():
    policy = replace(example(), defer_below=np.array([0.25, 0.0, 0.5]))
    old = with_the_old_key(policy.to_dict())
    assert "skip_below" in json.dumps(old)
    assert Policy.from_json(json.dumps(old)) == policy
    text = json.dumps(old, sort_keys=True, indent=1) + "\n"  # what an older version wrote, and named by its digest
    downloaded = old | {"version": hashlib.sha256(text.encode()).hexdigest()[:12], "revision": 3, "gear": {}}
    assert Policy.from_dict(downloaded) == policy
    downloaded["stages"][0]["threshold"] = 0.5
    with pytest.raises(PolicyError, match="changed since"):
        Policy.from_dict(downloaded)
    old["stages"][0]["defer_below"] = 0.5
    with pytest.raises(PolicyError, match="skip_below"):
        Policy.from_dict(old)


@pytest.mark.parametrize(
    ("stage", "value", "problem"),
    [
        (0, -0.1, "stages.0.defer_below: Input should be greater"),
        (1, "x", "stages.1.defer_below"),
        (3, 0.5, "no stage comes after"),
    ],
)
def test_bad_early_deferral_thresholds_in_a_file_are_refused(stage, value, problem):
    values = example().to_dict()
    values["stages"][stage]["defer_below"] = value
    with pytest.raises(PolicyError, match=problem):
        Policy.from_dict(values)


def test_rows_cost_as_the_model_reports_or_by_their_operations_or_the_mean():
    policy = replace(example(), cost_per_mflop=np.array([0.0, 0.5, 0.0, 0.0]))
    answer, mflop = np.zeros(2, dtype=np.int64), np.array([2.0, 8.0])
    plain, counted = Prediction(answer), Prediction(answer, mflop=mflop)
    assert policy.row_cost(1, plain).tolist() == [1.0, 1.0]
    assert policy.row_cost(1, counted).tolist() == [1.0, 4.0]
    assert policy.row_cost(2, counted).tolist() == [2.0, 2.0], "the policy has no price of an operation"
    assert policy.row_cost(1, replace(counted, cost=np.array([7.0, 9.0]))).tolist() == [7.0, 9.0]


@pytest.mark.parametrize("rate", [[1.0], [-1.0, 0, 0, 0], [np.inf, 0, 0, 0], [np.nan, 0, 0, 0]])
def test_prices_of_operations_that_cannot_be(rate):
    with pytest.raises(PolicyError, match="4 values of cost_per_mflop of at least 0"):
        replace(example(), cost_per_mflop=np.array(rate))
    values = example().to_dict()
    values["stages"][0]["cost_per_mflop"] = "cheap"
    with pytest.raises(PolicyError, match=r"stages.0.cost_per_mflop: Input should be a valid number"):
        Policy.from_dict(values)


OBJECTS = [(), *(("stages", k) for k in range(4))]


@pytest.mark.parametrize("path", OBJECTS, ids=str)
@pytest.mark.parametrize("key", ["treshold", "Threshold", "version", ""])
def test_a_key_that_nothing_reads_is_refused_by_name(path, key):
    values = copy.deepcopy(example().to_dict())
    target = values
    for step in path:
        target = target[step]
    target[key] = 0.5
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict(values)
    place = ".".join(map(str, (*path, key))) or "(top)"
    assert f"{place}: this key is not known" in str(caught.value)


def test_every_key_that_is_written_is_read_and_a_certificate_may_hold_any():
    full = replace(example(), certificate={"whatever": {"stands": ["here"]}}, abstain_below=0.1)
    assert Policy.from_json(full.to_json()) == full


@pytest.mark.parametrize("key", ["schema_version", "stages", "threshold", "type", "guarantee"])
def test_a_key_that_appears_twice_in_a_file_is_refused(key):
    text = replace(example(), certificate={"guarantee": "none"}).to_json()
    assert f'"{key}":' in text
    with pytest.raises(PolicyError, match=f"the key '{key}' appears twice"):
        Policy.from_json(text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1))
