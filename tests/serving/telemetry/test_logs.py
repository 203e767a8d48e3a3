"""Logs: machine-readable, and without anything that a client has sent."""

import json
import logging
import pickle

import pytest
from local_service import LocalService, ask

from cascade.serving.telemetry.logs import LogFormatter, set_up_logs

NUMBER = "424242"


def failing():
    try:
        int(f"row {NUMBER}")
    except ValueError as error:
        raise RuntimeError(f"cannot score {NUMBER}") from error


def record(**extra):
    try:
        failing()
    except RuntimeError as error:
        info = (RuntimeError, error, error.__traceback__)
    made = logging.makeLogRecord(
        {"name": "cascade.x", "levelno": 40, "levelname": "ERROR", "msg": "it failed", **extra}
    )
    made.exc_info = info
    return made


@pytest.mark.parametrize("kind", ["json", "text"])
def test_an_exception_is_logged_without_its_text(kind):
    line = LogFormatter(kind, {"replica": "abc"}).format(record(rows=3))
    assert NUMBER not in line
    assert "\n" not in line
    for part in ("RuntimeError", "ValueError", "in failing", "test_logs.py", "it failed", "abc"):
        assert part in line


def test_json_has_the_fields():
    line = json.loads(LogFormatter("json", {"replica": "abc"}).format(record(rows=3)))
    assert (line["level"], line["logger"], line["message"], line["rows"]) == ("error", "cascade.x", "it failed", 3)
    assert [each["type"] for each in line["exception"]] == ["builtins.RuntimeError", "builtins.ValueError"]
    assert line["time"].endswith("+00:00")


def test_text_is_one_line_whatever_the_fields_hold():
    line = LogFormatter("text", {}).format(record(note='two words\nand "more"'))
    assert 'note="two words\\nand \\"more\\""' in line


@pytest.fixture
def restored():
    logger = logging.getLogger("cascade")
    kept = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = kept[0], kept[2]
    logger.setLevel(kept[1])


@pytest.mark.parametrize("kind", ["json", "text"])
def test_a_service_that_fails_on_a_row_does_not_log_the_row(config, capsys, restored, kind):
    set_up_logs(kind, {"replica": "abc"})
    set_up_logs(kind, {"replica": "abc"})
    request = {"method": "POST", "url": "/predict", "json": {"rows": [[int(NUMBER), 0]]}}
    (response,) = ask(LocalService(config), request)
    logged = capsys.readouterr().err
    assert response.status_code == 500
    assert "IndexError" in logged
    assert logged.count("\n") == 1
    assert NUMBER not in logged + response.text
    if kind == "json":
        assert json.loads(logged)["rows"] == 1


def test_an_error_that_is_its_own_cause_is_formatted():
    error = pickle.loads(pickle.dumps(ValueError("x")))
    error.__cause__ = error
    made = logging.makeLogRecord({"exc_info": (ValueError, error, None)})
    assert "ValueError" in LogFormatter("json", {}).format(made)
