"""Serving where that cannot be."""

import pytest
from tornado.web import Application

from crew.client import Client
from crew.errors import SettingsError
from crew.gateway import serve
from tests.unit.broker_addresses import nowhere


@pytest.mark.parametrize("port", [-1, 65536, 99999])
@pytest.mark.gen_test
async def test_a_port_that_cannot_be_is_told_and_no_other_taken(port: int) -> None:
    with nowhere() as url, pytest.raises(SettingsError, match=f"port {port} is not between"):
        await serve(Application(), Client(url), port=port)
