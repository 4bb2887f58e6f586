"""The execution of a job, as headers of a reply."""

from typing import Any

import pytest

from crew.protocol import run_headers
from crew.protocol.encoding.foreign import MAX_COUNT, MalformedMessage
from crew.protocol.message import Run

WHOLE = Run(host="h:1", started=1.5, ended=2.25, attempt=2, is_only_one=True, progress_count=3)


def test_an_execution_has_its_times_in_milliseconds_and_one_header_for_each_other_value() -> None:
    assert run_headers.of_run(WHOLE) == {
        "crew-host": "h:1",
        "crew-started": 1_500,
        "crew-ended": 2_250,
        "crew-attempt": 2,
        "crew-only-one": True,
        "crew-progress-count": 3,
    }


def test_values_that_most_executions_have_are_not_sent() -> None:
    assert run_headers.of_run(Run(host="h:1")) == {"crew-host": "h:1"}
    assert run_headers.of_run(Run(host="h:1", progress_count=1)) == {"crew-host": "h:1", "crew-progress-count": 1}
    assert run_headers.of_run(None) == {}


@pytest.mark.parametrize("run", [WHOLE, Run(host="h:1"), Run(host="h:1", started=0.0, ended=0.0), None])
def test_an_execution_is_decoded_as_it_was_encoded(run: Run | None) -> None:
    assert run_headers.to_run(run_headers.of_run(run)) == run


def test_a_reply_without_a_host_is_about_no_execution() -> None:
    assert run_headers.to_run({"crew-started": 1}) is None


@pytest.mark.parametrize(
    "header",
    [
        {"crew-host": 1},
        {"crew-host": b"h"},
        {"crew-started": "now"},
        {"crew-ended": 1.5},
        {"crew-attempt": "2"},
        {"crew-attempt": 0},
        {"crew-only-one": 1},
        {"crew-progress-count": True},
    ],
    ids=repr,
)
def test_a_header_of_another_type_is_malformed_and_named(header: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage, match=f"header {next(iter(header))} must be"):
        run_headers.to_run({"crew-host": "h:1", **header})


def test_a_progress_count_that_no_database_can_hold_is_limited() -> None:
    run = run_headers.to_run({"crew-host": "h:1", "crew-progress-count": 2**40})
    assert run is not None
    assert run.progress_count == MAX_COUNT
