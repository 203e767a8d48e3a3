"""From the options of a benchmark to its target, rows and processes."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from cascade.cli.bench.options import SERVED_CONNECTIONS, BenchOptions
from cascade.cli.shared.inputs import load_checked_rows, load_rows
from cascade.cli.shared.served import DEFAULT_URL, key_of, served_url

if TYPE_CHECKING:
    from cascade.benchmarks.clients.lane import OpenLanes
    from cascade.benchmarks.generator.processes import SenderProcesses, ThisProcess
    from cascade.benchmarks.workload import Workload
    from cascade.cascade import Cascade
    from cascade.config import CascadeConfig
    from cascade.rows.checks import RowForm

__all__ = ["Preparation", "prepare"]

MOST_TRIED_ROWS = 2000
"""Rows that are sent once to find the hard ones."""
TRIED_TOGETHER = 50
LARGEST_CONSTANT, LEAST_ROWS = 0.9, 50
"""With fewer rows, or labels that are more alike, a right target may give all rows the same answer."""


@dataclass(eq=False)
class Preparation:
    """A target with rows for it.

    Attributes:
        options: of the command.
        config: of the cascade; ``None`` without.
        cascade: in this process; ``None`` for other targets.
        rows: (n, ...).
        label: (n,) int, or ``None``.
    """

    options: BenchOptions
    config: "CascadeConfig | None"
    cascade: "Cascade | None"
    rows: np.ndarray
    label: np.ndarray | None

    @property
    def connections(self) -> int:
        """Most requests under way in a closed loop."""
        return self.options.connections or (1 if self.cascade else SERVED_CONNECTIONS)

    @property
    def constant_accuracy(self) -> float | None:
        """Accuracy of the most frequent label as the answer to all rows; ``None`` without labels."""
        return None if self.label is None else float(np.bincount(self.label).max() / len(self.label))

    @property
    def needs_different_answers(self) -> bool:
        """Whether one answer to all rows would be wrong for so many that it shows a broken target."""
        constant = self.constant_accuracy
        return constant is not None and constant < LARGEST_CONSTANT and len(self.rows) >= LEAST_ROWS

    def workload(self, sizes: "int | list[int]") -> "Workload":
        """The rows in requests of these sizes; with a difficulty mix, after a trial that finds the hard rows.

        Raises:
            InputError: all rows are hard, or all are easy, or the target names no stages.
        """
        from cascade.benchmarks.workload import Workload

        if self.options.hard_share is None:
            return Workload.from_rows(self.rows, self.label, sizes)
        hard = self._hard_rows()
        count = len(hard)
        label = None if self.label is None else self.label[:count]
        return Workload.from_rows(self.rows[:count], label, sizes, hard)

    def _hard_rows(self) -> np.ndarray:
        """(m,) bool: rows that the first stage does not answer."""
        from cascade.benchmarks.clients.lane import ANSWERED
        from cascade.benchmarks.errors import TargetError
        from cascade.benchmarks.generator.processes import probe
        from cascade.benchmarks.workload import Batch, Workload

        rows = self.rows[:MOST_TRIED_ROWS]
        parts = [rows[start : start + TRIED_TOGETHER] for start in range(0, len(rows), TRIED_TOGETHER)]
        workload = Workload(tuple(Batch(part, None) for part in parts))
        found = asyncio.run(probe(self.open_lanes(workload), self.options.timeout_s, range(len(parts))))
        failed = [content for status, content in found if status != ANSWERED]
        if failed:
            raise TargetError(f"the target does not answer, so its hard rows cannot be found: {failed[0]}")
        stages = [name for _, columns in found for name in columns.get("stage") or ()]
        if len(stages) != len(rows):
            raise TargetError("a difficulty mix needs a target that names the stage of each answer")
        first = self.config.stages[0].name if self.config is not None else stages[0]
        return np.array([name != first for name in stages])

    def open_lanes(self, workload: "Workload") -> "OpenLanes":
        """How lanes of the target are opened.

        Raises:
            InputError: an option about the target is wrong.
        """
        from cascade.benchmarks.clients.answers import AnswerReader
        from cascade.benchmarks.clients.call_lanes import HandleLanes, InProcessLanes

        options, config = self.options, self.config
        if self.cascade is not None:
            return InProcessLanes(self.cascade, workload)
        stages = None if config is None else frozenset(stage.name for stage in config.stages)
        classes = None if config is None or config.classes is None else len(config.classes)
        protocol = "oip" if options.target.startswith("oip") else "cascade"
        reader = AnswerReader(protocol, stages, classes, options.output)
        if options.target == "handle" and config is not None:
            return HandleLanes(config.name, workload, reader)
        return self._over_network(workload, reader)

    def _over_network(self, workload: "Workload", reader: Any) -> "OpenLanes":
        from cascade.benchmarks.clients.grpc_lanes import GrpcLanes
        from cascade.benchmarks.clients.http_lanes import Credentials, HttpAddress, HttpLanes, inputs_of

        options, config = self.options, self.config
        key = key_of(options.key_env)
        credentials = Credentials(key, options.ca, options.certificate, options.certificate_key)
        model = options.model or (config.name if config is not None else "")
        if options.target == "oip-grpc":
            url = self._grpc_address()
        else:
            url = options.url or (DEFAULT_URL if config is None else served_url(config))
        if (options.ca or options.certificate) and not url.startswith("https://"):
            raise typer.BadParameter(f"--ca and --certificate need an address that begins with https://; got {url!r}")
        if options.target == "oip-grpc":
            return GrpcLanes(url, model, workload, reader, credentials)
        address = HttpAddress(url.rstrip("/"), credentials)
        if options.target == "http":
            return HttpLanes(address, "/predict", workload, reader, "binary")
        if options.target == "http-json":
            return HttpLanes(address, "/predict", workload, reader, "json")
        inputs = asyncio.run(inputs_of(address, model, options.timeout_s))
        body: Any = "oip-binary" if options.target == "oip-http" else "oip-json"
        return HttpLanes(address, f"/v2/models/{model}/infer", workload, reader, body, inputs)

    def _grpc_address(self) -> str:
        if self.options.url is not None:
            return self.options.url
        serving = self.config.serving if self.config is not None else None
        if serving is None or serving.grpc_port is None:
            raise typer.BadParameter("the target oip-grpc needs --url host:port, or a config with serving.grpc_port")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(serving.host, serving.host)  # noqa: S104
        scheme = "" if serving.tls_certificate is None else "https://"
        return f"{scheme}{f'[{host}]' if ':' in host else host}:{serving.grpc_port}"

    def senders(self, workload: "Workload", connections: int, stack: ExitStack) -> "SenderProcesses | ThisProcess":
        """Running processes of the client, after one request that shows that the target answers.

        Raises:
            TargetError: it does not.
        """
        from cascade.benchmarks.clients.lane import ANSWERED, CONNECTION
        from cascade.benchmarks.errors import TargetError
        from cascade.benchmarks.generator.processes import (
            Sender,
            SenderProcesses,
            ThisProcess,
            default_processes,
            probe,
        )
        from cascade.benchmarks.workload import DifficultyMix, Workload

        options = self.options
        share = options.hard_share
        mix = None if share is None else DifficultyMix(share, options.hard_burst_s)
        sender: Sender = Sender(self.open_lanes(workload), workload, mix, options.timeout_s)
        if self.cascade is not None:
            self.cascade.predict(workload.batches[0].rows)  # the first call of a model also loads code, for seconds
            return stack.enter_context(ThisProcess(sender))
        if options.target != "handle":
            first = Workload(workload.batches[:1])
            ((status, content),) = asyncio.run(probe(self.open_lanes(first), options.timeout_s))
            if status != ANSWERED:
                without = status == CONNECTION and options.ca is not None and options.certificate is None
                hint = "; servers that require a client certificate close like this (--certificate)" if without else ""
                raise TargetError(f"the target does not answer the first request: {content}{hint}")
        processes = options.processes or (1 if options.target == "handle" else default_processes(connections))
        return stack.enter_context(SenderProcesses(sender, min(processes, connections), options.pinned()))


def _columns_of(file: Path | None) -> "RowForm | None":
    """The named columns of a table of mixed types, by its first rows; ``None`` for other rows.

    Raises:
        DataError: the file cannot be read.
    """
    from cascade.config import RowsConfig
    from cascade.files.tables import is_table_file
    from cascade.rows.table_rows import table_columns

    columns = table_columns(file) if file is not None and is_table_file(file) else None
    return None if columns is None else RowsConfig(columns=columns)


def prepare(options: BenchOptions) -> Preparation:
    """Loads configuration, rows and, for the target in-process, the cascade.

    Raises:
        InputError: one of them cannot be loaded.
    """
    from cascade.cascade import Cascade
    from cascade.config import CascadeConfig

    if options.config is None:
        rows, label = load_rows(options.dataset, "test", options.rows, form=_columns_of(options.rows))
        rows, label = rows[: options.limit], None if label is None else label[: options.limit]
        return Preparation(options, None, None, rows, label)
    config = CascadeConfig.load(options.config)
    cascade = Cascade.load(options.config, options.policy) if options.target == "in-process" else None
    rows, label = load_checked_rows(config, options.dataset, "test", options.rows, options.limit)
    return Preparation(options, config, cascade, rows, label)
