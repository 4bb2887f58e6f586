"""Who may come in, and on which addresses nobody is asked."""

import pytest

from crew.errors import SettingsError
from crew.gateway.auth import check_door

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_what_only_this_machine_reaches_needs_no_token(host: str) -> None:
    check_door(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "gateway.example", "localhost.example"])
def test_what_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="lets other machines in"):
        check_door(host, None)

    check_door(host, TOKEN)


@pytest.mark.parametrize("token", ["short", TOKEN + " ", TOKEN + "\n", TOKEN + "ü"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError, match="CREW_GATEWAY_TOKEN must have 16") as refused:
        check_door("127.0.0.1", token)

    assert token not in str(refused.value)
