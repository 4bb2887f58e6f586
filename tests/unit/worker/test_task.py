"""`@Task`, `HandlerClass`, and the registry of tasks."""

import functools
import inspect
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from crew.errors import SettingsError
from crew.protocol.encoding.call_arguments import Arguments
from crew.worker import task as task_module
from crew.worker.retry_policy import Retry
from crew.worker.task import HandlerClass, Registry, Task


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registry instead of the one of this process."""
    registry = Registry()
    monkeypatch.setattr(task_module, "registry", registry)
    return registry


def test_a_task_is_found_by_its_name(registry: Registry) -> None:
    @Task("resize", timeout=10)
    def resize(image: Any) -> Any:
        return image

    task = registry.get("resize")
    assert task is not None
    assert (task.function, task.timeout) == (resize, 10.0)
    assert registry.get("other") is None
    assert [one.name for one in registry] == ["resize"]
    registry.check()


def test_task_returns_the_function_unchanged() -> None:
    def resize(image: str, *, width: int = 3) -> str:
        """Make it smaller."""
        return image * width

    decorated = Task("resize")(resize)
    assert decorated is resize
    assert decorated("a") == "aaa"
    assert list(inspect.signature(decorated).parameters) == ["image", "width"]


def test_one_function_may_have_several_names(registry: Registry) -> None:
    @Task("a")
    @Task("b")
    def both(data: Any) -> Any:
        return data

    registry.check()
    assert {task.name for task in registry} == {"a", "b"}


def test_two_tasks_of_one_name_are_an_error_that_names_both(registry: Registry) -> None:
    @Task("resize")
    def one(data: Any) -> None: ...

    @Task("resize")
    def other(data: Any) -> None: ...

    with pytest.raises(SettingsError, match="two tasks are named 'resize'") as raised:
        registry.check()
    assert "one" in str(raised.value)
    assert "other" in str(raised.value)
    assert str(raised.value).count("test_task.py") == 2


def test_a_module_that_is_imported_twice_is_no_error(registry: Registry) -> None:
    for _ in range(2):

        @Task("resize")
        def resize(data: Any) -> None: ...

    registry.check()
    assert len(registry) == 1


def test_a_module_that_is_loaded_twice_over_a_symbolic_link_is_no_error(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    source = tmp_path / "real" / "tasks.py"
    source.write_text(
        "from crew.worker import Task\n"
        "@Task('function')\ndef function(data): ...\n"
        "class Callable:\n    def __call__(self, data): ...\n"
        "Task('callable')(Callable())\n"
    )
    for name, path in [("__main__", tmp_path / "link" / "tasks.py"), ("tasks", source)]:
        namespace = vars(types.ModuleType(name))
        exec(compile(source.read_text(), str(path), "exec"), namespace)
    registry.check()
    assert len(registry) == 2


def test_a_worker_without_tasks_is_an_error(registry: Registry) -> None:
    with pytest.raises(SettingsError, match=r'write @Task\("name"\)'):
        registry.check()


def test_task_without_a_name_is_an_error_that_shows_how_to_write_it() -> None:
    def resize(data: Any) -> None: ...

    with pytest.raises(ValueError, match=r'write @Task\("resize"\)'):
        Task(resize)  # type: ignore[arg-type]


def test_an_async_function_is_a_task_of_the_event_loop(registry: Registry) -> None:
    @Task("resize")
    async def resize(data: Any) -> None: ...

    registry.check()
    assert [task.is_async for task in registry] == [True]


def test_an_async_process_is_a_task_of_the_event_loop(registry: Registry) -> None:
    class Resize(HandlerClass):
        async def process(self) -> None: ...

    Resize.bind("resize")
    registry.check()
    assert [task.is_async for task in registry] == [True]


def test_a_wrapped_async_function_is_a_task_of_the_event_loop(registry: Registry) -> None:
    async def resize(data: Any) -> None: ...

    class Resize:
        async def __call__(self, data: Any) -> None: ...

    @functools.wraps(resize)
    def passed_on(data: Any) -> Any:
        return resize(data)

    @functools.wraps(registry.get)
    async def around(data: Any) -> None: ...

    functions: list[Callable[..., Any]] = [Resize(), passed_on, around, functools.partial(resize)]
    for number, function in enumerate(functions):
        Task(f"{number}")(function)
    assert [task.is_async for task in registry] == [True] * 4


def test_a_plain_function_is_no_task_of_the_event_loop(registry: Registry) -> None:
    Task("resize")(lambda data: data)
    assert [task.is_async for task in registry] == [False]


def test_an_async_generator_is_refused_at_start(registry: Registry) -> None:
    @Task("resize")
    async def resize(data: Any) -> AsyncIterator[None]:
        yield

    with pytest.raises(SettingsError, match="'resize' is an async generator"):
        registry.check()


def test_a_timeout_beyond_the_acknowledgement_timeout_is_refused_at_start(registry: Registry) -> None:
    Task("resize", timeout=25 * 60 + 1)(lambda data: data)
    with pytest.raises(SettingsError, match="30 minutes"):
        registry.check()


def test_all_errors_are_reported_at_once(registry: Registry) -> None:
    Task("a", timeout=2e3)(lambda data: data)
    Task("b")(None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"'a' has a timeout.*; .*'b' is None"):
        registry.check()


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 245, 7, None])
def test_an_invalid_name_is_a_value_error(name: Any) -> None:
    with pytest.raises(ValueError, match="task must"):
        Task(name)


@pytest.mark.parametrize("timeout", [0, -1, "soon", True, float("nan")])
def test_an_invalid_timeout_is_a_value_error(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Task("resize", timeout=timeout)


def test_a_task_has_no_retries_by_default() -> None:
    assert Task("resize").retry == Retry(retries=0, backoff=(1.0, 60.0), retry_on=(Exception,))


@pytest.mark.parametrize(
    "wrong",
    [{"retries": -1}, {"backoff": (60, 1)}, {"retry_on": (SystemExit,)}],
    ids=["retries", "backoff", "retry_on"],
)
def test_an_error_in_its_retries_is_raised_at_the_task(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Task("resize", **wrong)
    with pytest.raises(ValueError, match=name):
        HandlerClass.bind("resize", **wrong)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_each_execution_of_a_class_has_its_own_instance(registry: Registry) -> None:
    instances: list[HandlerClass] = []

    class Resize(HandlerClass):
        def process(self) -> Any:
            instances.append(self)
            return self.payload["width"] // 2

    Resize.bind("resize", timeout=3, retries=2, backoff=(1, 2), retry_on=(OSError,))
    task = registry.get("resize")
    assert task is not None
    assert task.timeout == 3.0
    assert task.retry == Retry(retries=2, backoff=(1.0, 2.0), retry_on=(OSError,))
    assert [task.function({"width": 8}), task.function({"width": 4})] == [4, 2]
    assert instances[0] is not instances[1]


def test_a_class_may_serve_several_tasks(registry: Registry) -> None:
    class Echo(HandlerClass):
        def process(self) -> Any:
            return self.payload

    Echo.bind("a")
    Echo.bind("b")
    registry.check()
    assert len(registry) == 2


@pytest.mark.parametrize("max_queue", [0, -1, 1.5, True, "3", 2**31])
def test_an_invalid_max_queue_is_a_value_error(max_queue: Any) -> None:
    with pytest.raises(ValueError, match="max_queue must be an int from 1 to 2147483647, or None for no limit"):
        Task("resize", max_queue=max_queue)


def test_calls_come_back_over_the_queue_of_the_task_or_with_max_queue_over_a_second_one() -> None:
    free, bounded = Task("resize"), Task("resize", max_queue=7)
    assert [queue.name for queue in free.queues] == ["crew.tasks.resize"]
    assert free.return_queue == "crew.tasks.resize"
    assert [queue.name for queue in bounded.queues] == ["crew.tasks.resize", "crew.again.resize"]
    assert bounded.queues[0].arguments["x-max-length"] == 7
    assert bounded.return_queue == "crew.again.resize"


def test_a_class_may_have_max_queue(registry: Registry) -> None:
    HandlerClass.bind("resize", max_queue=7)
    task = registry.get("resize")
    assert task is not None
    assert task.max_queue == 7


def test_two_classes_cannot_serve_one_task(registry: Registry) -> None:
    class Common(HandlerClass):
        def process(self) -> Any:
            return self.payload

    class One(Common): ...

    class Other(Common): ...

    One.bind("resize")
    Other.bind("resize")
    with pytest.raises(SettingsError, match=r"two tasks are named 'resize'.*One.*Other"):
        registry.check()


def test_the_origin_of_a_class_task_is_the_code_of_the_user(registry: Registry) -> None:
    class Resize(HandlerClass):
        def process(self) -> Any: ...

    Resize.bind("resize")
    (task,) = registry
    assert "Resize.process" in task.origin
    assert "test_task.py" in task.origin


def test_a_class_without_process_is_an_error(registry: Registry) -> None:
    class Resize(HandlerClass): ...

    Resize.bind("resize")
    (task,) = registry
    with pytest.raises(NotImplementedError, match="Resize has no process"):
        task.function(None)


@pytest.mark.parametrize("bind", [True, False])
def test_a_timeout_beyond_the_acknowledgement_timeout_needs_a_long_task(registry: Registry, bind: bool) -> None:
    class Resize(HandlerClass):
        def process(self) -> Any: ...

    def declare(name: str, **options: Any) -> None:
        if bind:
            Resize.bind(name, **options)
        else:
            Task(name, **options)(lambda data: data)

    for timeout in (None, 10, 100_000):
        declare(f"long {timeout}", timeout=timeout, long=True)
    declare("short", timeout=1500)
    registry.check()
    declare("resize", timeout=1501)
    with pytest.raises(SettingsError, match=r"task 'resize' has a timeout of 1501 s.*write long=True.*or a timeout of"):
        registry.check()


# --- signatures that cannot work -------------------------------------------------------------------------------------


def noargs() -> None: ...
def add(a: int, b: int) -> int:
    return a + b


def keyword(*, data: Any) -> None: ...
async def later(a: Any, b: Any) -> None: ...
def items(data: Any) -> Iterator[Any]:
    yield data


class Below(TypedDict):
    width: int


class Methods:
    def method(self, data: Any) -> None: ...
    def lonely(self) -> None: ...
    @staticmethod
    def static(data: Any) -> None: ...
    @classmethod
    def of_class(cls, data: Any) -> None: ...


class Wants(HandlerClass):
    def process(self, data: Any) -> None: ...  # type: ignore[override]


class Yields(HandlerClass):
    def process(self) -> Iterator[None]:
        yield


class Collects:
    def __call__(self, data: Any) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (Methods.method, "is a method, Methods.method (FILE), and has no instance to be called on: move it out of"),
        (Methods.lonely, "is a method, Methods.lonely (FILE)"),
        (items, "is a generator: items (FILE) has to return one value, a list for example, without `yield`"),
        (functools.partial(items), "is a generator: items (FILE)"),
        (Collects(), "is a generator: Collects (FILE)"),
        (Yields, "is the class Yields: write Yields.bind('resize') below it"),
    ],
)
def test_an_impossible_signature_is_refused_at_start_in_one_sentence(
    registry: Registry, function: Any, sentence: str
) -> None:
    Task("resize")(function)
    with pytest.raises(SettingsError) as raised:
        registry.check()
    message = str(raised.value)
    file = f"{Path(__file__).resolve()}:"
    assert message.startswith("task 'resize' ")
    assert "\n" not in message
    before, _, after = sentence.partition("FILE")
    assert before in message
    assert (file in message and after in message) if after else file not in message


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (Yields, "is a generator: Yields.process"),
    ],
)
def test_an_impossible_process_method_is_refused_at_start(
    registry: Registry, handler: type[HandlerClass], sentence: str
) -> None:
    handler.bind("resize")
    with pytest.raises(SettingsError, match=f"^task 'resize' {sentence}"):
        registry.check()


def test_each_function_is_served_whatever_its_parameters(registry: Registry) -> None:
    accepted: list[Any] = [noargs, add, keyword, later, functools.partial(add, 1, 2)]
    for number, function in enumerate(accepted):
        Task(f"{number}")(function)
    Wants.bind("class")
    registry.check()


def test_an_annotation_that_cannot_be_served_is_refused_at_start(registry: Registry) -> None:
    @Task("resize")
    def resize(image: Methods) -> None: ...

    @Task("stat")
    def stat(image: "Image") -> None: ...

    class Image: ...  # not where the function looks for it

    with pytest.raises(SettingsError) as raised:
        registry.check()
    first, second = str(raised.value).split("; task ")
    assert first.startswith("task 'resize': the annotation of parameter `image` cannot be served: values cannot be")
    assert "Methods`; annotate it with what travels" in first
    assert second.startswith("'stat': an annotation of its function names 'Image', which is not defined")


def test_an_annotation_may_name_what_is_defined_below_the_function(registry: Registry) -> None:
    @Task("resize")
    def resize(image: "Below") -> None: ...

    registry.check()
    (task,) = registry
    assert task.signature.types == {"image": Below}


def test_a_class_gets_arguments_if_its_process_has_parameters(registry: Registry) -> None:
    class Resize(HandlerClass):
        def process(self, path: str, width: int = 640) -> Any:  # type: ignore[override]
            return path, width, self.payload

    class Whole(HandlerClass):
        def process(self) -> Any:
            return self.payload

    Resize.bind("resize")
    Whole.bind("whole")
    registry.check()
    resize, whole = registry

    def run(task: Task, sent: Any) -> Any:
        args, kwargs = task.signature.bind_payload(sent)
        return task.function(*args, **kwargs)

    assert run(resize, {"path": "a"}) == ("a", 640, None)
    assert run(resize, Arguments(["a"], {"width": 3})) == ("a", 3, None)
    assert run(whole, {"path": "a"}) == {"path": "a"}
    assert run(whole, Arguments([7])) == 7


def test_each_function_that_accepts_the_payload_is_served(registry: Registry) -> None:
    def default(data: Any = None, other: int = 1) -> None: ...
    def anything(*args: Any, **kwargs: Any) -> None: ...

    @functools.wraps(add)
    def gives_more(data: Any) -> int:
        return add(data, 1)

    @functools.wraps(items)
    def collects(data: Any) -> list[Any]:
        return list(items(data))

    class Namespace:
        def task(this: Any) -> None: ...  # noqa: N805

    works: list[Callable[..., Any]] = [
        default, anything, gives_more, collects, functools.partial(add, 1), Methods().method, Methods.static,
        Methods.of_class, lambda data: data, len, int, dict, Namespace.task, print,
    ]  # fmt: skip
    for number, function in enumerate(works):
        Task(f"{number}")(function)
    registry.check()
