"""The engine: equal to a row-by-row cascade, and to the replay of a score table bit for bit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.answers import PENDING, Answers
from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Identity, Isotonic, Platt, Policy, ScoreTable, Temperature, calibrate, evaluate
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.cascade import Cascade
from cascade.collection.collect import collect
from cascade.config import RowsConfig
from cascade.engine import Segment
from cascade.errors import PolicyError, RowsError
from cascade.prediction import Prediction
from cascade.routers import NEVER, Router, answering_stage, reached_stages
from cascade.stage import Stage

CALIBRATORS = [Identity(), Temperature(1.7), Platt(1.3, -0.2), Isotonic((0.1, 0.6, 0.9), (0.2, 0.5, 0.95))]
SCORE_NAMES = ["maximum_probability", "margin", "negative_entropy"]


def probabilities(n, classes, seed, dtype=np.float64):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), size=n).astype(dtype)


def in_tenths(table):
    """Rows that sum to 1, of few levels, so that confidences tie with thresholds."""
    random = np.random.default_rng(0)
    return np.array([random.multinomial(10, row / row.sum()) for row in table]) / 10


class Recorder:
    """Answers by looking rows up, as ``FakeBackend``, and keeps the arrays it was given.

    Args:
        table: (N, C) probabilities.
        cost: (N,) cost of each row, or ``None``.
        own: give the largest probability as a confidence instead of the probabilities.
    """

    def __init__(self, table, cost=None, own=False):
        self.table, self.cost, self.own, self.seen = table, cost, own, []

    def predict(self, rows):
        self.seen.append(rows)
        lines = rows.reshape(len(rows), -1)[:, 0].astype(int)
        found = self.table[lines]
        cost = None if self.cost is None else self.cost[lines]
        if self.own:
            return Prediction(found.argmax(axis=1), confidence=found.max(axis=1), cost=cost)
        return Prediction(found.argmax(axis=1), found, cost=cost)


@st.composite
def cascades(draw):
    stages, n = draw(st.integers(1, 4)), draw(st.integers(0, 20))
    seed = draw(st.integers(0, 1000))
    random = np.random.default_rng(seed)
    backends = [
        Recorder(
            in_tenths(probabilities(20, 3, seed + k)),
            random.uniform(0, 5, 20) if draw(st.booleans()) else None,
            own=draw(st.booleans()),
        )
        for k in range(stages)
    ]
    levels = st.sampled_from([0.0, 0.4, 0.5, 0.7, 1.0, NEVER])
    thresholds = np.array(draw(st.lists(levels, min_size=stages - 1, max_size=stages - 1)))
    names = tuple(f"s{k}" for k in range(stages))
    lowest = np.array(draw(st.lists(st.sampled_from([0.0, 0.45, 0.6, 1.0]), min_size=stages - 1, max_size=stages - 1)))
    routers = (Router(None, Identity()),) * stages
    policy = Policy(names, routers, thresholds, np.arange(1.0, stages + 1), defer_below=lowest)
    rows = np.stack([random.integers(0, 20, n), np.arange(n)], axis=1)
    return [Stage(name, backend) for name, backend in zip(names, backends, strict=True)], policy, rows


def row_by_row(stages, policy, rows):
    """(answer, stage, confidence, cost, stages that looked at it) of each row, one at a time."""
    last = len(stages) - 1
    for line, _ in rows.tolist():
        cost, k, asked = 0.0, 0, []
        while True:
            found = stages[k].backend.table[line]
            if policy.runs[k]:  # else it answers no row, and is not asked
                asked.append(k)
                cost += policy.cost[k] if stages[k].backend.cost is None else stages[k].backend.cost[line]
            if k == last or found.max() >= policy.thresholds[k]:
                yield int(found.argmax()), k, float(min(found.max(), 1.0)), cost, asked
                break
            k = last if found.max() < policy.defer_below[k] else k + 1


@given(cascades())
@settings(max_examples=80)
def test_a_batch_equals_its_rows_one_by_one(case):
    stages, policy, rows = case
    answers = Segment(stages).run(rows, policy)
    expected = list(row_by_row(stages, policy, rows))
    assert len(answers) == len(rows)
    assert answers.answer.tolist() == [row[0] for row in expected]
    assert answers.stage.tolist() == [row[1] for row in expected]
    assert answers.confidence.tolist() == [row[2] for row in expected]
    assert answers.cost.tolist() == pytest.approx([row[3] for row in expected])


@given(cascades())
def test_later_stages_get_one_contiguous_array_of_exactly_its_rows(case):
    stages, policy, rows = case
    Segment(stages).run(rows, policy)
    asked = [row[4] for row in row_by_row(stages, policy, rows)]
    for k, stage in enumerate(stages):
        reached = rows[[k in each for each in asked]]
        if not len(reached):
            assert stage.backend.seen == []
            continue
        (seen,) = stage.backend.seen
        assert seen.flags.c_contiguous
        np.testing.assert_array_equal(seen, reached)


def in_segments(stages, rows, policy, cuts):
    """The answers of several segments, each of which gets what the ones before it left pending."""
    answers, pending, evidence = Answers.empty(len(rows)), np.arange(len(rows)), None
    for first, end in itertools.pairwise([0, *cuts, len(stages)]):
        said = Segment(stages[first:end], first).run(rows[pending], policy, evidence)
        assert ((said.stage < end) | (said.stage == PENDING)).all()
        unasked = said.cost == 0
        if policy.defers_early:  # rows that skip the segment keep the last word
            np.testing.assert_array_equal(said.answer[unasked], answers.answer[pending][unasked])
            np.testing.assert_array_equal(said.confidence[unasked], answers.confidence[pending][unasked])
        answers.put(pending, said)
        pending, evidence = pending[said.stage == PENDING], said.evidence
        assert evidence is None or len(evidence) == len(pending)
    return answers


@given(cascades(), st.data())
def test_segments_put_together_equal_one(case, data):
    stages, policy, rows = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stages)), max_size=3)))
    whole, parts = Segment(stages).run(rows, policy), in_segments(stages, rows, policy, cuts)
    for name in ("answer", "stage", "confidence"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert parts.cost == pytest.approx(whole.cost)


@given(cascades())
def test_the_replay_of_a_table_gives_the_engines_stages_and_costs(case):
    stages, policy, rows = case
    if not len(rows):
        return
    answers = Segment(stages).run(rows, policy)
    lines = rows[:, 0].astype(int)
    said = np.stack([stage.backend.table[lines] for stage in stages], axis=1)
    cost = [
        np.full(len(rows), policy.cost[k]) if stage.backend.cost is None else stage.backend.cost[lines]
        for k, stage in enumerate(stages)
    ]
    table = ScoreTable(
        said.argmax(axis=2), said.max(axis=2).clip(0, 1), np.stack(cost, axis=1), np.array(policy.stages), label=lines
    )
    seen = evaluate(table, policy)
    assert seen.accuracy == (answers.answer == lines).mean()
    assert seen.mean_cost == pytest.approx(answers.cost.mean())
    np.testing.assert_array_equal(seen.stage_share, np.bincount(answers.stage, minlength=len(stages)) / len(rows))


@pytest.mark.parametrize(("threshold", "stage", "cost"), [(0.0, 0, 1.0), (NEVER, 2, 4.0)])
def test_extreme_thresholds_leave_one_model(threshold, stage, cost):
    tables = [np.eye(3)[[0, 1, 2]], np.eye(3)[[1, 2, 0]], np.eye(3)[[2, 0, 1]]]
    stages = [Stage(f"s{k}", FakeBackend(table)) for k, table in enumerate(tables)]
    router = Router(None, Identity())
    policy = Policy(("s0", "s1", "s2"), (router,) * 3, np.full(2, threshold), np.array([1.0, 2.0, 4.0]))
    answers = Cascade(stages, policy).predict(np.array([0, 1, 2]))
    assert answers.answer.tolist() == tables[stage].argmax(axis=1).tolist()
    assert answers.stage.tolist() == [stage] * 3
    assert answers.cost.tolist() == [cost] * 3
    asked = [len(s.backend.batches) for s in stages]
    assert asked == ([1, 0, 0] if stage == 0 else [0, 0, 1]), "a stage that answers no row is not asked"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("score", SCORE_NAMES)
def test_a_replayed_table_gives_the_engines_stages_and_confidences_bit_for_bit(score, calibrator, dtype):
    n, names = 150, ("a", "b", "c")
    # The middle backend's probabilities come in Fortran order, as scikit-learn's often do.
    tables = [probabilities(n, 12, seed, dtype) for seed in range(3)]
    backends = [Recorder(table) for table in tables]
    backends[1].table = np.asfortranarray(tables[1])
    stages = [Stage(name, backend, score) for name, backend in zip(names, backends, strict=True)]
    rows = np.arange(n)[:, None]
    table = collect(stages, rows, np.zeros(n, dtype=int), batch_rows=32, curve_seconds=0)
    assert table.scores.dtype == dtype
    routers = (Router(score, calibrator),) * 3
    # Thresholds are confidences that occur, so that a single wrong bit would forward a row.
    thresholds = np.quantile(calibrated_confidence(table, routers), 0.7, axis=0, method="higher")[:2]
    policy = Policy(names, routers, thresholds, table.cost)
    whole = Cascade(stages, policy).predict(rows)
    parts = [Cascade(stages, policy).predict(rows[i : i + 7]) for i in range(0, n, 7)]
    confidence = calibrated_confidence(table, routers)
    expected = answering_stage(confidence, policy.thresholds)
    assert 0 < (expected == 0).sum() < n
    np.testing.assert_array_equal(whole.stage, expected)
    np.testing.assert_array_equal(whole.confidence, confidence[np.arange(n), expected])
    np.testing.assert_array_equal(np.concatenate([p.stage for p in parts]), expected)
    np.testing.assert_array_equal(np.concatenate([p.confidence for p in parts]), whole.confidence)
    replayed = evaluate(table, policy)
    assert replayed.stage_share.tolist() == (np.bincount(whole.stage, minlength=3) / n).tolist()
    assert replayed.accuracy == (whole.answer == 0).mean()
    assert replayed.mean_cost == pytest.approx(whole.cost.mean())


@pytest.mark.parametrize("keep_scores", [True, False])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("routers", [None, [("margin", "isotonic")] * 2], ids=["table", "config"])
def test_a_calibrated_policy_decides_in_the_engine_as_on_its_table(keep_scores, own, routers):
    n = 200
    backends = [Recorder(probabilities(n, 3, seed), own=own) for seed in range(2)]
    stages = [Stage(name, backend, "margin") for name, backend in zip("ab", backends, strict=True)]
    rows, label = np.arange(n)[:, None], np.random.default_rng(0).integers(0, 3, n)
    table = collect(stages, rows, label, keep_scores=keep_scores, curve_seconds=0)
    policy = calibrate(table, max_cost=float(table.cost[0] + 0.5 * table.cost[1]), guarantee="none", routers=routers)
    answers = Cascade(stages, policy).predict(rows)
    seen = evaluate(table, policy)
    assert seen.stage_share.tolist() == (np.bincount(answers.stage, minlength=2) / n).tolist()
    assert seen.accuracy == (answers.answer == label).mean()


HEAD_CHOICES = [
    [("agreement", "identity")] * 3,
    [("cost_aware", "identity")] * 3,
    [("cost_oblivious", "platt")] * 3,
    [("margin", "platt"), ("deferral", "identity"), ("maximum_probability", "temperature")],
    [("deferral_network", "isotonic")] * 3,
]


def labelled(n, own=False, dtype=np.float64):
    """Three stages of rising skill, as (stages, rows, label)."""
    random = np.random.default_rng(5)
    label = random.integers(0, 6, n)
    stages = []
    for name, skill in zip("abc", (1.0, 2.0, 4.0), strict=True):
        powers = np.exp(random.normal(size=(n, 6)) + skill * np.eye(6)[label])
        backend = Recorder((powers / powers.sum(axis=1, keepdims=True)).astype(dtype), own=own)
        stages.append(Stage(name, backend, "margin"))
    return stages, np.arange(n)[:, None], label


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("choices", HEAD_CHOICES, ids=lambda choices: choices[1][0])
def test_heads_decide_in_the_engine_as_on_the_table_bit_for_bit(choices, own, dtype):
    if own and choices[2][1] == "temperature":
        choices = [*choices[:2], ("margin", "platt")]
    stages, rows, label = labelled(300, own, dtype)
    table = collect(stages, rows, label, batch_rows=32, curve_seconds=0)
    found = calibrate(table, max_cost=float(table.cost[:2].sum()), routers=choices)
    confidence = calibrated_confidence(table, found.routers)
    # Thresholds are confidences that occur, so that a single wrong bit would forward a row.
    thresholds = np.quantile(confidence[:, :2], 0.6, axis=0, method="higher")
    policy = Policy.from_json(Policy(found.stages, found.routers, thresholds, table.cost).to_json())
    expected = answering_stage(confidence, thresholds)
    whole = Cascade(stages, policy).predict(rows)
    np.testing.assert_array_equal(whole.stage, expected)
    np.testing.assert_array_equal(whole.confidence, confidence[np.arange(300), expected])
    for size in (1, 7):
        parts = [Cascade(stages, policy).predict(rows[i : i + size]) for i in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate([p.stage for p in parts]), expected)
        np.testing.assert_array_equal(np.concatenate([p.confidence for p in parts]), whole.confidence)
    assert evaluate(table, policy).accuracy == (whole.answer == label).mean()


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_evidence_is_handed_from_segment_to_segment(cut):
    stages, rows, label = labelled(200)
    table = collect(stages, rows, label, curve_seconds=0)
    policy = calibrate(table, max_accuracy_drop=0.05, routers=[("deferral", "identity")] * 3)
    whole = Segment(stages).run(rows, policy)
    first = Segment(stages[:cut]).run(rows, policy)
    pending = np.flatnonzero(first.stage == PENDING)
    assert first.evidence.stages.shape == (len(pending), 5 * cut)
    later = Segment(stages[cut:], first=cut).run(rows[pending], policy, first.evidence)
    first.put(pending, later)
    np.testing.assert_array_equal(first.stage, whole.stage)
    np.testing.assert_array_equal(first.confidence, whole.confidence)
    assert len(np.unique(whole.stage)) > 1


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2], [1, 1, 2]])
def test_heads_and_rows_that_skip_go_together(cuts):
    stages, rows, label = labelled(200)
    table = collect(stages, rows, label, curve_seconds=0)
    found = calibrate(table, max_accuracy_drop=0.05, routers=[("deferral", "identity")] * 3)
    confidence = calibrated_confidence(table, found.routers)
    policy = replace(found, thresholds=np.full(2, 0.9), defer_below=np.array([np.median(confidence[:, 0]), 0.0]))
    answers = in_segments(stages, rows, policy, cuts)
    asked = reached_stages(confidence, policy.thresholds, policy.defer_below, policy.runs)
    assert 0 < (asked[:, 2] & ~asked[:, 1]).sum() < asked[:, 2].sum()
    np.testing.assert_array_equal(answers.stage, 2 - asked[:, ::-1].argmax(axis=1))
    went_through = answers.stage < 2
    went_through |= asked.all(axis=1)
    expected = confidence[np.arange(200), answers.stage]
    np.testing.assert_array_equal(answers.confidence[went_through], expected[went_through])
    # The last stage's head sees, in place of the stage that was skipped, what the one before it said.
    assert np.isfinite(answers.confidence).all()
    np.testing.assert_array_equal(answers.confidence, in_segments(stages, rows, policy, []).confidence)


@pytest.mark.parametrize("below", [0.0, 0.6, 0.9, NEVER])
def test_a_cascade_abstains_where_its_replay_does(below):
    stages, rows, label = labelled(200)
    table = collect(stages, rows, label, curve_seconds=0)
    found = calibrate(table, max_accuracy_drop=0.05, routers=[("maximum_probability", "platt")] * 3)
    policy = replace(found, abstain_below=below)
    answers = Cascade(stages, policy).predict(rows)
    abstained = np.zeros(200, dtype=bool) if answers.abstained is None else answers.abstained
    confidence = calibrated_confidence(table, policy.routers)
    stage = answering_stage(confidence, policy.thresholds)
    np.testing.assert_array_equal(abstained, (stage == 2) & (confidence[:, 2] < below))
    np.testing.assert_array_equal(answers.stage, stage)  # the guess is that of the last stage
    assert evaluate(table, policy).abstained == abstained.mean()
    assert (answers.abstained is None) == (not abstained.any())


def test_a_degraded_answer_of_an_earlier_stage_is_never_abstained_on():
    policy = replace(Policy.from_thresholds(("a", "b"), np.array([0.9])), abstain_below=0.8)
    answers = Answers(np.zeros(4, int), np.array([0, 0, 1, 1]), np.array([0.95, 0.3, 0.3, np.nan]), np.ones(4))
    degraded = replace(answers, degraded=np.array([False, True, False, False]))
    assert degraded.with_abstentions(policy).abstained.tolist() == [False, False, True, True]
    assert degraded.with_abstentions(replace(policy, abstain_below=0.0)) is degraded


def test_without_heads_and_early_deferral_no_evidence_is_kept():
    stages, rows, _ = labelled(20)
    policy = Policy.from_thresholds(("a", "b", "c"), np.array([0.9, 0.9]))
    assert Segment(stages[:2]).run(rows, policy).evidence is None


def test_heads_on_probabilities_refuse_a_stage_that_returns_none():
    stages, rows, label = labelled(60)
    policy = calibrate(
        collect(stages, rows, label, curve_seconds=0), max_accuracy_drop=0.2, routers=[("deferral", "identity")] * 3
    )
    silent, _, _ = labelled(60, own=True)
    with pytest.raises(PolicyError, match="'a' returns no class probabilities"):
        Cascade(silent, policy).predict(rows)


def test_no_rows_give_no_answers():
    stages = [Stage("a", FakeBackend([[1.0, 0.0]])), Stage("b", FakeBackend([[1.0, 0.0]]))]
    policy = Policy.from_thresholds(("a", "b"), np.array([0.5]))
    assert len(Segment(stages).run(np.zeros((0, 2)), policy)) == 0
    assert stages[0].backend.batches == []


class Lengths:
    """Sure of long texts."""

    def predict(self, rows):
        assert rows.dtype == object
        return Prediction(np.array([len(text) for text in rows]), confidence=np.array([len(t) / 10 for t in rows]))


def test_text_rows_travel_as_objects():
    stages = [Stage("a", Lengths()), Stage("b", Lengths())]
    cascade = Cascade(stages, Policy.from_thresholds(("a", "b"), np.array([0.5])), RowsConfig(dtype="text"))
    answers = cascade.predict(["no", "certainly", "yes"])
    assert answers.answer.tolist() == [2, 9, 3]
    assert answers.stage.tolist() == [1, 0, 1]


def test_rows_that_are_not_contiguous_reach_the_first_stage_contiguous():
    backend = Recorder(probabilities(9, 3, 0))
    cascade = Cascade([Stage("a", backend)], Policy.from_thresholds(("a",), np.zeros(0)))
    cascade.predict(np.arange(12).reshape(3, 4).T[:, ::2])
    assert backend.seen[0].flags.c_contiguous


def test_rows_are_checked_before_the_first_stage():
    stage = Stage("a", FakeBackend([[1.0, 0.0]]))
    cascade = Cascade([stage], Policy.from_thresholds(("a",), np.zeros(0)), RowsConfig(shape=(2,), dtype="int64"))
    with pytest.raises(RowsError, match="shape"):
        cascade.predict(np.zeros((3, 3), dtype=int))


def test_a_policy_of_other_stages_is_refused():
    stages = [Stage("a", FakeBackend([[1.0, 0.0]])), Stage("b", FakeBackend([[1.0, 0.0]]))]
    with pytest.raises(PolicyError, match="calibrate again"):
        Cascade(stages, Policy.from_thresholds(("b", "a"), np.array([0.5])))


def test_answers_taken_and_empty():
    answers = Answers.empty(3)
    assert (answers.stage == PENDING).all()
    answers.put(np.array([2]), Answers(np.array([5]), np.array([1]), np.array([0.5]), np.array([2.0])))
    answers.put(np.array([2]), Answers(np.array([6]), np.array([2]), np.array([0.6]), np.array([3.0])))
    last = answers.take(np.array([2]))
    assert (last.answer[0], last.stage[0], last.confidence[0], last.cost[0]) == (6, 2, 0.6, 5.0)
    assert len(answers.take(slice(0, 2))) == 2
    assert answers.cost.tolist() == [0, 0, 5]


def test_score_tables_of_unlike_stages_have_no_scores():
    stages = [Stage("a", FakeBackend([[1.0, 0.0]])), Stage("b", FakeBackend([[1.0, 0.0, 0.0]]))]
    table = collect(stages, np.zeros((4, 1), dtype=int))
    assert isinstance(table, ScoreTable)
    assert table.scores is None
    assert table.label is None


def test_many_rows_run_each_stage_once_in_calls_of_its_best_size():
    sizes = np.array([1, 2, 4, 8])
    quick_in_small_calls = CostCurve.fit(sizes, np.array([1.0, 2.1, 3.7, 9.0]))
    table = np.tile([[0.6, 0.4]], (100, 1))
    backends = [FakeBackend(table), FakeBackend(table)]
    stages = [Stage("a", backends[0]), Stage("b", backends[1])]
    policy = Policy.from_thresholds(("a", "b"), np.array([0.9]))
    whole = Cascade(stages, policy).predict(np.arange(100)[:, None])
    assert [each.batches for each in backends] == [[100], [100]]
    split = Cascade(stages, replace(policy, curves=(None, quick_in_small_calls))).predict(np.arange(100)[:, None])
    assert backends[0].batches == [100, 100]
    assert backends[1].batches[1:] == [4] * 25
    np.testing.assert_array_equal(split.answer, whole.answer)
    np.testing.assert_array_equal(split.confidence, whole.confidence)


def test_a_model_that_uses_its_arrays_again_may_be_called_several_times():
    class Reusing(FakeBackend):
        """Gives the same array in every call."""

        def predict(self, rows):
            said = super().predict(rows)
            if not hasattr(self, "kept"):
                self.kept = np.empty((50, 2))
            self.kept[: len(rows)] = said.probabilities
            return Prediction(said.answer, self.kept[: len(rows)])

    random = np.random.default_rng(0)
    table = random.dirichlet([1, 1], 90)
    curve = CostCurve.fit(np.array([1, 2, 40]), np.array([1.0, 1.1, 50.0]))
    policy = replace(Policy.from_thresholds(("a",), np.zeros(0)), curves=(curve,))
    found = Cascade([Stage("a", Reusing(table))], policy).predict(np.arange(90)[:, None])
    np.testing.assert_array_equal(found.confidence, table.max(axis=1))
