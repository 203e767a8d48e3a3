"""``cascade build``: deployment files for Ray Serve and KubeRay."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.inputs import ConfigArgument, PolicyOption

if TYPE_CHECKING:
    from cascade.serving.deploy.application import ServeArguments

__all__ = ["build"]

IN_THE_IMAGE = PurePosixPath("/app")


def build(
    config_path: ConfigArgument,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("deploy"),
    policy_path: PolicyOption = None,
    at: Annotated[
        str | None,
        typer.Option(help="Folder of the config on every node.", show_default="its folder here; in the image, /app"),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Container image for Kubernetes.", show_default="NAME:POLICY VERSION")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write serve.yaml, for 'serve deploy', and rayservice.yaml, for the KubeRay operator."""
    from cascade.calibration import PolicySet
    from cascade.config import CascadeConfig
    from cascade.serving.deploy.application import new_application
    from cascade.serving.deploy.pod_group import service_name
    from cascade.serving.deploy.ray_service import ray_service
    from cascade.serving.deploy.serve_config import serve_config

    if at is not None and not PurePosixPath(at).is_absolute():
        raise typer.BadParameter(f"--at must begin with '/'; got {at!r}")
    config = CascadeConfig.load(config_path)
    policies = PolicySet.load(policy_path or config.policy)
    here = config_path.resolve().parent
    new_application(config, policies, here)  # raises an error for what cannot be deployed
    image = image or f"{service_name(config.name)}:{policies.version}"
    in_the_image = _arguments(config_path, policy_path, here, PurePosixPath(at) if at else IN_THE_IMAGE)
    on_the_nodes = _arguments(config_path, policy_path, here, PurePosixPath(at) if at else None)
    manifest = ray_service(config, in_the_image, image, here)
    out.mkdir(parents=True, exist_ok=True)
    about = f"# Written by 'cascade build' from {config_path.name}, policy {policies.version}.\n"
    _write(out / "serve.yaml", about, serve_config(config, on_the_nodes))
    _write(out / "rayservice.yaml", about, manifest)
    result = {
        "serve_config": str(out / "serve.yaml"),
        "ray_service": str(out / "rayservice.yaml"),
        "image": image,
        "policy_version": policies.version,
        "secrets": _secrets(manifest),
    }
    print_result(result, as_json)


def _arguments(
    config_path: Path, policy_path: Path | None, here: Path, there: PurePosixPath | None
) -> "ServeArguments":
    """The application's arguments, with paths in the folder ``there``; ``None`` for the paths on this machine."""
    from cascade.serving.deploy.application import ServeArguments

    def place(path: Path) -> str:
        whole = path.resolve()
        if there is None:
            return str(whole)
        if not whole.is_relative_to(here):
            raise typer.BadParameter(
                f"--policy must be in the folder of the config, which is copied to the nodes; got {path}"
            )
        return str(there / whole.relative_to(here).as_posix())

    return ServeArguments(config=place(config_path), policy=None if policy_path is None else place(policy_path))


def _secrets(manifest: dict[str, Any]) -> list[str]:
    """Names of the Secrets that the manifest requires."""
    pod = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    variables = [
        each["valueFrom"]["secretKeyRef"]["name"] for each in pod["containers"][0]["env"] if "valueFrom" in each
    ]
    return list(dict.fromkeys([*variables, *(volume["secret"]["secretName"] for volume in pod.get("volumes", ()))]))


class _Dumper(yaml.SafeDumper):
    """Writes strings of several lines as block scalars."""


def _represent_string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_string)


def _write(path: Path, about: str, content: dict[str, Any]) -> None:
    path.write_text(about + yaml.dump(content, Dumper=_Dumper, sort_keys=False), encoding="utf-8")
