"""Waits until the deployments in Ray Serve are a running cascade, with progress lines."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cascade.config import CascadeConfig
from cascade.errors import CascadeError, ConfigError
from cascade.serving.replica.segment_deployment import segment_name

__all__ = ["Progress", "StartStopped", "wait_until_running"]

Progress = Callable[[str], None]
"""Shows one line to the user."""

POLL_S = 0.2
REMIND_S = 10.0
FAILURE = "StartFailed: "
DEATH = "ActorDiedError"
LONGEST_MESSAGE = 2000


class StartStopped(CascadeError):
    """The cascade was to stop before it was up."""


def wait_until_running(config: CascadeConfig, stop: threading.Event, progress: Progress) -> None:
    """Waits for all segments; reports every change of state, and every ten seconds which segments are missing.

    Args:
        config: of the cascade that Ray Serve is starting.
        stop: ends the wait.
        progress: called with each line.

    Raises:
        ConfigError: a replica cannot start; the message is its own.
        StartStopped: ``stop`` was set.
    """
    labels = {
        segment_name(config, index): ", ".join(stage.name for stage in segment)
        for index, segment in enumerate(config.segments)
    }
    shown: dict[str, str] = {}
    began = reminded = time.monotonic()
    while not stop.wait(POLL_S):
        application = _application(config.name)
        if application is None:
            continue
        for deployment, state, message in _states(application):
            if _has_failed(state, message):
                raise ConfigError(_reason(labels.get(deployment, deployment), message))
            if shown.get(deployment) != state:
                shown[deployment] = state
                progress(f"{labels.get(deployment, deployment)}: {state}")
                reminded = time.monotonic()
        if str(application.status.value) == "RUNNING":
            return
        if time.monotonic() - reminded > REMIND_S:
            reminded = time.monotonic()
            late = ", ".join(f"{labels[name]} ({state})" for name, state in shown.items() if state != "ready")
            progress(f"waiting for {late or 'Ray Serve'} since {time.monotonic() - began:.0f} s")
    raise StartStopped("stopped before it was up")


def _application(name: str) -> Any:
    from ray import serve

    return serve.status().applications.get(name)


def _states(application: Any) -> Iterator[tuple[str, str, str]]:
    """Name, state and Ray Serve's message of each deployment."""
    for name, deployment in application.deployments.items():
        replicas: Mapping[Any, int] = deployment.replica_states
        counts = {str(getattr(state, "value", state)): count for state, count in replicas.items()}
        ready, all_ = counts.get("RUNNING", 0), sum(counts.values())
        status = str(deployment.status.value)
        if status == "HEALTHY":
            state = "ready"
        elif status in ("DEPLOY_FAILED", "UNHEALTHY"):
            state = "failed"
        else:
            state = "loading" if not ready else f"loading, {ready} of {all_} replicas ready"
        yield name, state, str(deployment.message)


def _has_failed(state: str, message: str) -> bool:
    return state == "failed" or "failed to start" in message


def _reason(label: str, message: str) -> str:
    """The replica's own message, without the traceback that Ray Serve puts around it."""
    _, found, text = message.rpartition(FAILURE)
    if found:
        return text.strip()[:LONGEST_MESSAGE]
    if DEATH in message:
        return (
            f"{label}: its process died while it loaded: it crashed, exited, or was killed because memory ran out; "
            "'cascade check' loads the same stages and shows their output"
        )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"{label}: its process cannot start: {(lines or ['Ray gave no reason'])[-1][:LONGEST_MESSAGE]}"
