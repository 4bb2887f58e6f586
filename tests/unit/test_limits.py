"""Limits of a gateway, from flags and environment."""

import pytest

from crew.errors import SettingsError
from crew.limits import GatewayLimits, load


def test_limits_come_from_flags_before_the_environment_before_the_defaults() -> None:
    environ = {"CREW_GATEWAY_MAX_CONNECTIONS": "7", "CREW_GATEWAY_HEAD_TIMEOUT": "2m", "CREW_GATEWAY_MIN_RATE": "1kB"}
    given = {"max_connections": "9", "head_timeout": None, "max_job_bytes": "2GiB"}

    found = load(given, environ=environ)

    assert (found.max_connections, found.head_timeout, found.min_rate) == (9, 120.0, 1000)
    assert (found.max_job_bytes, found.max_jobs, found.max_page) == (2 * 2**30, None, 500)
    assert load(environ={}) == GatewayLimits()


def test_each_limit_can_be_set() -> None:
    names = GatewayLimits.__struct_fields__
    found = load(dict.fromkeys(names, "17"), environ={})
    assert {name: getattr(found, name) for name in names} == dict.fromkeys(names, 17)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("max_connections", "0", "--max-connections must be a whole number, 1 or more, not '0'"),
        ("max_jobs", "many", "--max-jobs must be a whole number, 1 or more, not 'many'"),
        ("max_jobs", "١", "--max-jobs must be a whole number, 1 or more, not '١'"),
        ("max_page", "501", "--max-page must be a whole number from 1 to 500, not '501'"),
        (
            "max_job_bytes",
            "1.5GB",
            "--max-job-bytes must be a number of bytes, or text like 100MB, 1GiB, not '1.5GB'",
        ),
        ("head_timeout", "0", "--head-timeout must be greater than 0 and at most"),
        ("max_ttl", "soon", "--max-ttl must be a number of seconds, or text like"),
    ],
)
def test_an_error_about_a_limit_names_it(name: str, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({name: text}, environ={})
    assert str(refused.value).startswith(sentence)
    with pytest.raises(SettingsError, match=rf"^CREW_GATEWAY_{name.upper()} must be"):
        load(environ={f"CREW_GATEWAY_{name.upper()}": text})
