"""TLS for the gateway's own port: loads and checks the certificate and its key before the gateway listens."""

import ssl
from pathlib import Path

from crew.errors import SettingsError


def context_of(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """The TLS context of a server with this certificate; None without a certificate: the gateway serves plain HTTP.

    Args:
        certfile: PEM file with the certificate, followed by the intermediate certificates.
        keyfile: PEM file with its private key, without a passphrase; None: the key is in `certfile`, too.

    Raises:
        SettingsError: a file cannot be used; the text names it.
    """
    if certfile is None:
        if keyfile is not None:
            raise SettingsError(f"--keyfile {keyfile} has no certificate: pass --certfile, too")
        return None
    for flag, path in (("--certfile", certfile), ("--keyfile", keyfile)):
        if path is not None:
            _check_readable(flag, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile, password=_no_passphrase)
    except _LockedKey:
        raise SettingsError(
            f"the private key in {keyfile or certfile} has a passphrase: remove it (openssl pkey -in ... -out ...)"
        ) from None
    except ssl.SSLError as error:
        raise SettingsError(_reason(error, certfile, keyfile)) from None
    return context


class _LockedKey(Exception):
    """The private key is encrypted with a passphrase."""


def _no_passphrase() -> str:
    """OpenSSL's callback for a passphrase; without one it would prompt on the terminal."""
    raise _LockedKey


def _check_readable(flag: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{flag} {path} cannot be read: {error.strerror}") from None


def _reason(error: ssl.SSLError, certfile: str, keyfile: str | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the private key in {keyfile or certfile} does not belong to the certificate in {certfile}"
    if keyfile is None:
        return f"--certfile {certfile} must hold a certificate and its private key in PEM, or pass the key by --keyfile"
    return f"--certfile {certfile} and --keyfile {keyfile} must hold a certificate and its private key, both in PEM"
