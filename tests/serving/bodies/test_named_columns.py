"""Rows of named columns over the wire: JSON records, and JSON objects as texts in the Open Inference Protocol."""

import json

import jsonschema
import numpy as np
import pytest

from cascade.config import CascadeConfig
from cascade.errors import ConfigError, RowsError
from cascade.rows.columns import records
from cascade.serving.bodies.wire import RAW_TYPE, decode_rows
from cascade.serving.errors import BodyTooLarge
from cascade.serving.http.schemas import component_schemas
from cascade.serving.oip.tensors import check_tensor, datatype_of, decode_raw, decode_values

RECORDS = [
    {"age": 4.5, "full name": "Ann", "plan": "pro", "member": True, "visits": 3},
    {"age": None, "full name": None, "plan": None, "member": False, "visits": 0},
]
TEXT = """
name: shop
rows: {columns: {age: number, full name: text, plan: [free, pro], member: boolean, visits: integer}}
stages:
  - {name: only, backend: {type: custom, object: "m:A"}}
serving: {max_request_rows: 1000}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return CascadeConfig.load(path)


def body(rows):
    return json.dumps({"rows": rows}).encode()


def test_records_are_rows(config):
    rows = decode_rows({}, body(RECORDS), config)
    assert rows.dtype == config.rows.numpy_dtype
    assert records(rows) == RECORDS
    assert records(decode_rows({}, body([{"member": False, "visits": 0}]), config)) == RECORDS[1:]
    assert len(decode_rows({}, body(RECORDS * 500), config)) == 1000


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([[1, "a", "pro", True, 2]], "row 0 is list"),
        ([RECORDS[0] | {"Age": 1}], "unknown columns 'Age'"),
        ([RECORDS[0], RECORDS[0] | {"visits": "3"}], "'visits' must be of the type integer; row 1 is '3'"),
        ([RECORDS[0] | {"age": {"a": [1]}}], "'age' must be of the type number"),
    ],
)
def test_bad_records_are_refused(config, rows, message):
    with pytest.raises(RowsError, match=message):
        decode_rows({}, body(rows), config)


@pytest.mark.parametrize("column", ["age", "full name", "plan", "member", "visits"])
def test_a_deeply_nested_value_is_refused_like_any_other(config, column):
    nested = b"[" * 1000 + b"]" * 1000
    record = b'{"member": true, "visits": 1, "%b": %b}' % (column.encode(), nested)
    with pytest.raises(RowsError, match="row 0 is a list"):
        decode_rows({}, b'{"rows": [%b]}' % record, config)


def test_too_many_values_are_refused_before_they_are_parsed(config):
    with pytest.raises(BodyTooLarge):
        decode_rows({}, body(RECORDS * 2000), config)
    with pytest.raises(BodyTooLarge):
        decode_rows({}, body([RECORDS[0] | {"age": [[]] * 50_000}]), config)


def test_raw_bytes_are_refused_with_the_form_that_is_read(config):
    with pytest.raises(RowsError, match=r"named columns cannot be sent as .* an object for each row"):
        decode_rows({"content-type": RAW_TYPE}, b"1234", config)


def test_the_open_inference_protocol_has_an_object_for_each_row(config):
    assert datatype_of(config.rows) == "BYTES"
    texts = [json.dumps(each) for each in RECORDS]
    assert check_tensor("rows", "BYTES", [2], config) == (2,)
    assert records(decode_values(texts, (2,), config.rows)) == RECORDS
    content = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in texts)
    assert records(decode_raw(content, (2,), config.rows)) == RECORDS
    for bad in (["{"], ["[1]"], [3]):
        with pytest.raises(RowsError, match="row 0"):
            decode_values(bad, (1,), config.rows)


def test_the_schema_of_rows_accepts_what_the_server_reads(config):
    schemas = component_schemas(config)
    whole = {**schemas["Rows"], "components": {"schemas": schemas}}
    check = jsonschema.Draft202012Validator(whole)
    assert check.is_valid({"rows": RECORDS})
    assert check.is_valid({"rows": [{"member": True, "visits": 1}]})
    for change in ({"Age": 1}, {"plan": "gold"}, {"member": None}, {"visits": "3"}):
        assert not check.is_valid({"rows": [RECORDS[0] | change]})


def test_models_that_take_one_array_are_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"x")
    (tmp_path / "config.yaml").write_text(TEXT.replace('type: custom, object: "m:A"', "type: onnx, model: net.onnx"))
    with pytest.raises(ConfigError, match="stage 'only' has 'onnx', which takes one array of numbers"):
        CascadeConfig.load(tmp_path / "config.yaml")


def test_a_custom_backend_may_be_given_a_structured_array(config):
    rows = decode_rows({}, body(RECORDS), config)
    assert isinstance(rows, np.ndarray)
    assert rows["visits"].tolist() == [3, 0]
