"""The OpenAPI document: valid, complete, and matched by the application's answers."""

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_service import POLICY, LocalService, ask

from cascade.serving.auth.guard import is_for_admins
from cascade.serving.errors import RequestError
from cascade.serving.http.openapi import ERRORS, openapi_document
from cascade.serving.http.routes import ROUTES, served_routes
from cascade.serving.oip.tensors import OUTPUTS

# The validator's dependencies warn when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def document(config):
    """The document over HTTP."""
    (response,) = ask(LocalService(config), {"method": "GET", "url": "/openapi.json"})
    assert response.json() == openapi_document(config)
    return response.json()


def test_the_document_is_valid_openapi(document):
    from openapi_spec_validator import validate

    validate(document)


def test_every_route_is_documented_and_answered(config, document):
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(route.method, route.path.replace("{name}", "fake")) for route in served_routes(config)}
    requests = [{"method": method, "url": path.replace("{version}", POLICY.version)} for method, path in sorted(listed)]
    for request, response in zip(requests, ask(LocalService(config), *requests)):
        for_admins = is_for_admins(request["method"], request["url"])
        refused = 403 if for_admins else 400
        assert response.status_code == (refused if request["method"] != "GET" else 200), request
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(set(names)) == len(names)


def schema_of(document, path, method, status="200"):
    """The schema of a JSON response, with the components that it refers to."""
    responses = document["paths"][path][method]["responses"]
    schema = responses[status]["content"]["application/json"]["schema"]
    return schema | {"components": document["components"]}


def check(document, path, method, response):
    jsonschema.validate(response.json(), schema_of(document, path, method, str(response.status_code)))


@pytest.mark.parametrize(
    "path", [route.path for route in ROUTES if route.method == "GET" and route.path != "/dashboard"]
)
def test_answers_match_their_schema(config, document, path):
    path = path.replace("{name}", "fake")
    (response,) = ask(LocalService(config), {"method": "GET", "url": path.replace("{version}", POLICY.version)})
    check(document, path, "get", response)


ROWS = st.lists(st.tuples(st.integers(0, 63), st.integers(-9, 9)), min_size=1, max_size=4).map(np.array)


def infer_body(rows, names):
    tensor = {"name": "rows", "datatype": "INT64", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return {"id": "x", "inputs": [tensor], "outputs": [{"name": name} for name in names]}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.lists(st.sampled_from(list(OUTPUTS)), unique=True), st.booleans())
def test_bodies_that_match_their_schema_get_answers_that_match_theirs(config, document, rows, names, good):
    bodies = {"/predict": {"rows": rows.tolist()}, "/v2/models/fake/infer": infer_body(rows, names)}
    for path, body in bodies.items():
        asked = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(body, asked | {"components": document["components"]})
        content = json.dumps(body if good else body | {"rows": [[]], "inputs": []})
        (response,) = ask(LocalService(config), {"method": "POST", "url": path, "content": content})
        assert response.status_code == (200 if good else 400)
        check(document, path, "post", response)


def test_rows_that_do_not_match_the_schema_are_refused(config, document):
    schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for rows in ([], [[1]], [[1, "2"]], [1, 2], [[1, 2]] * 33):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"rows": rows}, schema | {"components": document["components"]})
        content = json.dumps({"rows": rows})
        (response,) = ask(LocalService(config), {"method": "POST", "url": "/predict", "content": content})
        assert response.status_code in (400, 413)


def test_required_keys_are_documented(config):
    serving = config.serving.model_copy(update={"keys_env": "KEYS"})
    document = openapi_document(config.model_copy(update={"serving": serving}))
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    free = {path for path, methods in document["paths"].items() for each in methods.values() if "security" not in each}
    assert free == {"/health", "/v2/health/live", "/v2/health/ready", "/dashboard"}
    open_to_all = openapi_document(config)["paths"]
    kept = {path for path, methods in open_to_all.items() for each in methods.values() if "security" in each}
    assert kept == {"/policy", "/policy/rollback"}


def test_every_status_of_an_error_is_documented():
    assert {error.status for error in RequestError.__subclasses__()} | {400} == ERRORS.keys()
