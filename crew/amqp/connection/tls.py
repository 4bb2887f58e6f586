"""A TLS context for each broker URL: verification of the broker, and the client certificate.

Unless the URL has `verify=verify_none`, the broker's certificate must be for the host of the URL and come from a known
CA. TLS 1.2 or newer is required. Changed files are read again, so that the next connection uses a renewed certificate.
"""

import functools
import logging
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from crew import broker_url
from crew.broker_url import FILES, BrokerUrl
from crew.errors import SettingsError

logger = logging.getLogger(__name__)


def check(urls: Iterable[str]) -> None:
    """Check the TLS files of `urls`, as a retry would not help; raise SettingsError, which names the file."""
    for url in map(broker_url.parse, urls):
        if url.is_tls:
            context(url)


def context(url: BrokerUrl) -> ssl.SSLContext:
    """Return the TLS context for `url`.

    Raises:
        SettingsError: a file is missing, cannot be read, or has the wrong content.
    """
    files = tuple(url.parameters.get(name) for name in FILES)
    is_verifying = url.parameters.get("verify") != "verify_none"
    if not is_verifying:
        _warn_once(url.host)
    return _context(*files, is_verifying=is_verifying, stamps=tuple(map(_stamp, filter(None, files))))


def server_name(url: BrokerUrl) -> str:
    """Return the host name that the broker's certificate must have, which is also sent to the broker (SNI)."""
    return url.parameters.get("server_name_indication", url.host)


@functools.lru_cache(maxsize=8)  # loading the system's CAs takes 30 ms; 8: a few hosts, each with its own files
def _context(
    ca: str | None, certificate: str | None, key: str | None, *, is_verifying: bool, stamps: tuple[object, ...]
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION  # with renegotiation a write may have to wait for a read
    if not is_verifying:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif ca is None:
        made.load_default_certs()
    if ca is not None:
        _load_ca(made, ca)
    if certificate is not None:
        _load_certificate(made, certificate, key)
    elif key is not None:
        raise SettingsError(f"the key {key} needs a certificate: set certfile= to its file")
    return made


def _stamp(file: str) -> tuple[str, int]:
    """Return a value that changes when the file changes; raise SettingsError where it cannot be read."""
    try:
        with Path(file).open("rb") as opened:
            opened.read(1)
        return file, Path(file).stat().st_mtime_ns
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _load_ca(made: ssl.SSLContext, ca: str) -> None:
    try:
        made.load_verify_locations(ca)
    except (ssl.SSLError, OSError):
        raise SettingsError(f"{ca} does not contain a CA certificate in PEM format") from None


def _load_certificate(made: ssl.SSLContext, certificate: str, key: str | None) -> None:
    where = key or certificate

    def refuse() -> NoReturn:
        raise SettingsError(
            f"the key in {where} is encrypted: use a key without a passphrase, in a file that only you can read"
        )

    try:
        made.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"the key in {where} does not belong to the certificate {certificate}") from None
        raise SettingsError(_missing_part(certificate, key)) from None


def _missing_part(certificate: str, key: str | None) -> str:
    """Return which file is wrong: the error of OpenSSL does not contain it."""
    if "-----BEGIN CERTIFICATE-----" not in Path(certificate).read_text(errors="replace"):
        return f"{certificate} does not contain a certificate in PEM format"
    if key is None:
        return f"{certificate} contains a certificate without its key: set keyfile= to the file of the key"
    return f"{key} does not contain a private key in PEM format"


@functools.cache  # once in a process: else each attempt of both links would log it
def _warn_once(host: str) -> None:
    logger.warning(
        "TLS certificate of the broker is not verified (verify=verify_none): another host can impersonate it host=%s",
        host,
    )
