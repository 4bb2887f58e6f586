"""TLS settings of the gateway: usable certificates, and the error for each unusable file."""

from pathlib import Path

import pytest

from crew.errors import SettingsError
from crew.gateway.serving import tls
from tests.support.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("gateway") / "tls")


def test_a_certificate_with_its_key_makes_a_tls_context(certificates: Certificates, tmp_path: Path) -> None:
    key = certificates.key_of(certificates.server)
    assert tls.context_of(str(certificates.server), str(key)) is not None
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificates.server.read_bytes())
    assert tls.context_of(str(both), None) is not None
    assert tls.context_of(None, None) is None


@pytest.mark.parametrize(
    ("certfile", "keyfile", "sentence"),
    [
        ("nowhere.pem", None, "--certfile {nowhere.pem} cannot be read: No such file or directory"),
        ("", None, "--certfile {} cannot be read: Is a directory"),
        ("server.pem", "nowhere.key", "--keyfile {nowhere.key} cannot be read: No such file or directory"),
        (None, "server.key", "--keyfile {server.key} has no certificate: pass --certfile, too"),
        ("server.pem", None, "--certfile {server.pem} must hold a certificate and its private key in PEM"),
        (
            "server.key",
            "server.pem",
            "--certfile {server.key} and --keyfile {server.pem} must hold a certificate and its",
        ),
        (
            "server.pem",
            "client.key",
            "the private key in {client.key} does not belong to the certificate in {server.pem}",
        ),
        ("client.pem", "locked.key", "the private key in {locked.key} has a passphrase: remove it"),
    ],
)
def test_unusable_certificate_files_are_named_with_the_reason(
    certificates: Certificates, certfile: str | None, keyfile: str | None, sentence: str
) -> None:
    folder = certificates.folder
    given = [None if name is None else str(folder / name) for name in (certfile, keyfile)]
    with pytest.raises(SettingsError) as refused:
        tls.context_of(*given)
    for name in filter(None, (certfile, keyfile)):
        sentence = sentence.replace(f"{{{name}}}", str(folder / name))
    assert str(refused.value).startswith(sentence.replace("{}", str(folder)))
