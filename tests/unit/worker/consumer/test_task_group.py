"""Task groups, from the delivery to the reply."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crew.protocol import properties
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Outcome, Reply
from crew.settings import load
from crew.worker.consumer.revoked_calls import RevokedCalls
from crew.worker.consumer.task_group import TaskGroup, task_groups
from crew.worker.executors.event_loop import EventLoopExecutor
from crew.worker.job_reports.jobs import JobReports
from crew.worker.mailbox import Mailbox
from crew.worker.options import Options
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.task import Task
from tests.support.deliveries import RecordingChannel, a_delivery, a_task
from tests.support.links import FakeLink
from tests.support.waiting import eventually


class InputOutput:
    """The I/O thread of a worker process, with a fake broker."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.mailbox = Mailbox(self.loop)
        self.shared_state = SharedState(1, 100)
        self.publishing = FakeLink()
        self.worn_out: list[str] = []
        self._made: list[TaskGroup] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def task_groups(self, *tasks: Task, threads: int = 1, concurrency: int = 10) -> list[TaskGroup]:
        """Make and open the groups that serve `tasks`."""
        options = Options(broker=load("amqp://localhost"), threads=threads, concurrency=concurrency)
        self._made = made = task_groups(tasks, options, number=0, shared_state=self.shared_state, mailbox=self.mailbox)
        replies = ReplyPublisher(self.publishing.as_link(), "w")
        for group in made:
            self.do(
                lambda group=group: group.open(  # type: ignore[misc]
                    link=FakeLink().as_link(),
                    replies=replies,
                    retries=RetryPublisher(self.publishing.as_link(), replies),
                    job_reports=JobReports(
                        "w", [], publishing=self.publishing.as_link(), replies=replies, mailbox=self.mailbox
                    ),
                    revoked=RevokedCalls(),
                    on_replacement_needed=lambda: self.worn_out.append("worn out"),
                )
            )
        return made

    def receives(self, group: TaskGroup, id: str = "17", *, task: str = "t", data: Any = None) -> None:
        """Deliver a call."""
        call = Call(id=id, task=task, body=codec.encode(data), reply_to="crew.reply.me", deadline=None)
        delivery = a_delivery(
            RecordingChannel(), task=task, properties=properties.of_call(call, now=0.0), body=call.body.data
        )
        self.do(lambda: group.consumer.on_delivery(delivery))

    def do(self, function: Callable[[], object]) -> None:
        """Call `function` on the loop and wait for its return."""

        async def call() -> None:
            function()

        asyncio.run_coroutine_threadsafe(call(), self.loop).result(5)

    def all_replies(self) -> list[tuple[str, Outcome]]:
        """Id and outcome of all replies, including announced starts."""
        found = [properties.to_reply(one.properties, one.body) for one in list(self.publishing.published)]
        return [(reply.id, reply.outcome) for reply in found if isinstance(reply, Reply)]

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def end(self) -> None:
        """Stop all groups and the loop."""
        for group in self._made:
            if hasattr(group, "consumer"):
                self.do(group.consumer.stop)
            group.stop()
            if isinstance(group._executor, EventLoopExecutor):
                _close(group._executor._loop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop; in a worker the process ends with it."""
    eventually(lambda: not loop.is_running())
    loop.close()


@pytest.fixture
def io() -> Iterator[InputOutput]:
    """An I/O thread."""
    made = InputOutput()
    yield made
    made.end()


async def echo(data: Any) -> Any:
    """A task of the event loop."""
    return data


def where(data: Any) -> bool:
    """Whether it runs in the main thread."""
    return threading.current_thread() is threading.main_thread()


def test_plain_functions_and_coroutines_have_separate_groups(io: InputOutput) -> None:
    made = io.task_groups(a_task(echo, name="async"), a_task(where, name="plain"))
    assert [[task.name for task in group.tasks] for group in made] == [["plain"], ["async"]]


@pytest.mark.parametrize(("function", "name"), [(where, "plain"), (echo, "async")])
def test_tasks_of_one_kind_are_one_group(io: InputOutput, function: Callable[[Any], Any], name: str) -> None:
    (group,) = io.task_groups(a_task(function, name=name), a_task(function, name="other"))
    assert [task.name for task in group.tasks] == [name, "other"]


def test_a_task_in_the_main_thread_is_announced_before_it_begins(io: InputOutput, signals: None) -> None:
    """The task may never release the GIL, so that it could not be announced later."""
    replies_before: list[tuple[str, Outcome]] = []
    noted: list[int] = []

    def look(data: Any) -> None:
        replies_before.extend(io.all_replies())
        noted.append(len(io.shared_state.limits(0)))
        assert where(data)

    (group,) = io.task_groups(a_task(look, timeout=60))
    io.receives(group)

    def stop_when_answered() -> None:
        eventually(lambda: len(io.all_replies()) == 2)
        group.stop()

    threading.Thread(target=stop_when_answered).start()
    group.serve()
    assert replies_before == [("17", Outcome.STARTED)]
    assert noted == [1], "and it is recorded in the shared state"
    assert io.all_replies() == [("17", Outcome.STARTED), ("17", Outcome.RETURNED)]
    assert io.shared_state.limits(0) == []


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_a_task_in_another_thread_is_announced_before_it_begins(io: InputOutput, kind: str) -> None:
    replies_before: list[tuple[str, Outcome]] = []

    def look(data: Any) -> None:
        replies_before.extend(io.all_replies())
        assert not where(data)

    async def look_too(data: Any) -> None:
        look(data)

    (group,) = io.task_groups(a_task(look if kind == "threads" else look_too), threads=2)
    group.serve_in_background()
    io.receives(group)
    eventually(lambda: len(io.all_replies()) == 2)
    assert replies_before == [("17", Outcome.STARTED)]
    assert io.all_replies()[-1] == ("17", Outcome.RETURNED)


@pytest.mark.parametrize("slots", [1, 3])
def test_at_most_concurrency_coroutines_run_at_a_time(io: InputOutput, slots: int) -> None:
    go = threading.Event()
    running: list[int] = []

    async def waits(data: Any) -> None:
        running.append(data)
        while not go.is_set():
            await asyncio.sleep(0.002)

    (group,) = io.task_groups(a_task(waits), concurrency=slots)
    group.serve_in_background()
    for number in range(slots + 1):
        io.receives(group, f"{number}", data=number)
    eventually(lambda: len(running) == slots)
    go.set()
    eventually(lambda: [outcome for _, outcome in io.all_replies()].count(Outcome.RETURNED) >= slots)
