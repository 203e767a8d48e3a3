"""The Kubernetes Secrets with the keys and certificates of a cascade's gateways."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cascade.config import ServingConfig
from cascade.errors import ConfigError
from cascade.serving.deploy.pod_group import service_name

__all__ = ["GatewaySecrets"]

Manifest = dict[str, Any]


@dataclass(frozen=True)
class GatewaySecrets:
    """Secrets of the gateways.

    Attributes:
        env: variables with keys.
        volumes: one for each Secret.
        mounts: their paths.
    """

    env: list[Manifest]
    volumes: list[Manifest]
    mounts: list[Manifest]

    @classmethod
    def of(cls, name: str, serving: ServingConfig, here: Path, there: PurePosixPath) -> "GatewaySecrets":
        """Those for the variables and files that a configuration names.

        Args:
            name: of the RayService, with which the names of the Secrets begin.
            serving: the configuration.
            here: its folder on this machine.
            there: its folder in the image.

        Raises:
            ConfigError: a file is in the folder of the configuration, which a mounted Secret would hide.
        """
        variables = dict.fromkeys(filter(None, (serving.keys_env, serving.admin_keys_env)))
        env = [
            {"name": each, "valueFrom": {"secretKeyRef": {"name": f"{name}-keys", "key": each}}} for each in variables
        ]
        volumes: list[Manifest] = []
        mounts: list[Manifest] = []
        for number, folder in enumerate(_secret_folders(serving, here, there)):
            secret = {"secretName": service_name(f"{name}-{folder.name}"), "defaultMode": 0o440}
            volumes.append({"name": f"secret-{number}", "secret": secret})
            mounts.append({"name": f"secret-{number}", "mountPath": str(folder), "readOnly": True})
        return cls(env, volumes, mounts)


def _secret_folders(serving: ServingConfig, here: Path, there: PurePosixPath) -> list[PurePosixPath]:
    """Folders of keys and certificates, in the image."""
    folders: dict[PurePosixPath, None] = {}
    for key in ("keys_file", "admin_keys_file", "tls_certificate", "tls_key", "tls_client_ca"):
        file: Path | None = getattr(serving, key)
        if file is None:
            continue
        place = there / file.relative_to(here).as_posix() if file.is_relative_to(here) else PurePosixPath(file)
        if place.parent == there:
            raise ConfigError(
                f"serving.{key} is {file.name!r}, in the folder of the configuration; put it into a folder of its own, "
                f"such as secrets/{file.name}, where a Secret can be mounted"
            )
        folders[place.parent] = None
    return list(folders)
