"""`crew gateway --certfile --keyfile`: HTTPS without a proxy."""

import re
import ssl
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.processes import Processes
from tests.support.waiting import eventually

SERVES = re.compile(r"^(https?)://127\.0\.0\.1:(\d+)(?=\n)", re.MULTILINE)


@pytest.mark.parametrize("how", ["flags", "environment"])
def test_a_gateway_with_a_certificate_serves_https(processes: Processes, tmp_path: Path, how: str) -> None:
    certificates = Certificates(tmp_path / "tls")
    cert, key = str(certificates.server), str(certificates.key_of(certificates.server))
    flags, environment = ["--certfile", cert, "--keyfile", key], {"CREW_GATEWAY_CERT": cert, "CREW_GATEWAY_KEY": key}
    gateway = processes.start(
        *(sys.executable, "-m", "crew", "gateway", "--port", "0", *(flags if how == "flags" else [])),
        folder=tmp_path,
        environment=environment if how == "environment" else {},
    )
    serves = eventually(lambda: SERVES.search(gateway.output), timeout=15)
    assert serves
    trust = ssl.create_default_context(cafile=str(certificates.ca))
    with urllib.request.urlopen(f"{serves[0]}/healthz", context=trust, timeout=10) as response:
        assert response.status == 200
        assert "Server" not in response.headers
    assert gateway.stop() == 0


def test_a_gateway_with_a_missing_certificate_file_exits_with_the_reason(processes: Processes, tmp_path: Path) -> None:
    gateway = processes.start(
        *(sys.executable, "-m", "crew", "gateway", "--port", "0", "--certfile", "no.pem"), folder=tmp_path
    )
    assert gateway.ends(15) == 2
    assert gateway.output == "crew: --certfile no.pem cannot be read: No such file or directory\n"
