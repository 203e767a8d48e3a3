"""The options that all benchmarks have."""

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from cascade.cli.shared.inputs import DatasetOption, RowsOption
from cascade.cli.shared.served import AuthorityOption, KeyVariableOption

__all__ = ["TARGETS", "BenchOptions", "with_bench_options"]

TargetName = Literal["in-process", "handle", "http", "http-json", "oip-http", "oip-json", "oip-grpc"]
TARGETS: tuple[str, ...] = get_args(TargetName)
SERVED_CONNECTIONS = 8
NOT_KEPT = ("url", "key_env", "as_json")
"""A result file contains no host names and no folders of the machine."""

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG]", help="Configuration (YAML); a foreign server needs none.")
]


@dataclass(kw_only=True)
class BenchOptions:
    """The options of a benchmark, as the command line has them."""

    config: ConfigArgument = None
    target: Annotated[
        str,
        typer.Option(
            help="in-process, handle (in the running Ray), http (raw bytes), http-json; oip-http, oip-json, oip-grpc "
            "(the Open Inference Protocol)."
        ),
    ]
    url: Annotated[str | None, typer.Option(help="Address; host:port for oip-grpc.", show_default="the config's")] = (
        None
    )
    model: Annotated[
        str | None, typer.Option(help="Name of the model on an oip server.", show_default="the config's")
    ] = None
    output: Annotated[
        str | None, typer.Option(help="Output of the model that is the answer.", show_default="'answer', or the first")
    ] = None
    key_env: KeyVariableOption = None
    ca: AuthorityOption = None
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the client's certificate.")] = None
    certificate_key: Annotated[
        Path | None, typer.Option(help="PEM file of its key.", show_default="in the same file")
    ] = None
    policy: Annotated[
        Path | None, typer.Option(help="Policy for the target in-process.", show_default="the config's")
    ] = None
    dataset: DatasetOption = None
    rows: RowsOption = None
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many rows.")] = None
    rows_per_request: Annotated[
        int | None, typer.Option(min=1, help="Rows per request.", show_default="the scenario's")
    ] = None
    connections: Annotated[
        int | None,
        typer.Option(min=1, help="Most requests under way.", show_default="8; open loop 256; in-process 1"),
    ] = None
    warmup_seconds: Annotated[float, typer.Option(min=0, help="Load before each repeat that is not measured.")] = 2.0
    seconds: Annotated[float, typer.Option(min=0.01, help="Measured seconds of each repeat.")] = 10.0
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.001, help="A request without an answer by then has failed.")
    ] = 10.0
    repeats: Annotated[int, typer.Option(min=1, help="Independent repeats; an interval needs three at least.")] = 3
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of arrivals and order of rows.", show_default="a new one")
    ] = None
    hard_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of requests whose rows the first stage defers.", show_default="as in the data"
        ),
    ] = None
    hard_burst_s: Annotated[
        float, typer.Option("--hard-burst-s", min=0, help="Hard requests come in bursts of so many seconds.")
    ] = 0.0
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes of the client.", show_default="one per 4 processors")
    ] = None
    processors: Annotated[
        str | None, typer.Option(help="Processors to pin them to, such as 2,3.", show_default="of their own, if many")
    ] = None
    goodput_ms: Annotated[
        float | None, typer.Option(min=0.001, help="An answer within so many ms counts as goodput.")
    ] = None
    max_p99_ms: Annotated[float | None, typer.Option(min=0, help="Objective: highest p99 latency.")] = None
    min_rows_per_s: Annotated[float | None, typer.Option(min=0, help="Objective: lowest throughput.")] = None
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Objective: lowest accuracy.", show_default="half of one answer for all rows"),
    ] = None
    max_failed: Annotated[float, typer.Option(min=0, max=1, help="Objective: highest share of failed requests.")] = 0.01
    out: Annotated[Path | None, typer.Option(help="Result to write (JSON).")] = None
    log: Annotated[Path | None, typer.Option(help="Log of all requests to write: .jsonl or .csv.")] = None
    plot: Annotated[
        Path | None, typer.Option(help="Further form to write: .png, .svg, .pdf, .html, .csv, .hgrm, or Ray's .json.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False

    def check(self) -> None:
        """Checks what typer cannot.

        Raises:
            typer.BadParameter: an option is invalid, or does not apply to the target.
        """
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise typer.BadParameter(f"--{name.replace('_', '-')} must be a finite number; got {value}")
        if self.target not in TARGETS:
            raise typer.BadParameter(f"--target must be one of {', '.join(TARGETS)}; got {self.target!r}")
        is_oip = self.target.startswith("oip")
        if self.config is None and not (is_oip or (self.target.startswith("http") and self.url is not None)):
            raise typer.BadParameter(
                f"the target {self.target} needs a CONFIG" + (" or --url" if "http" in self.target else "")
            )
        if is_oip and self.config is None and (self.url is None or self.model is None):
            raise typer.BadParameter(f"the target {self.target} without a CONFIG needs --url and --model")
        for name, value in self._not_of_target().items():
            if value is not None:
                raise typer.BadParameter(f"{name} does not apply to the target {self.target}")
        if self.url is not None and self.target != "oip-grpc" and not self.url.startswith(("http://", "https://")):
            raise typer.BadParameter(f"--url must look like http://127.0.0.1:8000; got {self.url!r}")
        if self.hard_burst_s and self.hard_share is None:
            raise typer.BadParameter("--hard-burst-s needs --hard-share")
        self.pinned()
        self._check_files()

    def _not_of_target(self) -> dict[str, Any]:
        """The options that do not apply to the target."""
        found: dict[str, Any] = (
            {} if self.target.startswith("oip") else {"--model": self.model, "--output": self.output}
        )
        if self.target == "in-process":
            found |= {"--processes": self.processes, "--processors": self.processors}
        else:
            found |= {"--policy": self.policy}
        if self.target in ("in-process", "handle"):
            found |= {"--url": self.url, "--key-env": self.key_env, "--ca": self.ca, "--certificate": self.certificate}
        return found

    def _check_files(self) -> None:
        from cascade.benchmarks.analysis.exports import EXPORT_SUFFIXES
        from cascade.benchmarks.analysis.request_log import LOG_SUFFIXES
        from cascade.errors import InputError
        from cascade.files.result_files import check_output

        if self.plot is not None and self.plot.suffix not in EXPORT_SUFFIXES:
            raise typer.BadParameter(f"--plot must end in {', '.join(EXPORT_SUFFIXES)}; got {self.plot.name!r}")
        if self.log is not None and self.log.suffix not in LOG_SUFFIXES:
            raise typer.BadParameter(f"--log must end in {' or '.join(LOG_SUFFIXES)}; got {self.log.name!r}")
        if self.certificate_key is not None and self.certificate is None:
            raise typer.BadParameter("--certificate-key needs --certificate")
        for option in ("ca", "certificate", "certificate_key"):
            path = getattr(self, option)
            if path is not None and not path.is_file():
                raise typer.BadParameter(f"--{option.replace('_', '-')}: {path} does not exist, or is no file")
        for option in ("out", "log", "plot"):
            path = getattr(self, option)
            try:
                if path is not None:
                    check_output(path)
            except InputError as error:
                raise typer.BadParameter(f"--{option}: {error}") from error

    def recorded(self) -> dict[str, Any]:
        """All options for a result file."""
        values = {name: value for name, value in vars(self).items() if name not in NOT_KEPT}
        return {name: value.name if isinstance(value, Path) else value for name, value in values.items()}

    def pinned(self) -> list[int] | None:
        """The processors to pin the client to.

        Raises:
            typer.BadParameter: they are not numbers.
        """
        if self.processors is None:
            return None
        try:
            found = [int(part) for part in self.processors.split(",")]
        except ValueError as error:
            raise typer.BadParameter(f"--processors must be numbers such as 2,3; got {self.processors!r}") from error
        usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else found
        for number in found:
            if number not in usable:
                raise typer.BadParameter(f"there is no processor {number} to pin to; there are {sorted(usable)}")
        return found


def with_bench_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of all benchmarks to a command.

    Args:
        command: takes :class:`BenchOptions` as its parameter ``options``, and options of its own.
    """
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "options"]
    shared = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=one.type,
        )
        for one in fields(BenchOptions)
    ]
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]

    def called(**values: Any) -> None:
        mine = {one.name: values.pop(one.name) for one in own}
        options = BenchOptions(**values)
        options.check()
        command(options=options, **mine)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in [*own, *shared]}
    return called
