"""A timeout interrupts a task, whatever it hangs in; if that fails, its slot or its process is replaced."""

from collections.abc import Iterator

import pytest

import crew
from tests.support.interrupt_table.row import Fate
from tests.support.interrupt_table.table import CASES, Case, find_all
from tests.support.interrupt_table.trial import GRACE, Finding
from tests.support.processes import running

SEEN_WITHIN = 50.0  # milliseconds after the deadline, as guaranteed
SETTLED_WITHIN = 0.5  # seconds after the deadline, as guaranteed
SERVED_WITHIN = GRACE + 2.0  # seconds after the deadline, as guaranteed

STACK = "hangs.py"  # the file of the code that hangs, as a stack shows it


@pytest.fixture(scope="module")
def findings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, broker_url: str
) -> Iterator[dict[str, Finding | Exception]]:
    """The findings of all cases of this run, tried together; no process is left at the end."""
    names = {item.name for item in request.session.items if item.path == request.path}
    cases = [case for case in CASES if f"{TEST.__name__}[{case}]" in names]
    with running(tmp_path_factory.mktemp("table"), {"CREW_AMQP_URL": broker_url}) as processes:
        yield find_all(cases, processes, broker_url)


@pytest.fixture
def finding(findings: dict[str, Finding | Exception], case: Case) -> Finding:
    """The finding of one case."""
    found = findings[str(case)]
    if isinstance(found, Exception):
        raise found
    return found


@pytest.mark.chaos
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_hanging_task_only_delays_other_calls(case: Case, finding: Finding) -> None:
    fate = case.row.fates[case.executor]
    for hung in finding.hung:
        assert type(hung.answer) is crew.TimeoutError
        assert hung.answered <= (SERVED_WITHIN if case.timeout and fate is Fate.KILLED else SETTLED_WITHIN)
        assert hung.starts == 1
    assert finding.served <= SERVED_WITHIN
    assert finding.is_same_process is (fate in (Fate.SEEN, Fate.GIVEN_UP))
    assert finding.fate is fate
    if fate is Fate.SEEN:
        within = 1000 * GRACE if case.row.is_late else SEEN_WITHIN
        assert all(hung.seen is not None and hung.seen - hung.starved <= within for hung in finding.hung)
        assert all(hung.is_cleaned_up is case.row.cleans_up for hung in finding.hung)
    else:
        assert STACK in finding.log


TEST = test_a_hanging_task_only_delays_other_calls
