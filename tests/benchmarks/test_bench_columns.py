"""Pipelines of scikit-learn over mixed columns, from their files to a served cascade: every form of a request."""

import json
import subprocess
import sys

import httpx
import numpy as np
import pandas as pd
import pytest
import skops.io
import tritonclient.grpc
import tritonclient.http
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from cascade.benchmarks.harness.servers.server_process import cascade_server, free_port

pytestmark = [pytest.mark.serve, pytest.mark.slow]

COLUMNS = ["age", "income", "city", "member", "note"]
RECORDS = [
    {"age": 40, "income": 1.5, "city": "Ulm", "member": True, "note": "late refund"},
    {"age": 33, "income": None, "city": None, "member": False, "note": None},
]


def shop(seed, n=600):
    """A table with integers, numbers, categories, booleans and texts, with missing values, and the column label."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 90, n),
            "income": random.normal(0, 1, n),
            "city": random.choice(["Ulm", "Bonn", "Jena"], n).astype(object),
            "member": random.random(n) < 0.4,
            "note": random.choice(["late refund", "great", "broken again"], n).astype(object),
        }
    )
    score = (table.age - 54) / 20 + table.income + (table.city == "Ulm") + 2.0 * (table.note == "broken again")
    table["label"] = np.where(score > 1, "churn", "stay")
    for name in ("income", "city", "note"):
        table.loc[random.random(n) < 0.1, name] = None
    return table


def pipeline(texts):
    encoded = make_pipeline(SimpleImputer(strategy="constant", fill_value=""), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer()), ["age", "income"]), (encoded, texts), ("passthrough", ["member"])
    )
    table = shop(0)
    return make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(table[COLUMNS], table.label)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(configuration, labelled rows, server, port of gRPC) of the cascade that the verbs make of two skops files."""
    folder = tmp_path_factory.mktemp("columns")
    skops.io.dump(pipeline(["city"]), folder / "small.skops")
    skops.io.dump(pipeline(["city", "note"]), folder / "big.skops")
    shop(1, 2000).to_csv(folder / "rows.csv", index=False)
    config, port = folder / "config.yaml", free_port()
    for words in (
        ("init", "small.skops", "big.skops", "--rows", "rows.csv", "--name", "shop"),
        ("check", config),
        ("collect", config, "--rows", "rows.csv", "--out", "scores.npz"),
        ("calibrate", config, "--scores", "scores.npz", "--max-accuracy-drop", "0.03"),
    ):
        command = [sys.executable, "-m", "cascade", *map(str, words)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    with config.open("a") as file:
        file.write(f"serving: {{grpc_port: {port}}}\n")
    with cascade_server(config, (json.dumps({"rows": RECORDS}).encode(), {"Content-Type": "application/json"})) as one:
        yield config, folder / "rows.csv", one, port


FAST = ("--seconds", "0.5", "--warmup-seconds", "0.1", "--repeats", "1", "--rows-per-request", "8", "--json")


@pytest.mark.parametrize("target", ["in-process", "http", "http-json", "oip-http", "oip-json", "oip-grpc"])
def test_every_target_answers_rows_of_columns_alike(run, served, target):
    config, rows, server, port = served
    address = {"in-process": (), "oip-grpc": ("--url", f"127.0.0.1:{port}")}.get(target, ("--url", server.address))
    result = run("bench", "run", config, "--target", target, "--rows", rows, *address, *FAST)
    assert result.code == 0, result.err
    seen = result.json["summary"]
    assert seen["accuracy"]["median"] > 0.8
    assert 0 < seen["stage_share.big"]["median"] <= 1


def test_a_foreign_server_of_columns_needs_no_configuration(run, served, tmp_path):
    server, rows = served[2], tmp_path / "unlabelled.csv"
    shop(2)[COLUMNS].to_csv(rows, index=False)
    options = ("--target", "oip-http", "--url", server.address, "--model", "shop", "--rows", rows, *FAST)
    assert run("bench", "run", *options).code == 0


@pytest.mark.parametrize("protocol", [tritonclient.http, tritonclient.grpc])
def test_a_third_partys_client_sends_a_tensor_for_each_column(served, protocol):
    _, _, server, port = served
    sent = [
        ("age", "INT64", [40, 33]),
        ("income", "FP64", [1.5, np.nan]),
        ("city", "BYTES", ["Ulm", ""]),
        ("city.missing", "BOOL", [False, True]),
        ("member", "BOOL", [True, False]),
        ("note", "BYTES", ["late refund", ""]),
        ("note.missing", "BOOL", [False, True]),
    ]
    inputs = []
    for name, datatype, values in sent:
        inputs.append(protocol.InferInput(name, [2], datatype))
        kinds = {"BYTES": object, "BOOL": bool, "INT64": np.int64, "FP64": np.float64}
        inputs[-1].set_data_from_numpy(np.array(values, kinds[datatype]))
    is_http = protocol is tritonclient.http
    address = server.address.removeprefix("http://") if is_http else f"127.0.0.1:{port}"
    with protocol.InferenceServerClient(address) as client:
        found = client.infer("shop", inputs)
        metadata = client.get_model_metadata("shop", **({} if is_http else {"as_json": True}))
    assert [one["name"] for one in metadata["inputs"]] == COLUMNS
    plain = httpx.post(f"{server.address}/predict", json={"rows": RECORDS}).json()
    assert found.as_numpy("answer").tolist() == plain["answer"]
    assert found.as_numpy("confidence") == pytest.approx(plain["confidence"])


@pytest.mark.parametrize("target", ["http", "oip-http", "oip-grpc"])
def test_the_deadlines_of_a_trace_reach_the_server(run, served, tmp_path, target):
    """One that is over before any answer gets 504 from the server; a client that gave up would have a timeout."""
    config, rows, server, port = served
    lines = [f"{k / 20},1,{(0.001, 9000)[k % 2]}" for k in range(20)]
    (tmp_path / "trace.csv").write_text("time_s,rows,deadline_ms\n" + "\n".join(lines) + "\n")
    url = f"127.0.0.1:{port}" if target == "oip-grpc" else server.address
    options = ("--target", target, "--rows", rows, "--url", url, "--repeats", "1", "--json", "--max-failed", "1")
    result = run("bench", "replay", tmp_path / "trace.csv", config, *options)
    assert result.code == 0, result.err
    (repeat,) = result.json["repeats"]
    assert repeat["goodput_per_s"] * repeat["seconds"] == pytest.approx(10)
    assert list(repeat["errors"]) in ([], ["504"], ["grpc 4"])
