"""TLS files: an error in a file is one sentence that names it, before any attempt to connect."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from crew import Client, SettingsError
from crew.amqp.connection import tls
from crew.broker_url import parse
from tests.support.certificates import PASSPHRASE, Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("files") / "certificates")


def context(**parameters: object) -> ssl.SSLContext:
    """The TLS context for a URL with these parameters."""
    return tls.context(parse("amqps://host/?" + "&".join(f"{name}={value}" for name, value in parameters.items())))


def test_a_broker_is_verified_unless_the_url_disables_it(certificates: Certificates) -> None:
    for made in (context(), context(cacertfile=certificates.ca), context(verify="verify_peer")):
        assert made.verify_mode is ssl.CERT_REQUIRED
        assert made.check_hostname
        assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context(verify="verify_none").verify_mode is ssl.CERT_NONE


def test_only_the_ca_of_the_url_is_trusted(certificates: Certificates) -> None:
    assert context(cacertfile=certificates.ca).cert_store_stats()["x509_ca"] == 1


def test_the_name_in_the_certificate_may_differ_from_the_host() -> None:
    assert tls.server_name(parse("amqps://host/?server_name_indication=x.example")) == "x.example"
    assert tls.server_name(parse("amqps://host/")) == "host"


def test_a_renewed_file_is_used_by_the_next_connection(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(certificates.ca.read_bytes())
    first = context(cacertfile=file)
    assert context(cacertfile=file) is first
    file.write_bytes(certificates.other_ca.read_bytes())
    os.utime(file, ns=(1, 1))
    assert context(cacertfile=file) is not first


MISTAKES: dict[str, Callable[[Certificates], dict[str, object]]] = {
    r"missing\.pem cannot be read: no such file or directory": lambda c: {"cacertfile": c.folder / "missing.pem"},
    r"certificates cannot be read: is a directory": lambda c: {"cacertfile": c.folder},
    r"client\.key does not contain a CA certificate in PEM format": lambda c: {"cacertfile": c.key_of(c.client)},
    r"the key .*client\.key needs a certificate: set certfile= to its file": lambda c: {"keyfile": c.key_of(c.client)},
    r"client\.pem contains a certificate without its key: set keyfile= to the file of the key": lambda c: {
        "certfile": c.client
    },
    r"client\.key does not contain a certificate in PEM format": lambda c: {
        "certfile": c.key_of(c.client),
        "keyfile": c.key_of(c.client),
    },
    r"ca\.pem does not contain a private key in PEM format": lambda c: {"certfile": c.client, "keyfile": c.ca},
    r"the key in .*server\.key does not belong to the certificate .*client\.pem": lambda c: {
        "certfile": c.client,
        "keyfile": c.key_of(c.server),
    },
    r"the key in .*locked\.key is encrypted": lambda c: {"certfile": c.client, "keyfile": c.locked_key},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_file_that_cannot_be_used_is_one_sentence_that_names_it(certificates: Certificates, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as raised:
        context(**MISTAKES[sentence](certificates))
    assert "\n" not in str(raised.value)
    assert PASSPHRASE not in str(raised.value)


def test_a_file_without_read_permission_is_named(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, which sometimes runs the tests, can read every file
    with pytest.raises(SettingsError, match=r"ca\.pem cannot be read: permission denied"):
        context(cacertfile=certificates.ca)


def test_a_client_reports_an_unusable_tls_file_at_once() -> None:
    with pytest.raises(SettingsError, match=r"/nowhere/ca\.pem cannot be read"):
        Client("amqps://host/?cacertfile=/nowhere/ca.pem")
