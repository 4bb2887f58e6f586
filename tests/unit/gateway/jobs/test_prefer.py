"""`Prefer`: which headers are parsed, ignored and refused."""

import time

import pytest

from crew.gateway.jobs.prefer import Preferences, parse

READ: list[tuple[list[str], Preferences]] = [
    ([], Preferences()),
    ([""], Preferences()),
    (["wait=10"], Preferences(wait=10)),
    (['WAIT = "10"'], Preferences(wait=10)),
    (["wait=0"], Preferences(wait=0)),
    (["respond-async"], Preferences(respond_async=True)),
    (["respond-async, wait=5"], Preferences(wait=5, respond_async=True)),
    (["respond-async", "wait=5"], Preferences(wait=5, respond_async=True)),
    (['Respond-Async; a=b;;c ;d="e, wait=7" , wait=5'], Preferences(wait=5, respond_async=True)),
    (['return=minimal, foo="a\\"b, respond-async", , wait=1'], Preferences(wait=1)),
    (["wait=1, wait=2"], Preferences(wait=1)),
    (["wait=1", "wait=soon"], Preferences(wait=1)),
    (["wait=999999999999"], Preferences(wait=366 * 86_400)),
]


@pytest.mark.parametrize(("lines", "preferences"), READ)
def test_preferences_are_parsed_and_unknown_ones_ignored(lines: list[str], preferences: Preferences) -> None:
    assert parse(lines) == preferences


@pytest.mark.parametrize(
    "line", ["wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", 'wait=""', "wait=1234567890123", "wait=١"]
)
def test_a_wait_that_is_not_a_whole_number_of_seconds_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="Prefer must be"):
        parse([line])


@pytest.mark.parametrize(
    "line", ["=", ";", "a b", 'a="b', "a=b=c", "wait=5 respond-async", "a;b=;c=,", "\x00", "wait=5\n"]
)
def test_an_invalid_header_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="Prefer must be like"):
        parse([line])


@pytest.mark.parametrize("part", ["; ", ";  \t ", 'a="', "a;", ",", " ", "a=b;c=d"])
def test_a_long_invalid_header_is_refused_quickly(part: str) -> None:
    began = time.process_time()

    with pytest.raises(ValueError, match="Prefer must be like"):
        parse(["a" + part * (64_000 // len(part)) + "\x00"])

    assert time.process_time() - began < 0.5
