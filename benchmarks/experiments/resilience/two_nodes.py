"""Can a cascade be deployed, stopped, started again at once, shared and refused on a cluster of two nodes?

    python -m cascade.benchmarks.experiments.resilience.two_nodes

Two Ray nodes on this machine. Sought: every command ends as ``docs/deploy.md`` describes it (exit code, line on
standard error), every failure is reported, and a stopped cascade is gone within ten seconds, while another one of the
same cluster goes on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import yaml

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.ray_nodes import RayNodes
from cascade.benchmarks.harness.servers.server_process import CASCADE_IS_UP, end_processes, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import write_cascade
from cascade.benchmarks.running import Running
from cascade.cli.shared.console import console
from cascade.errors import CascadeError
from cascade.serving.client.http_client import HttpClient

SHARE: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0.4}}
BOTH_NODES = SHARE | {"num_replicas": 2, "max_replicas_per_node": 1}
WAIT_S = 120.0
MOST_S = 10.0
LOOK_S = 0.05
ENDLESS = '''
import time


class Endless:
    """Never loads."""

    def __init__(self):
        {body}

    def predict(self, rows):
        """Is never called."""
'''


class Command(Running):
    """``cascade serve`` on a cluster, with a log of its own.

    Args:
        config: of the cascade.
        port: to listen on.
        nodes: of the cluster.
    """

    def __init__(self, config: Path, port: int, nodes: RayNodes) -> None:
        self.config, self.port, self._nodes = config, port, nodes
        self._truth = busy_stage.TwoStages((0, 0))
        self._log = config.with_name(f"log-{port}")

    def _start(self, undo: ExitStack) -> None:
        command = [sys.executable, "-m", "cascade", "serve", str(self.config), "--port", str(self.port)]
        environment = os.environ | self._nodes.environment
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        undo.callback(end_processes, self.process)

    @property
    def text(self) -> str:
        """All output of the command."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> float:
        """Seconds until the command has written a text.

        Raises:
            CascadeError: it ended, or took too long.
        """
        began = time.monotonic()
        while text not in self.text:
            if self.process.poll() is not None or time.monotonic() - began > WAIT_S:
                raise CascadeError(f"it did not write {text!r}:\n{self.text}")
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def end(self, number: int | None = None) -> dict[str, Any]:
        """Waits for its end, after a signal if there is one: exit code, seconds, the last line, whether a traceback."""
        began = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        lines = self.text.strip().splitlines()
        return {
            "exit_code": code,
            "seconds": round(time.monotonic() - began, 2),
            "last_line": lines[-1] if lines else "",
            "traceback": "Traceback" in self.text,
        }

    def answers(self) -> bool:
        """Whether every row of a request is answered rightly."""
        rows = busy_stage.new_rows(20)
        client = HttpClient(f"http://127.0.0.1:{self.port}", None, None)
        status, content = client.request("POST", "/predict", json.dumps({"rows": rows.tolist()}).encode())
        return status == 200 and content["answer"] == [answer for answer, _, _ in self._truth.predict(rows)]


class Scenes:
    """Operations of a cascade, one after the other.

    Args:
        folder: for configurations.
        nodes: the cluster.
    """

    def __init__(self, folder: Path, nodes: RayNodes) -> None:
        self._folder, self._nodes = folder, nodes
        self._port = free_port()

    def config(self, name: str, large: dict[str, Any] = BOTH_NODES, backend: dict[str, Any] | None = None) -> Path:
        """Writes the configuration of a cascade."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        path = write_cascade(folder, (100, 1000), "busy_stage", {"metrics": False}, {"small": SHARE, "large": large})
        values = yaml.safe_load(path.read_text()) | {"name": name}
        values["stages"][1]["backend"] = backend or values["stages"][1]["backend"]
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def command(self, config: Path, port: int | None = None) -> Command:
        """To serve a cascade, by default on a free port."""
        return Command(config, port or free_port(), self._nodes)

    def replicas(self) -> set[psutil.Process]:
        """All that run on the cluster."""
        return {process for process in self._nodes.family() if "ServeReplica" in _title(process)}

    @contextmanager
    def first(self) -> Iterator[Command]:
        """The cascade that is there first."""
        with self.command(self.config("first"), self._port) as command:
            command.wait_for(CASCADE_IS_UP)
            yield command

    def stopped_and_started_again(self) -> dict[str, Any]:
        """Deployed; stopped by SIGTERM; started at once again."""
        with self.first() as command:
            answered, before = command.answers(), self.replicas()
            stop = command.end(signal.SIGTERM)
        left = self._left(before)
        with self.first() as command:
            again = command.answers()
        holds = answered and again and stop["exit_code"] == 0 and left == 0 and len(before) == 3
        return {"stop": stop, "replicas": len(before), "left": left, "as_described": holds}

    def shared(self) -> dict[str, Any]:
        """Two cascades of different names and ports; then one of the same port, one of the same name."""
        with self.first() as first:
            with self.command(self.config("second", SHARE)) as second:
                second.wait_for(CASCADE_IS_UP)
                both = first.answers() and second.answers()
                stop = second.end(signal.SIGTERM)
            with self.command(self.config("third", SHARE), self._port) as third:
                same_port = third.end()
            with self.command(self.config("first", SHARE)) as twin:
                same_name = twin.end()
            served_on = first.answers()
        refused = all(
            "'first'" in each["last_line"] and each["exit_code"] == 3 and not each["traceback"]
            for each in (same_port, same_name)
        )
        holds = both and served_on and refused and stop["exit_code"] == 0
        return {"stop": stop, "same_port": same_port, "same_name": same_name, "as_described": holds}

    def cannot_load(self) -> dict[str, Any]:
        """A stage whose class does not exist: reported, and nothing left of the others."""
        backend = {"type": "custom", "object": "busy_stage:Missing"}
        with self.first() as first:
            before = self.replicas()
            with self.command(self.config("broken", SHARE, backend)) as broken:
                broken.wait_for("large: loading")
                end = broken.end()
            left, served_on = self._left(self.replicas() - before), first.answers()
        reported = "stage 'large' cannot load" in end["last_line"]
        holds = end["exit_code"] == 3 and reported and not end["traceback"] and left == 0 and served_on
        return {"end": end, "left": left, "as_described": holds}

    def endless(self, body: str) -> dict[str, Any]:
        """A stage that never loads, and SIGTERM."""
        with self.first() as first:
            before = self.replicas()
            config = self.config("endless", SHARE, {"type": "custom", "object": "endless:Endless"})
            config.with_name("endless.py").write_text(ENDLESS.format(body=body), encoding="utf-8")
            with self.command(config) as command:
                command.wait_for("large: loading")
                command.wait_for("small: ready")
                end = command.end(signal.SIGTERM)
            left, served_on = self._left(self.replicas() - before), first.answers()
        holds = end["exit_code"] == 0 and end["seconds"] <= MOST_S and left == 0 and served_on
        return {"end": end, "left": left, "as_described": holds}

    def no_gpu(self) -> dict[str, Any]:
        """A stage that requires a GPU, which no node has: reported, waited for, and ended by SIGINT."""
        with self.command(self.config("hungry", {"ray_actor_options": {"num_gpus": 1}})) as command:
            reported_s = command.wait_for("waiting for another node: stage 'large' requires num_gpus: 1")
            command.wait_for("large: loading")
            end = command.end(signal.SIGINT)
        left = self._left(self.replicas())
        holds = end["exit_code"] == 0 and end["seconds"] <= MOST_S and left == 0
        return {"reported_s": round(reported_s, 2), "end": end, "left": left, "as_described": holds}

    def _left(self, processes: set[psutil.Process]) -> int:
        """How many have not ended after ten seconds."""
        return len(psutil.wait_procs(list(processes), timeout=MOST_S)[1])


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def main(scene: Annotated[list[str], typer.Option(help="Repeat for several [default: all].")] = []) -> Found:  # noqa: B006
    """Start two nodes, and operate cascades on them."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, RayNodes(Path(folder)) as nodes:
        scenes = Scenes(Path(folder), nodes)
        for name, run in {
            "stopped_and_started_again": scenes.stopped_and_started_again,
            "shared": scenes.shared,
            "cannot_load": scenes.cannot_load,
            "endless_sleep": lambda: scenes.endless("time.sleep(3600)"),
            "endless_work": lambda: scenes.endless("while True: pass"),
            "no_gpu": scenes.no_gpu,
        }.items():
            if not scene or name in scene:
                results[name] = run()
                console.print(name, results[name])
    return {"scenes": results}


def figures(found: Found) -> Figures:
    """Over all scenes."""
    scenes = found["scenes"].values()
    return {
        "scenes": Figure(len(scenes)),
        "scenes that do not end as described": Figure(sum(not seen["as_described"] for seen in scenes), 0),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
