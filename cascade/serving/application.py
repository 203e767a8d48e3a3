"""The application, under the name in deployment files; see :func:`build_app`."""

from cascade.serving.deploy.application import build_app

__all__ = ["build_app"]
