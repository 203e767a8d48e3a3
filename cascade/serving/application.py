"""The application under the name that files for ``serve deploy`` hold; see :func:`build_app`."""

from cascade.serving.deploy.application import build_app

__all__ = ["build_app"]
