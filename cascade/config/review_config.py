"""The configuration of the review: where abstained rows go."""

import urllib.parse
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from cascade.config.fields import ConfigModel, ConfigPath, VariableName

__all__ = ["ReviewConfig"]

KIB = 1 << 10
MIB = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ReviewConfig(ConfigModel):
    """Where rows that the cascade abstains on are recorded, so that a person can decide.

    Attributes:
        file: receives JSON lines; relative to the folder of the configuration. Each node has its own file.
        max_file_bytes: size above which the file is renamed to end in ".1", replacing an earlier one.
        webhook: URL that records are posted to as JSON: https, or http on loopback. Redirects are not followed.
        webhook_authorization_env: environment variable with the value of the header ``authorization``.
        include_rows: whether the rows themselves are recorded; otherwise only the stages' answers and confidences are.
        max_queue_rows: rows that may wait for the file, and for the webhook; further rows are dropped and counted.
        timeout_s: of connecting to the webhook, and of its response.
    """

    file: ConfigPath | None = None
    max_file_bytes: Annotated[int, Field(ge=4 * KIB)] = 100 * MIB
    webhook: str | None = None
    webhook_authorization_env: VariableName | None = None
    include_rows: bool = False
    max_queue_rows: Annotated[int, Field(ge=1)] = 10_000
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urllib.parse.urlsplit(value)
        plain = value.isascii() and value.isprintable() and " " not in value and not parts.fragment
        if not (plain and parts.scheme in ("https", "http") and parts.hostname and parts.port != 0):
            raise ValueError("webhook must be an address such as https://example.org/review")
        if "@" in parts.netloc:
            raise ValueError("webhook must not hold a password; give webhook_authorization_env")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"webhook must be https, or http on loopback ({', '.join(LOOPBACK)})")
        return value

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.file is None and self.webhook is None:
            raise ValueError("review needs a file, a webhook, or both")
        if self.webhook_authorization_env is not None and self.webhook is None:
            raise ValueError("webhook_authorization_env needs webhook")
        return self
