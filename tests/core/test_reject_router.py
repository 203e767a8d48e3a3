"""A reject router: a stage that answers only as one class, or defers."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy, calibrate, evaluate
from cascade.cascade import Cascade, check_models, check_table
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.engine import Segment
from cascade.errors import ConfigError, PolicyError, ScoreTableError, StageError
from cascade.explanation import explain
from cascade.prediction import Prediction
from cascade.routers import answering_stage, rejected_class
from cascade.stage import Stage

CONFIG = """
name: screening
rows: {shape: [1], dtype: int64}
classes: [no, yes]
stages:
  - name: cheap
    backend: {type: custom, object: "no_such_module:Model"}
    router: {reject: no, calibrator: CALIBRATOR}
  - name: good
    backend: {type: custom, object: "no_such_module:Model"}
    router: {calibrator: identity}
"""

N = 400
RANDOM = np.random.default_rng(0)
LABEL = (RANDOM.random(N) < 0.2).astype(np.int64)
POSITIVE = [np.clip(LABEL * spread + RANDOM.random(N) * (1 - spread), 0.001, 0.999) for spread in (0.4, 0.8)]
TABLES = [np.stack([1 - p, p], axis=1) for p in POSITIVE]
ROWS = np.arange(N)[:, None]


def load(folder, text):
    path = folder / "config.yaml"
    path.write_text(text.replace("reject: no", "reject: 'no'").replace("[no, yes]", "['no', 'yes']"))
    return CascadeConfig.load(path)


def stages():
    return [Stage("cheap", FakeBackend(TABLES[0]), reject=0), Stage("good", FakeBackend(TABLES[1]))]


def collected(label=LABEL):
    table = collect(stages(), ROWS, label, classes=["no", "yes"], curve_seconds=0)
    return replace(table, cost=np.array([1.0, 10.0]))


def test_a_stage_that_rejects_answers_one_class_with_its_probability_as_confidence():
    stage = stages()[0]
    prediction = stage.predict(ROWS)
    assert (prediction.answer == 0).all()
    assert prediction.answer.dtype == np.int64
    np.testing.assert_array_equal(stage.raw_confidence(prediction), TABLES[0][:, 0])
    np.testing.assert_array_equal(prediction.probabilities, TABLES[0])


def test_the_score_table_of_a_stage_that_rejects_is_an_ordinary_one():
    table = collected()
    assert (table.prediction[:, 0] == 0).all()
    np.testing.assert_array_equal(table.confidence[:, 0], TABLES[0][:, 0])
    np.testing.assert_array_equal(table.scores[:, 0], TABLES[0])


@pytest.mark.parametrize("calibrator", ["identity", "temperature", "platt", "isotonic"])
def test_engine_replay_and_explanation_agree_bit_for_bit(calibrator, tmp_path):
    config = load(tmp_path, CONFIG.replace("CALIBRATOR", calibrator))
    table = collected()
    policy = calibrate(table, target_accuracy=0.9, guarantee="none", routers=check_table(table, config))
    policy = Policy.from_json(policy.to_json())
    assert rejected_class(policy.routers[0].score) == 0
    check_models(policy, config.stages)
    answers = Cascade(stages(), policy).predict(ROWS)
    result = evaluate(table, policy)
    assert 0 < result.stage_share[0] < 1
    assert (answers.stage == 0).mean() == result.stage_share[0]
    assert (answers.answer == LABEL).mean() == result.accuracy
    assert (answers.answer[answers.stage == 0] == 0).all()
    for row in (0, int(answers.stage.argmax())):
        ((explanation,), _) = explain(stages(), ROWS[row : row + 1], [policy], table)
        assert explanation.answering.stage == ("cheap", "good")[answers.stage[row]]
        assert explanation.answering.confidence == answers.confidence[row]


def test_segments_give_the_answers_of_the_whole_cascade():
    policy = Policy.from_thresholds(("cheap", "good"), np.array([0.7]))
    whole, parts = Segment(stages()), stages()
    together = whole.run(ROWS, policy)
    first = Segment(parts[:1]).run(ROWS, policy)
    deferred = first.stage < 0
    second = Segment(parts[1:], 1).run(ROWS[deferred], policy)
    np.testing.assert_array_equal(first.stage[~deferred], together.stage[~deferred])
    np.testing.assert_array_equal(second.answer, together.answer[deferred])
    np.testing.assert_array_equal(answering_stage(TABLES[0][:, :1], policy.thresholds), together.stage)


def test_a_table_without_scores_works_with_the_confidences_of_the_stage(tmp_path):
    config = load(tmp_path, CONFIG.replace("CALIBRATOR", "temperature"))
    table = collect(stages(), ROWS, LABEL, classes=["no", "yes"], curve_seconds=0, keep_scores=False)
    choices = check_table(table, config)
    assert choices[0] == ("probability_of_class_0", "platt")
    policy = calibrate(table, target_accuracy=0.9, guarantee="none", routers=choices)
    answers = Cascade(stages(), policy).predict(ROWS)
    assert (answers.answer == LABEL).mean() == evaluate(table, policy).accuracy


def test_a_resumed_collection_does_not_take_predictions_of_another_router(tmp_path):
    ordinary = [Stage("cheap", FakeBackend(TABLES[0]), model="m"), stages()[1]]
    rejecting = [Stage("cheap", FakeBackend(TABLES[0]), model="m", reject=0), stages()[1]]
    for each in (ordinary, rejecting):
        table = collect(each, ROWS, LABEL, partial=tmp_path / "part", curve_seconds=0)
    assert (table.prediction[:, 0] == 0).all()


def test_a_config_that_rejects_survives_pickling(tmp_path):
    config = load(tmp_path, CONFIG.replace("CALIBRATOR", "platt"))
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.stages[0].router.rejected_class == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reject: no", "reject: maybe", "reject must be the name of a class; got 'maybe', and the classes are"),
        ("classes: [no, yes]\n", "", "got 'no', and the config has no 'classes'"),
        ("[no, yes]", "['no']", "classes must be two or more different names"),
        ("{calibrator: identity}", "{reject: no}", "the last stage, 'good', must not reject"),
        ("reject: no,", "reject: no, score: margin,", "leave out score, or reject"),
        ("reject: no, calibrator: platt", "reject: no, head: agreement", "leave out head, or reject"),
    ],
)
def test_impossible_reject_routers_are_refused(tmp_path, old, new, message):
    text = CONFIG.replace("CALIBRATOR", "platt")
    assert old in text
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text.replace(old, new))


def test_a_model_without_probabilities_cannot_reject():
    class Own:
        def predict(self, rows):
            return Prediction(np.zeros(len(rows), dtype=int), confidence=np.ones(len(rows)))

    with pytest.raises(StageError, match=r"its router rejects as class 0, .* its model returned a confidence"):
        Stage("cheap", Own(), reject=0).predict(ROWS)
    with pytest.raises(StageError, match="returned probabilities of 2 classes"):
        Stage("cheap", FakeBackend(TABLES[0]), reject=2).predict(ROWS)


def test_a_table_or_a_policy_of_an_ordinary_stage_does_not_fit_a_config_that_rejects(tmp_path):
    config = load(tmp_path, CONFIG.replace("CALIBRATOR", "platt"))
    ordinary = collect(
        [Stage("cheap", FakeBackend(TABLES[0])), stages()[1]], ROWS, LABEL, classes=["no", "yes"], curve_seconds=0
    )
    with pytest.raises(ScoreTableError, match="rejects as 'no' in the config, but not in the score table"):
        check_table(ordinary, config)
    choices = [("maximum_probability", "platt"), ("maximum_probability", "identity")]
    policy = calibrate(ordinary, target_accuracy=0.9, guarantee="none", routers=choices)
    with pytest.raises(PolicyError, match="the config rejects as 'no' there"):
        check_models(policy, config.stages)
    with pytest.raises(ScoreTableError, match="stage 'cheap' also has other answers"):
        calibrate(ordinary, target_accuracy=0.9, routers=[("probability_of_class_0", "platt"), choices[1]])
    rejecting = collected()
    policy = calibrate(
        rejecting, target_accuracy=0.9, guarantee="none", routers=[("probability_of_class_0", "platt"), choices[1]]
    )
    plain = load(tmp_path, CONFIG.replace("reject: no, calibrator: CALIBRATOR", "calibrator: platt"))
    with pytest.raises(PolicyError, match="rejects nothing there"):
        check_models(policy, plain.stages)
    with pytest.raises(ScoreTableError, match="stage 'cheap' also has other answers"):
        evaluate(ordinary, policy)
