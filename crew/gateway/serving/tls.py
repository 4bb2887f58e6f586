"""TLS for the gateway's own port: a certificate and its key, checked before anything is served."""

import ssl
from pathlib import Path

from crew.errors import SettingsError


def context_of(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """The context of a server with this certificate; None where none is given, and HTTP is served without TLS.

    Args:
        certfile: PEM file with the certificate, and the intermediate ones after it.
        keyfile: PEM file with its private key, without a passphrase; None: the key is in `certfile`, too.

    Raises:
        SettingsError: a file cannot be used; the sentence names it.
    """
    if certfile is None:
        if keyfile is not None:
            raise SettingsError(f"--keyfile {keyfile} needs the certificate of the key: give --certfile, too")
        return None
    for flag, path in (("--certfile", certfile), ("--keyfile", keyfile)):
        if path is not None:
            _check_readable(flag, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile, password=_no_passphrase)
    except _LockedKey:
        raise SettingsError(
            f"the key in {keyfile or certfile} has a passphrase: remove it (openssl pkey -in ... -out ...)"
        ) from None
    except ssl.SSLError as error:
        raise SettingsError(_sentence(error, certfile, keyfile)) from None
    return context


class _LockedKey(Exception):
    """A key that cannot be read without a passphrase."""


def _no_passphrase() -> str:
    """What OpenSSL asks for a locked key; it would ask at the terminal otherwise."""
    raise _LockedKey


def _check_readable(flag: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{flag} {path} cannot be read: {error.strerror}") from None


def _sentence(error: ssl.SSLError, certfile: str, keyfile: str | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {keyfile or certfile} is not that of the certificate in {certfile}"
    if keyfile is None:
        return f"--certfile {certfile} needs a certificate and its key in PEM: give --keyfile for a key of its own"
    return f"--certfile {certfile} and --keyfile {keyfile} must hold a certificate and its key, both in PEM"
