"""The file for ``serve deploy``: the application by name, and the options of its deployments."""

from pathlib import PurePosixPath
from typing import Any

from cascade.config import CascadeConfig
from cascade.serving.deploy.application import ServeArguments, deployment_options
from cascade.serving.deploy.cluster import REPLICAS_ENVIRONMENT

__all__ = ["serve_config"]

IMPORT_PATH = "cascade.serving.application:build_app"


def serve_config(config: CascadeConfig, arguments: ServeArguments) -> dict[str, Any]:
    """The content of a Ray Serve config file, for ``ray.serve.schema.ServeDeploySchema``.

    Args:
        config: of the cascade.
        arguments: of the application, with the paths that files have on every node.

    Returns:
        Plain values, ready for YAML. They include the options of the deployments, so that these can be changed in the
        file, which overrides the application.
    """
    serving = config.serving
    behind_proxy = serving.listener == "serve"
    address = {"host": arguments.host or serving.host, "port": serving.port}
    folder = PurePosixPath(arguments.config).parent
    # Ray expands the variable on the node.
    environment = {"PYTHONPATH": f"{folder}:${{PYTHONPATH}}", **REPLICAS_ENVIRONMENT}
    return {
        # Gateways with listeners of their own need no proxy.
        "proxy_location": "EveryNode" if behind_proxy else "Disabled",
        **({"http_options": address} if behind_proxy else {}),
        "applications": [
            {
                "name": config.name,
                "route_prefix": "/" if behind_proxy else None,
                "import_path": IMPORT_PATH,
                "args": arguments.model_dump(exclude_none=True),
                "runtime_env": {"env_vars": environment},
                "deployments": [deployment_options(config, index) for index in range(len(config.segments))],
            }
        ],
    }
