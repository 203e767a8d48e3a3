"""The TLS context of a listener."""

import ssl

from cascade.config import ServingConfig
from cascade.errors import ConfigError
from cascade.serving.auth.keys import check_private

__all__ = ["new_tls_context"]


def new_tls_context(serving: ServingConfig) -> ssl.SSLContext | None:
    """A context for TLS 1.2 and newer; ``None`` if no certificate is configured.

    Raises:
        ConfigError: a file cannot be read, the certificate and the key do not match, or the key has a password or can
            be read by everybody.
    """
    if serving.tls_certificate is None or serving.tls_key is None:
        return None
    check_private(serving.tls_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(serving.tls_certificate, serving.tls_key, _refuse_password)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise ConfigError(
            f"tls_certificate {serving.tls_certificate} and tls_key {serving.tls_key} cannot be used ({error}); both "
            "must be PEM files that match, the key without a password"
        ) from error
    if serving.tls_client_ca is not None:
        try:
            context.load_verify_locations(serving.tls_client_ca)
        except OSError as error:
            raise ConfigError(
                f"tls_client_ca {serving.tls_client_ca} is not a PEM file of authorities: {error}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse_password() -> str:
    # Without a callback OpenSSL would prompt on the terminal and wait.
    raise ValueError("the key has a password")
