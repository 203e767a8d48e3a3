"""Tables at the command line: a log of answers, rows of named columns, a configuration for models that are there."""

import json

import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


def log(path, rows=3000, seed=0):
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, rows)
    confidence = random.uniform(0.5, 1, rows)
    columns = {
        "id": np.arange(rows),
        "pred_a": np.where(random.random(rows) < confidence, label, 1 - label),
        "conf_a": confidence,
        "big.prediction": np.where(random.random(rows) < 0.97, label, 1 - label),
        "big.confidence": np.full(rows, 0.9),
        "truth": label,
    }
    frame = pd.DataFrame(columns)
    for name in ("pred_a", "big.prediction", "truth"):
        frame[name] = np.array(["ham", "spam"])[frame[name]]
    frame.to_csv(path, index=False)
    return path


IMPORT = [
    *("--column", "small.prediction=pred_a", "--column", "small.confidence=conf_a", "--column", "label=truth"),
    *("--cost", "small=0.2", "--cost", "big=4"),
]


def test_from_a_log_to_a_certified_policy_in_two_commands(run, tmp_path):
    scores, policy = tmp_path / "scores.npz", tmp_path / "policy.json"
    found = run("import", log(tmp_path / "log.csv"), *IMPORT, "--ignore-others", "--out", scores, "--json")
    assert found.code == 0, found.err
    facts = json.loads(found.out)
    assert (facts["rows"], facts["classes"], facts["cost"]) == (3000, ["ham", "spam"], {"small": 0.2, "big": 4.0})
    found = run("calibrate", "--scores", scores, "--max-accuracy-drop", 0.03, "--out", policy)
    assert found.code == 0, found.err
    held_out = tmp_path / "held.csv"
    frame = (
        pd.read_csv(log(tmp_path / "other.csv", seed=1)).drop(columns="id").assign(**{"small.cost": 0.2, "big.cost": 4})
    )
    names = {"pred_a": "small.prediction", "conf_a": "small.confidence", "truth": "label"}
    frame.rename(columns=names).to_csv(held_out, index=False)
    found = run("evaluate", "--scores", held_out, "--policy", policy)
    assert found.code == 0, found.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 3, "no column such as 'small.prediction'|lacks the columns"),
        (IMPORT, 3, "other columns: 'id'"),
        ([*IMPORT, "--cost", "small=cheap"], 2, "STAGE=COST with a number"),
        ([*IMPORT, "--column", "label=id"], 2, "each name once"),
        ([*IMPORT, "--ignore-others", "--stages", "big,tiny"], 3, "no stage 'tiny'"),
    ],
)
def test_bad_options_of_import_are_refused(run, tmp_path, options, code, message):
    found = run("import", log(tmp_path / "log.csv", 50), *options, "--out", tmp_path / "scores.npz")
    assert found.code == code
    assert any(part in " ".join(found.err.replace("│", " ").split()) for part in message.split("|")), found.err
    assert not (tmp_path / "scores.npz").exists()


def test_stages_in_another_order_than_their_costs_are_noticed(run, tmp_path):
    options = [*IMPORT, "--ignore-others", "--stages", "big,small", "--out", tmp_path / "scores.npz"]
    assert "consider --stages small,big" in run("import", log(tmp_path / "log.csv"), *options).err


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two pipelines on named columns with missing values, and rows that they have not seen."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.normal(40, 9, 1600), "city": random.choice(["Bonn", "Oslo"], 1600)})
    frame["label"] = np.where((frame.age > 40) ^ (frame.city == "Oslo"), "buys", "leaves")
    frame.loc[::17, "age"], frame.loc[::19, "city"] = np.nan, None
    columns = ColumnTransformer(
        [("age", SimpleImputer(), ["age"]), ("city", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )
    for name, model in (("small", LogisticRegression()), ("big", DecisionTreeClassifier(random_state=0))):
        skops.io.dump(make_pipeline(columns, model).fit(frame[:400], frame.label[:400]), folder / f"{name}.skops")
    frame[400:].to_csv(folder / "rows.csv", index=False)
    return folder


def test_init_writes_a_configuration_that_runs(run, shop):
    models = [f"small={shop}/small.skops", f"big={shop}/big.skops"]
    found = run("init", *models, "--folder", shop / "made", "--rows", shop / "rows.csv")
    assert (found.code, "--trust" in found.err) == (3, True)
    found = run("init", *models, "--folder", shop / "made", "--rows", shop / "rows.csv", "--trust", "--json")
    assert found.code == 0, found.err
    facts = json.loads(found.out)
    assert facts["rows"] == {"columns": {"age": "number", "city": "text"}}
    assert facts["classes"] == ["buys", "leaves"]
    config, scores = facts["config"], shop / "scores.npz"
    assert run("check", config).code == 0
    found = run("collect", config, "--rows", shop / "rows.csv", "--curve-seconds", 0, "--out", scores)
    assert found.code == 0, found.err
    assert run("calibrate", config, "--scores", scores, "--max-accuracy-drop", 0.05).code == 0
    (shop / "row.json").write_text('{"age": 55.0, "city": "Bonn"}')
    found = run("explain", config, "--row", shop / "row.json", "--json")
    assert found.code == 0, found.err
    assert run("init", *models, "--folder", shop / "made").code == 3  # it exists


@pytest.mark.parametrize(
    ("models", "message"),
    [(["small=no.skops"], "does not exist"), (["x={}/rows.csv"], "must be a .skops or .onnx file")],
)
def test_bad_models_of_init_are_refused(run, shop, tmp_path, models, message):
    found = run("init", *(text.format(shop) for text in models), "--folder", tmp_path)
    assert found.code == 3
    assert message in found.err


def test_the_schema_accepts_the_configurations_of_the_examples(run, digits_folder):
    import jsonschema
    import yaml

    schema = json.loads(run("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    config = yaml.safe_load((digits_folder / "config.yaml").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"stage": []}, schema)


def test_the_version_is_printed(run):
    from cascade import __version__

    assert run("--version").out.strip() == f"idk-cascade {__version__}"
