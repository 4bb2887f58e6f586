"""TLS certificates for tests: a CA, its certificates, and invalid ones, each in its own file."""

import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

PASSPHRASE = "p@ss/w:d-of-the-key"


class Certificates:
    """Certificate files in `folder`, made if it does not exist: NAME.pem with its key in NAME.key.

    The CAs have no key file.

    Attributes:
        ca: the CA that has signed the certificates of broker and clients.
        other_ca: a CA that has signed none of them.
        server: for localhost and 127.0.0.1; `elsewhere` is for another host, and `expired` is out of date.
        client: of the clients; `locked.key` is its key with a passphrase.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.other_ca = folder / "ca.pem", folder / "other_ca.pem"
        self.server, self.elsewhere = folder / "server.pem", folder / "elsewhere.pem"
        self.expired, self.client = folder / "expired.pem", folder / "client.pem"
        self.locked_key = folder / "locked.key"
        if not folder.exists():
            folder.mkdir()
            self._make()

    def _make(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        trustme.CA().cert_pem.write_to_path(str(self.other_ca))
        self._write(self.server, authority.issue_cert("localhost", "127.0.0.1"))
        self._write(self.elsewhere, authority.issue_cert("elsewhere.example"))
        past = datetime.datetime(2020, 1, 1)
        self._write(self.expired, authority.issue_cert("localhost", "127.0.0.1", not_after=past))
        self._write(self.client, authority.issue_cert("client.example"))
        self.locked_key.write_bytes(_locked(self.key_of(self.client).read_bytes()))

    def key_of(self, certificate: Path) -> Path:
        """The key file of a certificate."""
        return certificate.with_suffix(".key")

    def _write(self, certificate: Path, issued: trustme.LeafCert) -> None:
        issued.private_key_pem.write_to_path(str(self.key_of(certificate)))
        issued.cert_chain_pems[0].write_to_path(str(certificate))


def _locked(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE.encode()),
    )
