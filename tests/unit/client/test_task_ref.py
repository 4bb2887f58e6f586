"""`TaskRef`: the arguments of a call belong to the task, and the options were given before."""

import dataclasses
import functools
from typing import Any

import pytest

from crew.client.task_ref import TaskRef
from crew.errors import InvalidArguments
from crew.protocol.encoding.call_arguments import Arguments
from crew.worker import HandlerClass
from crew.worker import task as task_module
from crew.worker.task import Registry, Task
from tests.support.pending_calls import a_call


@dataclasses.dataclass
class Image:
    path: str


class Calls:
    """Records what a client would be asked to call and to submit."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any, dict[str, Any]]] = []

    def call(self, task: str, payload: Any, **options: Any) -> Any:
        """As `Client.call`."""
        self.made.append((task, payload, options))
        return a_call()

    async def submit(self, task: str, payload: Any, **options: Any) -> Any:
        """As `Client.submit`."""
        self.made.append((task, payload, options))
        return a_call()

    def ref(self, task: Any, **options: Any) -> TaskRef[..., Any]:
        """As `Client.task`."""
        return TaskRef(task, options, call=self.call, submit=self.submit)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registry instead of the one of this process."""
    registry = Registry()
    monkeypatch.setattr(task_module, "registry", registry)
    return registry


def resize(image: Image, width: int = 640) -> Image:
    return image


def test_arguments_and_options_do_not_mix(calls: Calls) -> None:
    calls.ref("resize", timeout=5, priority=3)("a", timeout=7)
    assert calls.made == [("resize", Arguments(("a",), {"timeout": 7}), {"timeout": 5, "priority": 3})]
    assert repr(calls.ref("resize")) == "<TaskRef of task 'resize'>"


def test_a_ref_can_be_called_again(calls: Calls) -> None:
    ref = calls.ref("resize", timeout=5)
    ref(1)
    ref(2)
    assert [payload.args for _, payload, _ in calls.made] == [(1,), (2,)]
    assert all(options == {"timeout": 5} for _, _, options in calls.made)


def test_a_function_is_called_by_the_name_of_its_task_and_with_its_types(calls: Calls) -> None:
    Task("images.resize")(resize_again := functools.partial(resize))
    call = calls.ref(resize_again)(Image("a"), 3)
    ((name, sent, _),) = calls.made
    assert name == "images.resize"
    assert [*sent.args] == [{"path": "a"}, 3]
    assert call.read is not None
    assert call.read({"path": "b"}) == Image("b")


def test_invalid_arguments_are_refused_before_anything_is_sent(calls: Calls) -> None:
    function = Task("resize")(lambda width: None)
    function.__annotations__ = {"width": int}
    with pytest.raises(InvalidArguments, match="task 'resize': argument `width`: expected `int`, got `str`"):
        calls.ref(function)("wide")
    assert calls.made == []


def test_a_value_without_an_annotation_is_left_as_it_arrives(calls: Calls) -> None:
    function = Task("plain")(lambda payload: payload)
    assert calls.ref(function)(1).read is None
    assert calls.ref("plain")(1).read is None


@pytest.mark.gen_test
async def test_a_job_gets_the_same_arguments(calls: Calls) -> None:
    function = Task("resize")(functools.partial(resize))
    job: Any = await calls.ref(function, unique="skip").submit(Image("a"), width=3)
    assert calls.made == [("resize", Arguments([{"path": "a"}], {"width": 3}), {"unique": "skip"})]
    assert job.read({"path": "b"}) == Image("b")


def test_a_wrapper_above_a_task_is_that_task(calls: Calls) -> None:
    @functools.wraps(Task("inner")(lambda a: a))
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert calls.ref(wrapper).name == "inner"
    Task("outer")(wrapper)
    assert calls.ref(wrapper).name == "outer"


class Handler(HandlerClass):
    def process(self) -> Any: ...


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (resize, r'resize is no task: write @Task\("name"\) above it, or give the name of a task'),
        (Handler, "Handler is no task"),
        (len, "len is no task"),
        ("", "task must"),
        (7, "task must"),
    ],
)
def test_what_is_no_task_is_a_value_error(calls: Calls, task: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        calls.ref(task)


def test_a_function_with_several_names_is_called_by_name(calls: Calls) -> None:
    function = Task("a")(Task("b")(lambda data: data))
    with pytest.raises(ValueError, match="is several tasks: give the name of one of them, 'b' or 'a'"):
        calls.ref(function)


def test_an_unknown_option_is_an_error_with_a_suggestion(calls: Calls) -> None:
    with pytest.raises(TypeError, match=r"task\(\) has no argument 'timout' \(did you mean 'timeout'\?\)"):
        calls.ref("t", timout=5)
