"""How we prove to a broker who we are, and how it proves to us who it is: a TLS context for each broker URL.

Verified unless the URL says `verify=verify_none`: a CA that we know, the host that we have asked for, TLS 1.2 or newer.
Files are read again when they have changed, so that a renewed certificate is used by the next connection.
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
    """Find out now what no attempt to connect would mend; raises SettingsError, whose sentence names the file."""
    for url in map(broker_url.parse, urls):
        if url.is_tls:
            context(url)


def context(url: BrokerUrl) -> ssl.SSLContext:
    """The TLS context for `url`.

    Raises:
        SettingsError: a file is missing, cannot be read, or is not what it should be.
    """
    files = tuple(url.parameters.get(name) for name in FILES)
    is_verifying = url.parameters.get("verify") != "verify_none"
    if not is_verifying:
        _warn_once(url.host)
    return _context(*files, is_verifying=is_verifying, stamps=tuple(map(_stamp, filter(None, files))))


def server_name(url: BrokerUrl) -> str:
    """For which host the broker's certificate has to be, and which one it is told that we look for."""
    return url.parameters.get("server_name_indication", url.host)


@functools.lru_cache(maxsize=8)  # as the system's own CAs take 30 ms to load; a few hosts, each with its own files
def _context(
    ca: str | None, certificate: str | None, key: str | None, *, is_verifying: bool, stamps: tuple[object, ...]
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION  # a write would have to wait for a read then
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
        raise SettingsError(f"the key {key} is of no use without its certificate: name that by certfile=")
    return made


def _stamp(file: str) -> tuple[str, int]:
    """Changes when the file does; raises SettingsError where it cannot be read."""
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
        raise SettingsError(f"{ca} holds no CA certificate in PEM format") from None


def _load_certificate(made: ssl.SSLContext, certificate: str, key: str | None) -> None:
    where = key or certificate

    def refuse() -> NoReturn:
        raise SettingsError(
            f"the key in {where} wants a passphrase: take one that is not encrypted, readable by you alone"
        )

    try:
        made.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"the key in {where} is not that of the certificate {certificate}") from None
        raise SettingsError(_what_is_missing(certificate, key)) from None


def _what_is_missing(certificate: str, key: str | None) -> str:
    """OpenSSL does not tell which of the files it could not use."""
    if "-----BEGIN CERTIFICATE-----" not in Path(certificate).read_text(errors="replace"):
        return f"{certificate} holds no certificate in PEM format"
    if key is None:
        return f"{certificate} holds a certificate and not its key: name the key's file by keyfile="
    return f"{key} holds no private key in PEM format"


@functools.cache  # once a process: every attempt and both links would say it again
def _warn_once(host: str) -> None:
    logger.warning("the certificate of %s is not checked (verify=verify_none): anybody may pretend to be it", host)
