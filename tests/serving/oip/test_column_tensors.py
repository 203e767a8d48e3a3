"""Named columns as tensors of the Open Inference Protocol: what the client sends is what the server reads."""

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.clients.http_bodies import body_of
from cascade.benchmarks.clients.oip_tensors import InputForm, sent_tensors
from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.rows.columns import column_rows, records
from cascade.serving.errors import BodyTooLarge
from cascade.serving.http.schemas import component_schemas
from cascade.serving.oip.grpc_messages import decode_request
from cascade.serving.oip.http_bodies import decode_inference
from cascade.serving.oip.inference import model_metadata
from cascade.serving.oip.protobuf import new_message

COLUMNS = {"age": "number", "full name": "text", "plan": ["free", "pro"], "member": "boolean", "visits": "integer"}
CONFIG = CascadeConfig.model_validate(
    {
        "name": "shop",
        "rows": {"columns": COLUMNS},
        "stages": [{"name": "only", "backend": {"type": "custom", "object": "m:A"}}],
        "serving": {"max_request_rows": 50},
    }
)
ROWS = column_rows(
    [
        {"age": 4.5, "full name": "Ann", "plan": "pro", "member": True, "visits": 3},
        {"age": None, "full name": None, "plan": None, "member": False, "visits": -(2**62)},
        {"age": -1e-9, "full name": "", "plan": "free", "member": False, "visits": 0},
    ],
    CONFIG.rows.columns,
)
FORMS = [InputForm()]


def by_http(body, headers):
    return decode_inference({name.lower(): value for name, value in headers.items()}, body, CONFIG).rows


def by_grpc(tensors, *, typed=False):
    message = new_message("ModelInferRequest", model_name="shop")
    fields = {"FP64": "fp64", "INT64": "int64", "BOOL": "bool", "BYTES": "bytes"}
    for tensor in tensors:
        sent = message.inputs.add(**tensor.head)
        if typed:
            values = ["" if value is None else value for value in tensor.values.ravel().tolist()]
            values = [value.encode() if isinstance(value, str) else value for value in values]
            getattr(sent.contents, f"{fields[tensor.datatype]}_contents").extend(values)
        else:
            message.raw_input_contents.append(tensor.raw)
    return decode_request(message, CONFIG).rows


@pytest.mark.parametrize("kind", ["oip-json", "oip-binary"])
def test_the_server_reads_the_very_columns_that_were_sent_over_http(kind):
    assert records(by_http(*body_of(ROWS, kind, FORMS))) == records(ROWS)


@pytest.mark.parametrize("typed", [False, True])
def test_the_server_reads_the_very_columns_that_were_sent_over_grpc(typed):
    assert records(by_grpc(sent_tensors(ROWS, FORMS, raw=True), typed=typed)) == records(ROWS)


NAMES = st.text(st.characters(codec="utf-8"), max_size=5) | st.none()
RECORD = st.fixed_dictionaries(
    {
        "age": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
        "full name": NAMES,
        "plan": st.sampled_from(["free", "pro", None]),
        "member": st.booleans(),
        "visits": st.integers(-(2**63), 2**63 - 1),
    }
)


@given(st.lists(RECORD, min_size=1, max_size=4))
def test_any_rows_survive_every_form(rows):
    rows = column_rows(rows, CONFIG.rows.columns)
    for kind in ("oip-json", "oip-binary"):
        assert records(by_http(*body_of(rows, kind, FORMS))) == records(rows)
    assert records(by_grpc(sent_tensors(rows, FORMS, raw=True))) == records(rows)


def test_the_metadata_lists_a_tensor_for_each_column():
    inputs = model_metadata(CONFIG, "1")["inputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in inputs] == [
        ("age", "FP64", [-1]),
        ("full name", "BYTES", [-1]),
        ("plan", "BYTES", [-1]),
        ("member", "BOOL", [-1]),
        ("visits", "INT64", [-1]),
    ]


def content(**changes):
    """A JSON request of one row; a change is (datatype, shape, data), or ``None`` to leave the input out."""
    inputs = {
        "age": ("FP64", [1], [4.5]),
        "full name": ("BYTES", [1], ["Ann"]),
        "plan": ("BYTES", [1], ["pro"]),
        "member": ("BOOL", [1], [True]),
        "visits": ("INT64", [1], [3]),
    } | changes
    keys = ("datatype", "shape", "data")
    return {
        "inputs": [
            {"name": name, **dict(zip(keys, one, strict=True))} for name, one in inputs.items() if one is not None
        ]
    }


def decoded(request):
    return by_http(json.dumps(request).encode(), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": None}, "'age' missing"),
        ({"size": ("FP64", [1], [1.0])}, "no input 'size'; the inputs are 'age'"),
        ({"size.missing": ("BOOL", [1], [True])}, "no input 'size.missing'"),
        ({"age": ("BYTES", [1], ["4"])}, "'age' must have the datatype FP64; got 'BYTES'"),
        ({"visits": ("FP64", [1], [3.0])}, "'visits' must have the datatype INT64; got 'FP64'"),
        ({"member": ("INT8", [1], [1])}, "'member' must have the datatype BOOL; got 'INT8'"),
        ({"age": (["FP64"], [1], [1.0])}, "'age' must have the datatype FP64; got a list"),
        ({"age": ("FP64", [2], [1.0, 2.0])}, "same number of rows; got .*'age': 2"),
        ({"age": ("FP64", [0], [])}, "'age' must have the shape"),
        ({"age": ("FP64", [1, 2], [1.0, 2.0])}, "'age' must have the shape"),
        ({"age": ("FP64", "1", [1.0])}, "'age' must have the shape"),
        ({"age": ("FP64", [1], [1.0, 2.0])}, "'age' must have 1 values; got 2"),
        ({"age": ("FP64", [1], ["old"])}, "'age' must be of the type number; row 0 is 'old'"),
        ({"age": ("FP64", [1], [[[1.0]]])}, "'age' must be of the type number"),
        ({"age": ("FP64", [1], 1.0)}, "data of input 'age' must be a list"),
        ({"plan": ("BYTES", [1], ["gold"])}, "'plan' must be one of 'free', 'pro' or missing; row 0 is 'gold'"),
        ({"visits": ("INT64", [1], [None])}, "'visits' must have a value in every row"),
        ({"visits.missing": ("BOOL", [1], [True])}, "'visits' must have a value in every row"),
        ({"age.missing": ("BOOL", [1], [None])}, "'age.missing' must be true or false"),
        ({"age.missing": ("BOOL", [1], [[True, False]])}, "'age.missing' must be true or false"),
        ({"visits": ("INT64", [1], [2**64])}, "'visits' must be of the type integer"),
    ],
)
def test_wrong_columns_are_refused_with_their_name(changes, message):
    with pytest.raises(RowsError, match=message):
        decoded(content(**changes))


@pytest.mark.parametrize("name", [None, 3, ["age"], {"a": 1}])
def test_a_name_that_is_no_text_is_refused(name):
    request = content()
    request["inputs"][0]["name"] = name
    with pytest.raises(RowsError, match="name of an input must be a text"):
        decoded(request)


def test_a_column_given_twice_is_refused():
    request = content()
    request["inputs"] += request["inputs"][:1]
    with pytest.raises(RowsError, match="'age' is given twice"):
        decoded(request)


def test_too_many_rows_are_refused():
    with pytest.raises(BodyTooLarge, match="50 rows; got 51"):
        decoded(json.loads(body_of(np.resize(ROWS, 51), "oip-json", FORMS)[0]))


def test_other_widths_of_numbers_and_shapes_of_columns_are_read():
    read = decoded(content(age=("INT32", [1, 1], [[4]]), visits=("UINT8", [1, 1], [3])))
    assert records(read) == [{"age": 4.0, "full name": "Ann", "plan": "pro", "member": True, "visits": 3}]


def test_missing_values_need_no_value():
    read = decoded(content(**{"age": ("FP64", [1], [None]), "plan.missing": ("BOOL", [1], [True])}))
    assert (records(read)[0]["age"], records(read)[0]["plan"]) == (None, None)


def test_raw_sizes_must_be_those_of_the_bytes():
    body, headers = body_of(ROWS, "oip-binary", FORMS)
    with pytest.raises(RowsError, match="bytes follow the JSON"):
        by_http(body + b"x", headers)
    length = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:length])
    head["inputs"][0]["parameters"]["binary_data_size"] -= 8
    changed = json.dumps(head).encode()
    with pytest.raises(RowsError, match="bytes follow the JSON"):
        by_http(changed + body[length:], headers | {"Inference-Header-Content-Length": str(len(changed))})
    with pytest.raises(RowsError, match="'age' must have 24 bytes; got 16"):
        by_http(changed + body[length + 8 :], headers | {"Inference-Header-Content-Length": str(len(changed))})


def test_a_json_object_for_each_row_is_still_read():
    texts = [json.dumps(row) for row in records(ROWS)]
    assert records(decoded({"inputs": [{"name": "rows", "datatype": "BYTES", "shape": [3], "data": texts}]})) == (
        records(ROWS)
    )


def test_a_foreign_models_datatypes_and_axes_are_used():
    forms = [InputForm("age", "FP32", 2), InputForm("visits", "INT32", 2)]
    found = {tensor.name: tensor for tensor in sent_tensors(ROWS, forms, raw=True)}
    assert (found["age"].datatype, found["age"].values.dtype, found["age"].values.shape) == ("FP32", np.float32, (3, 1))
    assert found["plan"].head == {"name": "plan", "datatype": "BYTES", "shape": [3]}
    assert found["plan.missing"].values.tolist() == [False, True, False]


def test_the_schema_of_a_request_accepts_columns():
    schemas = component_schemas(CONFIG)
    check = jsonschema.Draft202012Validator({**schemas["InferenceRequest"], "components": {"schemas": schemas}})
    assert check.is_valid(content())
    assert not check.is_valid({"inputs": []})
