"""TLS certificates for tests: a CA, its certificates, and invalid ones, each in its own file."""

import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

PASSPHRASE = "p@ss/w:d-of-the-key"


class Certificates:
    """Certificate files in `folder`: NAME.pem with the key in NAME.key; the CAs have no key file.

    Attributes:
        ca: the CA that has signed the certificates of broker and clients.
        other_ca: a CA that has signed none of them.
        server: for localhost and 127.0.0.1; `elsewhere` is for another host, and `expired` is out of date.
        client: of the clients; `locked.key` is its key with a passphrase.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._authority = trustme.CA()
        self.ca = self._write("ca.pem", self._authority.cert_pem)
        self.other_ca = self._write("other_ca.pem", trustme.CA().cert_pem)
        self.server = self._issue("server", "localhost", "127.0.0.1")
        self.elsewhere = self._issue("elsewhere", "elsewhere.example")
        self.expired = self._issue("expired", "localhost", "127.0.0.1", not_after=datetime.datetime(2020, 1, 1))
        self.client = self._issue("client", "client.example")
        self.locked_key = folder / "locked.key"
        self.locked_key.write_bytes(_locked(self.key_of(self.client).read_bytes()))

    def key_of(self, certificate: Path) -> Path:
        """The key file of a certificate."""
        return certificate.with_suffix(".key")

    def _issue(self, name: str, *hosts: str, not_after: datetime.datetime | None = None) -> Path:
        issued = self._authority.issue_cert(*hosts, not_after=not_after)
        self._write(f"{name}.key", issued.private_key_pem)
        return self._write(f"{name}.pem", issued.cert_chain_pems[0])

    def _write(self, name: str, blob: trustme.Blob) -> Path:
        blob.write_to_path(str(self.folder / name))
        return self.folder / name


def _locked(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE.encode()),
    )
